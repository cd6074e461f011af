package fdb

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vswitch/vswitch/dataplane/frame"
	"github.com/vswitch/vswitch/dataplane/header"
	"github.com/vswitch/vswitch/dataplane/share"
)

// MaxMembers is how many memberships of groups there may be.
const MaxMembers = 8192

const (
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
	routers map[Domain]*group // ports behind which queriers are
	members []membership      // from 1 on
	fresh   uint32            // the first that never was
	free    uint32            // that were, through Link.Next
	ports   int
	shares  *share.Table // by port: the one in most groups gives
}

// membership is a member in the table of all of them.
type membership struct {
	link share.Link
	of   groupKey
	port frame.PortID
	seen uint32 // seconds, when it was heard of last
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
	at      uint32 // its membership, 0: it is a querier
	expires int64  // ns
}

// NewGroups makes an empty table for ports up to a number.
func NewGroups(ports int) *Groups {
	t := &Groups{groups: make(map[groupKey]*group), routers: make(map[Domain]*group), members: make([]membership, MaxMembers), fresh: 1, ports: ports}
	t.shares = share.New(t, ports, 0)
	return t
}

// Link implements share.Entries.
func (t *Groups) Link(i uint32) *share.Link { return &t.members[i-1].link }

// Seen implements share.Entries.
func (t *Groups) Seen(i uint32) uint32 { return t.members[i-1].seen }

// Use is what a port has of the memberships. It takes no lock.
func (t *Groups) Use(p frame.PortID) share.Use { return t.shares.Use(int(p)) }

// Forget lets what a port has given and been refused be counted anew.
func (t *Groups) Forget(p frame.PortID) { t.shares.Forget(int(p)) }

// enterLocked finds a place for a membership, perhaps another's; 0: there is none.
func (t *Groups) enterLocked(k groupKey, p frame.PortID, now int64) (at uint32) {
	if t.free == 0 && t.fresh > MaxMembers {
		gives, tenant := t.shares.Victim(int(p))
		if gives == 0 {
			t.shares.Refuse(int(p))
			return 0
		}
		t.shares.Gave(tenant)
		m := t.members[gives-1]
		g := t.groups[m.of]
		g.members = slices.DeleteFunc(g.members, func(m member) bool { return m.at == gives })
		t.leaveLocked(gives)
		t.changedLocked(m.of, g)
	}
	if at = t.free; at != 0 {
		t.free = t.members[at-1].link.Next
	} else {
		at = t.fresh
		t.fresh++
	}
	t.members[at-1] = membership{of: k, port: p, seen: Seconds(now)}
	t.shares.Enter(at, int(p), 0, 1)
	return at
}

// leaveLocked frees the place of a membership.
func (t *Groups) leaveLocked(at uint32) {
	m := &t.members[at-1]
	t.shares.Leave(at, int(m.port), 0, 1)
	m.link.Next, t.free = t.free, at
}

// changedLocked forgets a group without members.
func (t *Groups) changedLocked(k groupKey, g *group) {
	if len(g.members) == 0 {
		delete(t.groups, k)
	} else {
		t.refreshLocked(k, g)
	}
}

// find is a port among the members, nil when it is none.
func (g *group) find(p frame.PortID) *member {
	for i := range g.members {
		if m := &g.members[i]; m.port == p {
			return m
		}
	}
	return nil
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
	if m := r.find(p); m != nil {
		m.expires = now + int64(querierTime)
		return
	}
	r.members = append(r.members, member{port: p, expires: now + int64(querierTime)})
	t.refreshDomainLocked(d)
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
		if g := t.groups[k]; g != nil {
			if m := g.find(p); m != nil {
				t.members[m.at-1].seen = Seconds(now)
				if join {
					m.expires = now + int64(groupAgeing)
				} else {
					m.expires = min(m.expires, now+int64(lastMember))
				}
				continue
			}
		}
		if !join {
			continue
		}
		at := t.enterLocked(k, p, now)
		if at == 0 {
			continue
		}
		g := t.groups[k]
		if g == nil {
			g = &group{members: make([]member, 0, memberAtOnce)}
			t.groups[k] = g
		}
		g.members = append(g.members, member{p, at, now + int64(groupAgeing)})
		t.refreshLocked(k, g)
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
		g.members = slices.DeleteFunc(g.members, func(m member) bool {
			if !gone(k.Domain, m) {
				return false
			}
			t.leaveLocked(m.at)
			return true
		})
		if len(g.members) != before {
			t.changedLocked(k, g)
		}
	}
}

// Clone returns a table of its own that says the same.
func (t *Groups) Clone() *Groups {
	c := NewGroups(t.ports)
	t.mu.RLock()
	defer t.mu.RUnlock()
	for k, g := range t.groups {
		c.groups[k] = g.clone()
		for i := range c.groups[k].members {
			m := &c.groups[k].members[i]
			m.at = c.enterLocked(k, m.port, int64(t.members[m.at-1].seen)*int64(time.Second))
		}
	}
	for k, g := range t.routers {
		c.routers[k] = g.clone()
	}
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
