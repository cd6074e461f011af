package fdb

import (
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vswitch/vswitch/dataplane/frame"
	"github.com/vswitch/vswitch/dataplane/header"
)

const (
	maxGroups    = 2048 // in one network
	groupAgeing  = 260 * time.Second
	querierTime  = 255 * time.Second // RFC 3376 8.5
	lastMember   = 2 * time.Second   // RFC 3376 8.8, 8.9
	memberAtOnce = 8
)

// Groups knows which ports want which multicast groups. It says something
// only while a querier keeps the memberships fresh. Its methods are safe for
// concurrent use; the lists of ports that they return are never changed.
type Groups struct {
	live atomic.Int32 // domains with a querier

	mu      sync.RWMutex
	groups  map[groupKey]*group
	counts  map[frame.NetworkID]int
	routers map[Domain]*group // ports behind which queriers are
}

// Domain is one VLAN of a network, for one address family.
type Domain struct {
	Network frame.NetworkID
	VLAN    uint16
	IPv6    bool
}

type groupKey struct {
	Domain
	group header.Addr
}

// group is a set of ports.
type group struct {
	members []member
	ports   []frame.PortID // members and routers; replaced, never changed
}

type member struct {
	port    frame.PortID
	expires int64 // ns
}

// NewGroups makes an empty table.
func NewGroups() *Groups {
	return &Groups{groups: make(map[groupKey]*group), counts: make(map[frame.NetworkID]int), routers: make(map[Domain]*group)}
}

// set enters a port or puts its end off, or brings it nearer when it leaves. It
// reports whether the port is new.
func (g *group) set(p frame.PortID, expires int64, leaves bool) bool {
	for i := range g.members {
		if m := &g.members[i]; m.port == p {
			if leaves {
				expires = min(expires, m.expires)
			}
			m.expires = expires
			return false
		}
	}
	if !leaves {
		g.members = append(g.members, member{p, expires})
	}
	return !leaves
}

// Queried reports whether any Domain has a querier. It takes no lock.
func (t *Groups) Queried() bool { return t.live.Load() > 0 }

// Lookup returns the ports that a frame for a group goes to; false: to all.
func (t *Groups) Lookup(d Domain, addr header.Addr) ([]frame.PortID, bool) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if t.routers[d] == nil {
		return nil, false
	}
	g := t.groups[groupKey{d, addr}]
	if g == nil {
		return nil, false
	}
	return g.ports, true
}

// Queriers returns the ports that reports go to; false: to all.
func (t *Groups) Queriers(d Domain) ([]frame.PortID, bool) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	r := t.routers[d]
	if r == nil {
		return nil, false
	}
	return r.ports, true
}

// Query notes that a querier is at a port; now is in ns.
func (t *Groups) Query(d Domain, p frame.PortID, now int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	r := t.routers[d]
	if r == nil {
		r = &group{members: make([]member, 0, memberAtOnce)}
		t.routers[d] = r
		t.live.Add(1)
	}
	if r.set(p, now+int64(querierTime), false) {
		t.refreshDomainLocked(d)
	}
}

// Report enters what a membership message says.
func (t *Groups) Report(d Domain, p frame.PortID, m *header.Membership, now int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for {
		addr, join, ok := m.Next()
		if !ok {
			return
		}
		k := groupKey{d, addr}
		if LinkScope(&addr) {
			continue // flooded in any case
		}
		g := t.groups[k]
		switch {
		case g == nil && (!join || t.counts[d.Network] == maxGroups):
			continue
		case g == nil:
			g = &group{members: make([]member, 0, memberAtOnce)}
			t.groups[k] = g
			t.counts[d.Network]++
		}
		expires := now + int64(groupAgeing)
		if !join {
			expires = now + int64(lastMember)
		}
		if g.set(p, expires, !join) {
			t.refreshLocked(k, g)
		}
	}
}

func (t *Groups) refreshLocked(k groupKey, g *group) {
	ports := make([]frame.PortID, 0, len(g.members)+1)
	for _, m := range g.members {
		ports = append(ports, m.port)
	}
	if r := t.routers[k.Domain]; r != nil && r != g {
		for _, m := range r.members {
			if !slices.Contains(ports, m.port) {
				ports = append(ports, m.port)
			}
		}
	}
	g.ports = ports
}

func (t *Groups) refreshDomainLocked(d Domain) {
	if r := t.routers[d]; r != nil {
		t.refreshLocked(groupKey{Domain: d}, r)
	}
	for k, g := range t.groups {
		if k.Domain == d {
			t.refreshLocked(k, g)
		}
	}
}

// Age forgets members and queriers that were not heard of again.
func (t *Groups) Age(now int64) {
	t.prune(func(_ Domain, m member) bool { return m.expires <= now })
}

// FlushPort forgets a port.
func (t *Groups) FlushPort(p frame.PortID) {
	t.prune(func(_ Domain, m member) bool { return m.port == p })
}

// SetNetworks forgets networks that do not exist any more.
func (t *Groups) SetNetworks(exists func(frame.NetworkID) bool) {
	t.prune(func(d Domain, _ member) bool { return !exists(d.Network) })
}

func (t *Groups) prune(gone func(Domain, member) bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for d, r := range t.routers {
		before := len(r.members)
		r.members = slices.DeleteFunc(r.members, func(m member) bool { return gone(d, m) })
		if len(r.members) == before {
			continue
		}
		if len(r.members) == 0 {
			delete(t.routers, d)
			t.live.Add(-1)
		}
		t.refreshDomainLocked(d)
	}
	for k, g := range t.groups {
		before := len(g.members)
		g.members = slices.DeleteFunc(g.members, func(m member) bool { return gone(k.Domain, m) })
		switch len(g.members) {
		case before:
		case 0:
			delete(t.groups, k)
			if t.counts[k.Network]--; t.counts[k.Network] == 0 {
				delete(t.counts, k.Network)
			}
		default:
			t.refreshLocked(k, g)
		}
	}
}

// Clone returns a table of its own that says the same.
func (t *Groups) Clone() *Groups {
	c := NewGroups()
	t.mu.RLock()
	defer t.mu.RUnlock()
	for k, g := range t.groups {
		c.groups[k] = g.clone()
	}
	for k, g := range t.routers {
		c.routers[k] = g.clone()
	}
	maps.Copy(c.counts, t.counts)
	c.live.Store(t.live.Load())
	return c
}

func (g *group) clone() *group {
	return &group{members: slices.Clone(g.members), ports: g.ports}
}

// LinkScope reports whether a group is never routed and always flooded:
// 224.0.0.0/24 and ff02::/16 (RFC 4541 2.1.2, 3).
func LinkScope(a *header.Addr) bool {
	if a.Is4() {
		return a[12] == 224 && a[13] == 0 && a[14] == 0
	}
	return a[0] == 0xff && a[1]&0xf <= 2
}
