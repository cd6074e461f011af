package conntrack

import (
	"github.com/vswitch/vswitch/dataplane/flowmap"
	"github.com/vswitch/vswitch/dataplane/frame"
)

// MoveTenant counts on one port of a container what was counted on another one, which has left.
// No worker begins a flow for that any more.
func (t *Table) MoveTenant(from, to frame.PortID) {
	for i := range t.madeNow() {
		t.moveTenant(i+1, from, to)
	}
	t.shares.Inherit(int(Began(to)), int(Began(from)))
	t.shares.Inherit(int(Received(to)), int(Received(from)))
	t.nat.moveTenant(from, to)
}

// moveTenant moves one flow, if it is still that.
func (t *Table) moveTenant(i uint32, from, to frame.PortID) {
	c := t.conn(i)
	h0, h1 := c.hash[0].Load(), c.hash[1].Load()
	a, b := t.lockPair(h0, h1)
	defer unlockPair(a, b)
	if c.state.Load() == uint32(stateFree) || c.hash[0].Load() != h0 || c.hash[1].Load() != h1 || c.Tenant.container() != from {
		return
	}
	counts := !c.st().closed()
	if counts {
		t.charge(c, false)
	}
	t.mu.Lock()
	t.leaveLocked(i)
	c.Tenant = Tenant(to)<<1 | c.Tenant&1
	for dir := range c.rows {
		if n := c.rows[dir].Load(); n != 0 {
			t.rows[n-1].Holder = uint16(c.Tenant)
		}
	}
	t.enterLocked(i)
	t.mu.Unlock()
	if counts {
		t.charge(c, true)
	}
}

func (m *masquerade) moveTenant(from, to frame.PortID) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for e, got := range m.maps {
		if got.tenant == uint16(from) {
			tenants := m.pool(e.slot, e.proto).tenants
			tenants.Weigh(int(from), -1)
			tenants.Weigh(int(to), 1)
			got.tenant = uint16(to)
			m.maps[e] = got
		}
	}
	for i := range m.rest.ports {
		if r := &m.rest.ports[i]; r.tenant == uint16(from) {
			p := m.pool(uint8(r.key>>24), uint8(r.key>>16))
			p.resting[from]--
			p.resting[to]++
			r.tenant = uint16(to)
		}
	}
	for slot := range flowmap.ClaimSlots {
		for _, p := range m.pools[slot] {
			if p != nil {
				p.tenants.Inherit(int(to), int(from))
			}
		}
	}
}

// Forget lets what a container has given and been refused be counted anew, and what rests be
// nobody's: its port may be another's next.
func (t *Table) Forget(container frame.PortID) {
	t.shares.Forget(int(Began(container)))
	t.shares.Forget(int(Received(container)))
	t.peers.forget(container)
	t.nat.forget(container)
}

func (s *peers) forget(container frame.PortID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.refused, Began(container))
	delete(s.refused, Received(container))
}

func (m *masquerade) forget(container frame.PortID) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i := range m.rest.ports {
		if r := &m.rest.ports[i]; r.tenant == uint16(container) {
			m.pool(uint8(r.key>>24), uint8(r.key>>16)).resting[container]--
			r.tenant = noTenant
		}
	}
	for slot := range flowmap.ClaimSlots {
		for _, p := range m.pools[slot] {
			if p != nil {
				p.tenants.Forget(int(container))
				for ask := range p.barren {
					p.barren[ask][container] = 0
				}
			}
		}
	}
}
