package kernel

import (
	"fmt"
	"unsafe"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/vswitch/vswitch/dataplane"
)

// planes are the maps the programs look packets up in.
type planes struct {
	masquerade, published *ebpf.Map // array: dataplane.ClaimWord -> word, mapped into memory
	addrs                 *ebpf.Map // hash: header.Addr -> claim slot
	subnets               *ebpf.Map // longest prefix: subnetKey -> 1
	peers                 *ebpf.Map // hash: peerKey -> 1
}

func newPlanes() (p *planes, err error) {
	p = &planes{}
	defer func() {
		if err != nil {
			p.close()
		}
	}()
	for _, m := range []struct {
		to   **ebpf.Map
		spec ebpf.MapSpec
	}{
		{&p.masquerade, claimSpec("vsw_masquerade")},
		{&p.published, claimSpec("vsw_published")},
		{&p.addrs, ebpf.MapSpec{Name: "vsw_addrs", Type: ebpf.Hash, KeySize: 16, ValueSize: 4, MaxEntries: dataplane.ClaimSlots}},
		{&p.subnets, ebpf.MapSpec{
			Name: "vsw_subnets", Type: ebpf.LPMTrie, KeySize: 20, ValueSize: 1, MaxEntries: maxSubnets, Flags: unix.BPF_F_NO_PREALLOC,
		}},
		{&p.peers, peerSpec()},
	} {
		if *m.to, err = ebpf.NewMap(&m.spec); err != nil {
			return nil, fmt.Errorf("map %s: %w", m.spec.Name, err)
		}
	}
	return p, nil
}

func claimSpec(name string) ebpf.MapSpec {
	return ebpf.MapSpec{
		Name: name, Type: ebpf.Array, KeySize: 4, ValueSize: 8,
		MaxEntries: dataplane.ClaimWords, Flags: unix.BPF_F_MMAPABLE,
	}
}

func (p *planes) close() {
	// Closing a nil map is allowed.
	p.masquerade.Close()
	p.published.Close()
	p.addrs.Close()
	p.subnets.Close()
	p.peers.Close()
}

// mapWords maps an array of 64-bit words into memory.
func mapWords(m *ebpf.Map) ([]byte, []uint64, error) {
	n := int(m.MaxEntries())
	mem, err := unix.Mmap(m.FD(), 0, n*8, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, nil, fmt.Errorf("%v: mmap: %w", m, err)
	}
	return mem, unsafe.Slice((*uint64)(unsafe.Pointer(unsafe.SliceData(mem))), n), nil
}
