package kernel

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"unsafe"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/vswitch/vswitch/dataplane"
)

// maxFlows is the number of rows of the flow table, 128 bytes each and as much
// again in the hash.
const maxFlows = 16384

// flows are the maps of the flow table (dataplane.FlowMaps):
//
//	keys   hash: dataplane.FlowKey -> number of a row
//	slots  array: number -> dataplane.FlowSlot, mapped into memory
//	ports  hash: ifindex -> number of a port's account
//	accounts array: number -> dataplane.FlowAccount, mapped into memory
type flows struct {
	keys, slots, ports, accounts *ebpf.Map
	// stamp tells a decision of ours in skb->cb from what the sender left there.
	stamp uint64

	rows   []dataplane.FlowSlot
	accts  []dataplane.FlowAccount
	memory [][]byte

	mu   sync.Mutex        // guards what follows
	used map[uint32]uint32 // number by ifindex
	free []uint32
}

func newFlows() (*flows, error) {
	f := &flows{stamp: rand.Uint64(), used: make(map[uint32]uint32)}
	if err := f.open(); err != nil {
		f.close()
		return nil, err
	}
	return f, nil
}

func (f *flows) open() (err error) {
	for _, m := range []struct {
		to   **ebpf.Map
		spec ebpf.MapSpec
	}{
		{&f.keys, ebpf.MapSpec{Name: "vsw_flow_keys", Type: ebpf.Hash, KeySize: uint32(unsafe.Sizeof(dataplane.FlowKey{})), ValueSize: 4, MaxEntries: maxFlows}},
		{&f.slots, ebpf.MapSpec{
			Name: "vsw_flow_slots", Type: ebpf.Array, KeySize: 4, ValueSize: uint32(unsafe.Sizeof(dataplane.FlowSlot{})),
			MaxEntries: maxFlows, Flags: unix.BPF_F_MMAPABLE,
		}},
		{&f.ports, ebpf.MapSpec{Name: "vsw_flow_ports", Type: ebpf.Hash, KeySize: 4, ValueSize: 4, MaxEntries: dataplane.MaxPorts}},
		{&f.accounts, ebpf.MapSpec{
			Name: "vsw_flow_acct", Type: ebpf.Array, KeySize: 4, ValueSize: uint32(unsafe.Sizeof(dataplane.FlowAccount{})),
			MaxEntries: dataplane.MaxPorts, Flags: unix.BPF_F_MMAPABLE,
		}},
	} {
		if *m.to, err = ebpf.NewMap(&m.spec); err != nil {
			return fmt.Errorf("map %s: %w", m.spec.Name, err)
		}
	}
	if f.rows, err = mapMemory[dataplane.FlowSlot](f, f.slots); err != nil {
		return err
	}
	if f.accts, err = mapMemory[dataplane.FlowAccount](f, f.accounts); err != nil {
		return err
	}
	for i := range f.accts {
		f.free = append(f.free, uint32(len(f.accts)-1-i))
	}
	return nil
}

// stampWords is the stamp in the words of skb->cb.
func (f *flows) stampWords() [2]uint32 { return [2]uint32{uint32(f.stamp), uint32(f.stamp >> 32)} }

func mapMemory[T any](f *flows, m *ebpf.Map) ([]T, error) {
	n := int(m.MaxEntries())
	mem, err := unix.Mmap(m.FD(), 0, n*int(m.ValueSize()), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("%v: mmap: %w", m, err)
	}
	f.memory = append(f.memory, mem)
	return unsafe.Slice((*T)(unsafe.Pointer(unsafe.SliceData(mem))), n), nil
}

func (f *flows) close() {
	for _, m := range []*ebpf.Map{f.keys, f.slots, f.ports, f.accounts} {
		m.Close() // a nil map is allowed
	}
	for _, mem := range f.memory {
		_ = unix.Munmap(mem)
	}
	f.memory, f.rows, f.accts = nil, nil, nil
}

// Slots implements dataplane.FlowMaps.
func (f *flows) Slots() []dataplane.FlowSlot { return f.rows }

// Port implements dataplane.FlowMaps.
func (f *flows) Port(ifindex uint32) *dataplane.FlowAccount {
	f.mu.Lock()
	defer f.mu.Unlock()
	if n, ok := f.used[ifindex]; ok {
		return &f.accts[n]
	}
	return nil
}

// Insert implements dataplane.FlowMaps.
func (f *flows) Insert(k dataplane.FlowKey, slot uint32) error {
	return f.keys.Put(unsafe.Slice((*byte)(unsafe.Pointer(&k)), unsafe.Sizeof(k)), slot)
}

// Delete implements dataplane.FlowMaps.
func (f *flows) Delete(k dataplane.FlowKey) error {
	return f.keys.Delete(unsafe.Slice((*byte)(unsafe.Pointer(&k)), unsafe.Sizeof(k)))
}

// AddFlowPort begins to count the frames of an interface, from zero. It comes
// before DecideFD or FilterFD is attached to the interface's socket, which then keeps
// the account. Without a flow table there is none, and no error.
func (k *Kernel) AddFlowPort(ifindex int) (*dataplane.FlowAccount, error) {
	f := k.flows
	if f == nil {
		return nil, nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	n, ok := f.used[uint32(ifindex)]
	if !ok {
		if len(f.free) == 0 {
			return nil, fmt.Errorf("flow table: %d ports are in use", len(f.used))
		}
		n = f.free[len(f.free)-1]
	}
	f.accts[n] = dataplane.FlowAccount{}
	if err := f.ports.Put(uint32(ifindex), n); err != nil {
		return nil, fmt.Errorf("flow table: %w", err)
	}
	if !ok {
		f.free = f.free[:len(f.free)-1]
		f.used[uint32(ifindex)] = n
	}
	return &f.accts[n], nil
}

// RemoveFlowPort ends the counting. The port is closed by then.
func (k *Kernel) RemoveFlowPort(ifindex int) {
	f := k.flows
	if f == nil {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if n, ok := f.used[uint32(ifindex)]; ok {
		_ = f.ports.Delete(uint32(ifindex))
		delete(f.used, uint32(ifindex))
		f.free = append(f.free, n)
	}
}

// Flows is the kernel's side of the flow table, borrowed until Close; nil without one.
func (k *Kernel) Flows() dataplane.FlowMaps {
	if k.flows == nil {
		return nil
	}
	return k.flows
}

// DecideFD is the socket filter for a container's port: it keeps frames of the
// flow table's active flows from the socket, and marks them for the seal. It is
// borrowed until Close; -1 without a flow table.
func (k *Kernel) DecideFD() int {
	if k.flows == nil {
		return -1
	}
	return k.decide.FD()
}
