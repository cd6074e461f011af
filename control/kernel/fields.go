package kernel

import (
	"sync"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/features"
)

// packet says where the programs find what they read in the kernel's struct sk_buff: the offsets of
// csum_start and network_header, and the byte and the shift of ip_summed. They are 0 where a
// program cannot read there, for want of the kernel's types or under a lockdown: the flows of
// containers that are routed are then the switch's, and so are the first frames between stations.
type packet struct{ sum, summed [2]uint32 }

var packetFields = sync.OnceValue(func() (at packet) {
	if features.HaveProgramHelper(ebpf.SchedCLS, asm.FnProbeReadKernel) != nil {
		return at
	}
	kernel, err := btf.LoadKernelSpec()
	if err != nil {
		return at
	}
	var buff *btf.Struct
	if kernel.TypeByName("sk_buff", &buff) != nil {
		return at
	}
	start, ok := offsetOf(buff.Members, "csum_start")
	offset, _ := offsetOf(buff.Members, "csum_offset")
	network, found := offsetOf(buff.Members, "network_header")
	if !ok || !found || offset != start+16 {
		return at
	}
	at.sum = [2]uint32{start.Bytes(), network.Bytes()}
	if summed, ok := offsetOf(buff.Members, "ip_summed"); ok && summed%8 < 7 { // two bits of one byte
		at.summed = [2]uint32{uint32(summed / 8), uint32(summed % 8)}
	}
	return at
})

// ReadAhead begins to look for them, which takes 30 ms or so, for who calls Open soon.
func ReadAhead() { go packetFields() }

// offsetOf finds a member, also of a struct or union without a name.
func offsetOf(members []btf.Member, name string) (at btf.Bits, ok bool) {
	for _, m := range members {
		if m.Name == name {
			return m.Offset, true
		}
		if m.Name != "" {
			continue
		}
		var inner []btf.Member
		switch t := btf.UnderlyingType(m.Type).(type) {
		case *btf.Struct:
			inner = t.Members
		case *btf.Union:
			inner = t.Members
		}
		if at, ok = offsetOf(inner, name); ok {
			return at + m.Offset, true
		}
	}
	return 0, false
}
