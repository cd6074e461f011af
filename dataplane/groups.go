package dataplane

import (
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

// groupTable knows which ports want which multicast groups. It says something
// only while a querier keeps the memberships fresh.
type groupTable struct {
	live atomic.Int32 // domains with a querier

	mu      sync.RWMutex
	groups  map[groupKey]*group
	counts  map[NetworkID]int
	routers map[domain]*group // ports behind which queriers are
}

// domain is one VLAN of a network, for one address family.
type domain struct {
	network NetworkID
	vlan    uint16
	v6      bool
}

type groupKey struct {
	domain
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

func newGroupTable() *groupTable {
	return &groupTable{groups: make(map[groupKey]*group), counts: make(map[NetworkID]int), routers: make(map[domain]*group)}
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

// lookup returns the ports that a frame for a group goes to; false: to all.
func (t *groupTable) lookup(k groupKey) ([]frame.PortID, bool) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if t.routers[k.domain] == nil {
		return nil, false
	}
	g := t.groups[k]
	if g == nil {
		return nil, false
	}
	return g.ports, true
}

// queriers returns the ports that reports go to; false: to all.
func (t *groupTable) queriers(d domain) ([]frame.PortID, bool) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	r := t.routers[d]
	if r == nil {
		return nil, false
	}
	return r.ports, true
}

// query notes that a querier is behind a port.
func (t *groupTable) query(d domain, p frame.PortID, now int64) {
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

// report enters what a membership message says.
func (t *groupTable) report(d domain, p frame.PortID, m *header.Membership, now int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for {
		addr, join, ok := m.Next()
		if !ok {
			return
		}
		k := groupKey{d, addr}
		if linkScope(&addr) {
			continue // flooded in any case
		}
		g := t.groups[k]
		switch {
		case g == nil && (!join || t.counts[d.network] == maxGroups):
			continue
		case g == nil:
			g = &group{members: make([]member, 0, memberAtOnce)}
			t.groups[k] = g
			t.counts[d.network]++
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

func (t *groupTable) refreshLocked(k groupKey, g *group) {
	ports := make([]frame.PortID, 0, len(g.members)+1)
	for _, m := range g.members {
		ports = append(ports, m.port)
	}
	if r := t.routers[k.domain]; r != nil && r != g {
		for _, m := range r.members {
			if !slices.Contains(ports, m.port) {
				ports = append(ports, m.port)
			}
		}
	}
	g.ports = ports
}

func (t *groupTable) refreshDomainLocked(d domain) {
	if r := t.routers[d]; r != nil {
		t.refreshLocked(groupKey{domain: d}, r)
	}
	for k, g := range t.groups {
		if k.domain == d {
			t.refreshLocked(k, g)
		}
	}
}

// expire forgets members and queriers that were not heard of again.
func (t *groupTable) expire(now int64) {
	t.prune(func(_ domain, m member) bool { return m.expires <= now })
}

// flushPort forgets a port.
func (t *groupTable) flushPort(p frame.PortID) {
	t.prune(func(_ domain, m member) bool { return m.port == p })
}

// setNetworks forgets networks that sn does not have.
func (t *groupTable) setNetworks(sn *Snapshot) {
	t.prune(func(d domain, _ member) bool { return sn.networks[d.network] == nil })
}

func (t *groupTable) prune(gone func(domain, member) bool) {
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
		g.members = slices.DeleteFunc(g.members, func(m member) bool { return gone(k.domain, m) })
		switch len(g.members) {
		case before:
		case 0:
			delete(t.groups, k)
			if t.counts[k.network]--; t.counts[k.network] == 0 {
				delete(t.counts, k.network)
			}
		default:
			t.refreshLocked(k, g)
		}
	}
}
