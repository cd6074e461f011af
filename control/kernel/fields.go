package kernel

import (
	"sync"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/features"
)

// packetFields are the offsets of csum_start and network_header in the kernel's struct sk_buff.
// They are 0 where a program cannot read there, for want of the kernel's types or under a
// lockdown: the flows of containers that are routed are then the switch's.
var packetFields = sync.OnceValue(func() (at [2]uint32) {
	if features.HaveProgramHelper(ebpf.SchedCLS, asm.FnProbeReadKernel) != nil {
		return at
	}
	kernel, err := btf.LoadKernelSpec()
	if err != nil {
		return at
	}
	var packet *btf.Struct
	if kernel.TypeByName("sk_buff", &packet) != nil {
		return at
	}
	start, ok := offsetOf(packet.Members, "csum_start")
	offset, _ := offsetOf(packet.Members, "csum_offset")
	network, found := offsetOf(packet.Members, "network_header")
	if !ok || !found || offset != start+2 {
		return at
	}
	return [2]uint32{start, network}
})

// ReadAhead begins to look for them, which takes 30 ms or so, for who calls Open soon.
func ReadAhead() { go packetFields() }

// offsetOf finds a member, also of a struct or union without a name.
func offsetOf(members []btf.Member, name string) (at uint32, ok bool) {
	for _, m := range members {
		if m.Name == name {
			return m.Offset.Bytes(), true
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
			return at + m.Offset.Bytes(), true
		}
	}
	return 0, false
}
