package kernel

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/cilium/ebpf"

	"github.com/vswitch/vswitch/dataplane/bpfmap"
	"github.com/vswitch/vswitch/dataplane/flowmap"
	"github.com/vswitch/vswitch/dataplane/header"
)

// ClaimSlot gives a host address a claim slot, 1 to flowmap.WildcardSlot6-1. From
// then on packets to addr are looked up in the planes. The same again is no error,
// another slot for the address or another address for the slot is one.
//
// A loopback address may have a slot: the host's own traffic to it is steered,
// packets from the wire are never ours.
func (k *Kernel) ClaimSlot(addr netip.Addr, slot int) error {
	if !addr.IsValid() || addr.IsUnspecified() {
		return fmt.Errorf("claim slot: %v is no address of a host", addr)
	}
	if slot <= flowmap.WildcardSlot || slot >= flowmap.WildcardSlot6 {
		return fmt.Errorf("claim slot %d for %v: slots of addresses are 1 to %d", slot, addr, flowmap.WildcardSlot6-1)
	}
	key := header.AddrFrom(addr)
	k.mu.Lock()
	defer k.mu.Unlock()
	for other, held := range k.slots {
		switch {
		case other == key && held == slot: // again, or a drop of it has failed half way
		case other == key:
			return fmt.Errorf("claim slot %d for %v: it has slot %d: drop that first", slot, addr, held)
		case held == slot:
			return fmt.Errorf("claim slot %d for %v: it is that of %s: drop that first", slot, addr, other)
		}
	}
	for other, held := range k.leftSlots {
		if (other == key) == (held == slot) {
			continue
		}
		// The numbers of before hold no more.
		k.slots[other] = held
		delete(k.leftSlots, other)
		if err := k.dropSlotLocked(other); err != nil {
			return err
		}
	}
	delete(k.leftSlots, key)
	if err := k.planes.addrs.Put(key, uint32(slot)); err != nil {
		return fmt.Errorf("claim slot %d for %v: %w", slot, addr, err)
	}
	k.slots[key] = slot
	return nil
}

// DropSlot takes the slot of addr back and clears its claims: in both planes, and those
// of its flows, which would be the next address's. No worker may claim anything of addr
// any more: install a snapshot without it first. An address without a slot is no error.
func (k *Kernel) DropSlot(addr netip.Addr) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.dropSlotLocked(header.AddrFrom(addr))
}

func (k *Kernel) dropSlotLocked(key header.Addr) error {
	slot, ok := k.slots[key]
	if !ok {
		return nil
	}
	addr := key.NetIP()
	if err := k.planes.addrs.Delete(key); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
		return fmt.Errorf("claim slot of %v: %w", addr, err)
	}
	first, end := flowmap.ClaimWord(slot, header.ProtoTCP, 0), flowmap.ClaimWord(slot+1, header.ProtoTCP, 0)
	clear(k.opened[first:end])
	clear(k.publish[first:end])
	if err := k.dropPeers(slot); err != nil {
		return fmt.Errorf("claim slot of %v: flows: %w", addr, err)
	}
	delete(k.slots, key) // last, so that the same again does what has failed
	return nil
}

// dropPeers takes out what flows of a slot have claimed.
func (k *Kernel) dropPeers(slot int) error {
	const batch = 4096
	keys, values := make([]flowmap.PeerKey, batch), make([]uint8, batch)
	var gone []flowmap.PeerKey
	var at ebpf.MapBatchCursor
	for {
		n, err := k.planes.peers.BatchLookup(&at, keys, values, nil)
		if err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return err
		}
		for _, key := range keys[:n] {
			if int(key.Slot) == slot {
				gone = append(gone, key)
			}
		}
		if err != nil { // that was all
			break
		}
	}
	return bpfmap.DeleteAll(k.planes.peers, gone)
}
