package claims

import (
	"net/netip"
	"slices"

	"github.com/vswitch/vswitch/control/model"
	"github.com/vswitch/vswitch/dataplane/conntrack"
	"github.com/vswitch/vswitch/dataplane/flowmap"
)

// Claim sets the bits of ports on the addresses of the host where their packets come in,
// and clears those where they no longer do.
func (t *Table) Claim(p *Ports, want []netip.Addr) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, a := range slices.Clone(p.claims) {
		if !slices.Contains(want, a) {
			t.unclaimLocked(p, a)
		}
	}
	for _, a := range want {
		if slices.Contains(p.claims, a) {
			continue
		}
		slot, wild := wildcardSlot(a)
		if !wild {
			var err error
			if slot, err = t.useSlotLocked(a); err != nil {
				return err
			}
		}
		for n := int(p.HostFirst); n <= int(p.HostLast); n++ {
			t.edge.Published().Set(slot, p.Proto, uint16(n))
		}
		p.claims = append(p.claims, a)
	}
	return nil
}

// Unclaim clears all bits of ports.
func (t *Table) Unclaim(p *Ports) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, a := range slices.Clone(p.claims) {
		t.unclaimLocked(p, a)
	}
}

func (t *Table) unclaimLocked(p *Ports, a netip.Addr) {
	slot, wild := wildcardSlot(a)
	if !wild {
		slot = t.numbers.Number(a)
	}
	shared := t.sharingLocked(p, a)
	for n := int(p.HostFirst); n <= int(p.HostLast); n++ {
		if !slices.ContainsFunc(shared, func(o *Ports) bool { return int(o.HostFirst) <= n && n <= int(o.HostLast) }) {
			t.edge.Published().Clear(slot, p.Proto, uint16(n))
		}
	}
	if !wild {
		t.dropSlotLocked(a)
	}
	p.claims = slices.DeleteFunc(p.claims, func(o netip.Addr) bool { return o == a })
}

// wildcardSlot is the slot of an unspecified address.
func wildcardSlot(a netip.Addr) (slot int, ok bool) {
	switch a {
	case model.IPv4.Unspecified():
		return flowmap.WildcardSlot, true
	case model.IPv6.Unspecified():
		return flowmap.WildcardSlot6, true
	}
	return 0, false
}

// UseSlot returns the claim slot of a host address and counts one more user.
func (t *Table) UseSlot(a netip.Addr) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.useSlotLocked(a)
}

func (t *Table) useSlotLocked(a netip.Addr) (int, error) {
	slot, ok := t.numbers.Take(a)
	if !ok {
		return 0, model.Fullf("address %s: %d addresses of the host have a claim slot, which are all there are: use fewer, or publish on all addresses", a, lastSlot)
	}
	if t.users[a] == 0 {
		again := slices.Index(t.undone, a)
		if err := t.edge.ClaimSlot(a, slot); err != nil {
			if again < 0 {
				t.numbers.GiveBack(slot)
			}
			return 0, err
		}
		if again >= 0 {
			t.undone = slices.Delete(t.undone, again, again+1)
		}
	}
	t.users[a]++
	return slot, nil
}

// DropSlot is the end of a user of a slot. With the last the slot goes, and so do the flows
// that leave with the address: no snapshot has it as a source any more.
func (t *Table) DropSlot(a netip.Addr) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.dropSlotLocked(a)
}

func (t *Table) dropSlotLocked(a netip.Addr) {
	if t.users[a]--; t.users[a] > 0 {
		return
	}
	delete(t.users, a)
	// The edge forgets the claims of the slot. A flow that outlived them would go on without,
	// should the address come back.
	t.flush(conntrack.Selector{Slot: t.numbers.Number(a)})
	t.undone = append(t.undone, a)
	t.dropUndoneLocked()
}

// retryDrops drops the slots that could not be dropped before.
func (t *Table) retryDrops() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.dropUndoneLocked()
}

// dropUndoneLocked drops slots without users. The number of one that the edge still has is
// nobody else's.
func (t *Table) dropUndoneLocked() {
	t.undone = slices.DeleteFunc(t.undone, func(a netip.Addr) bool {
		if err := t.edge.DropSlot(a); err != nil {
			t.log.Error("drop claim slot: it is tried again", "addr", a, "err", err)
			return false
		}
		t.numbers.GiveBack(t.numbers.Number(a))
		return true
	})
}

// Settle drops the claims that a process before has left and that are nobody's by now. All
// published ports have claimed theirs again.
func (t *Table) Settle() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := t.edge.Settle(); err != nil {
		return err
	}
	want := make(flowmap.ClaimPlane, flowmap.ClaimWords)
	for p := range t.all {
		for _, a := range p.claims {
			slot, wild := wildcardSlot(a)
			if !wild {
				slot = t.numbers.Number(a)
			}
			for n := int(p.HostFirst); n <= int(p.HostLast); n++ {
				want.Set(slot, p.Proto, uint16(n))
			}
		}
	}
	t.edge.Published().Keep(want)
	return nil
}
