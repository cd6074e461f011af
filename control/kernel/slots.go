package kernel

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/cilium/ebpf"

	"github.com/vswitch/vswitch/dataplane"
	"github.com/vswitch/vswitch/dataplane/header"
)

// ErrSlotsFull says that as many host addresses as can hold claims do.
var ErrSlotsFull = errors.New("no claim slot is left")

// Slot returns the claim slot of a host address, 1 to dataplane.WildcardSlot6-1,
// and gives it one if it has none. From then on packets to addr are looked up in
// the planes. The error is ErrSlotsFull when none is left.
//
// A loopback address may have a slot: the host's own traffic to it is steered,
// packets from the wire are never ours.
func (k *Kernel) Slot(addr netip.Addr) (int, error) {
	if !addr.IsValid() || addr.IsUnspecified() {
		return 0, fmt.Errorf("claim slot: %v is no address of a host", addr)
	}
	key := header.AddrFrom(addr)
	k.mu.Lock()
	defer k.mu.Unlock()
	if slot, ok := k.slots[key]; ok {
		return slot, nil
	}
	var used [dataplane.ClaimSlots]bool
	used[dataplane.WildcardSlot], used[dataplane.WildcardSlot6] = true, true
	for _, slot := range k.slots {
		used[slot] = true
	}
	for slot, taken := range used {
		if taken {
			continue
		}
		if err := k.planes.addrs.Put(key, uint32(slot)); err != nil {
			return 0, fmt.Errorf("claim slot for %v: %w", addr, err)
		}
		k.slots[key] = slot
		return slot, nil
	}
	return 0, fmt.Errorf("claim slot for %v: %d addresses have one: use fewer host addresses or publish on all of them: %w",
		addr, len(k.slots), ErrSlotsFull)
}

// DropSlot takes the slot of addr back and clears its claims in both planes. No
// worker may claim a port of addr any more: install a snapshot without it first.
// An address without a slot is no error.
func (k *Kernel) DropSlot(addr netip.Addr) error {
	key := header.AddrFrom(addr)
	k.mu.Lock()
	defer k.mu.Unlock()
	slot, ok := k.slots[key]
	if !ok {
		return nil
	}
	if err := k.planes.addrs.Delete(key); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
		return fmt.Errorf("claim slot of %v: %w", addr, err)
	}
	delete(k.slots, key)
	first, end := dataplane.ClaimWord(slot, header.ProtoTCP, 0), dataplane.ClaimWord(slot+1, header.ProtoTCP, 0)
	clear(k.masquerade[first:end])
	clear(k.publish[first:end])
	return nil
}
