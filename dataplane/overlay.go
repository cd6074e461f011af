package dataplane

import (
	"maps"
	"slices"
	"sync/atomic"

	"github.com/vswitch/vswitch/dataplane/frame"
	"github.com/vswitch/vswitch/dataplane/header"
)

// overlay is a switch of its own that decides as s would now and changes nothing
// of it: it shares the snapshot, which is immutable, and has private copies of
// the tables, or makes them entry by entry as they are read. It has no ports but
// one that counts, so that what it would send stays in its worker's lists. What it
// leaves out is the credit of storm control and of the rate of new flows, which
// only the workers know, and fragments of datagrams under way.
func (s *Switch) overlay(in frame.PortID, src, dst header.MAC) (*Switch, error) {
	now := s.cfg.Now()
	plane := make(ClaimPlane, ClaimWords)
	for i := range plane {
		plane[i] = atomic.LoadUint64(&s.cfg.Masquerade[i])
	}
	o, err := New(Config{Workers: 1, Now: func() int64 { return now }, MaxConns: overlayConns, MaxFDB: overlayConns, Masquerade: plane})
	if err != nil {
		return nil, err
	}
	o.began = s.began
	sn := s.snapshot.Load()
	o.snapshot.Store(sn)
	o.busy.Store(s.busy.Load())
	o.neigh.Store(s.neigh.Load().clone())
	o.groups = s.groups.clone()
	o.masq.keys, o.masq.below = s.masq.keys, s.masq
	o.fdb.setStatic(sn)
	o.fdb.copyFrom(s.fdb, src, dst)
	o.conntrack.overlay(s.conntrack)
	e := &portEntry{counters: make([]portCounters, 1), storms: make([]credit, 1), births: make([]credit, 1)}
	for id := range s.ports {
		if s.ports[id].Load() != nil {
			o.ports[id].Store(e)
		}
	}
	if was := s.ports[in].Load(); was != nil { // the others' credit is not asked for
		e.storms[0].copyFrom(was.storms, now)
		e.births[0].copyFrom(was.births, now)
	}
	return o, nil
}

// overlayConns is room for the flows and stations that one frame can meet.
const overlayConns = 64

// end closes what New opened: the entry is not a port that could be closed.
func (s *Switch) end() {
	for id := range s.ports {
		s.ports[id].Store(nil)
	}
	_ = s.Close() // a poller without ports
}

func (t *neighborTable) clone() *neighborTable {
	c := &neighborTable{macs: make(map[NeighborKey]*neighbor, len(t.macs))}
	for k, n := range t.macs {
		c.macs[k] = &neighbor{mac: n.mac}
	}
	return c
}

func (t *groupTable) clone() *groupTable {
	c := newGroupTable()
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

// copyFrom takes over what was learned of two stations.
func (f *fdb) copyFrom(from *fdb, stations ...header.MAC) {
	from.mu.RLock()
	defer from.mu.RUnlock()
	for i := range from.slots {
		e := &from.slots[i]
		if e.key.station == 0 || e.static || !slices.Contains(stations, e.key.mac()) {
			continue
		}
		if s := f.place(e.key); s.key.station == 0 {
			s.fdbEntry = e.fdbEntry
			s.seen.Store(e.seen.Load())
			f.learned++
			f.perPort[e.port]++
		}
	}
}

// connsBelow is the table that another one is an overlay of: a flow is copied when
// it is first asked for.
type connsBelow struct {
	t    *conntrack
	seen map[header.Tuple]bool
}

func (t *conntrack) overlay(of *conntrack) {
	t.below = &connsBelow{of, make(map[header.Tuple]bool)}
	for id := range of.held {
		t.held[id].all.Store(of.held[id].all.Load())
		for i := range of.held[id].of {
			t.held[id].of[i].Store(of.held[id].of[i].Load())
		}
	}
	of.mu.Lock()
	defer of.mu.Unlock()
	if of.free == 0 && int(of.made) >= of.max && of.lists[listHalfOpen].first == 0 && of.lists[listClosed].first == 0 {
		t.max = 0
	}
}

// pull copies the flow of a tuple from the table below and reports whether there
// was one that had not been asked for yet.
func (t *conntrack) pull(k *header.Tuple) bool {
	b := t.below
	if b.seen[*k] {
		return false
	}
	b.seen[*k] = true
	ref, sh := b.t.lookup(k)
	if ref == 0 {
		return false
	}
	o := b.t.at(ref)
	b.seen[o.orig], b.seen[o.reply] = true, true
	most := t.max
	t.max = max(t.max, overlayConns) // also when it may take no new ones
	r := t.alloc(nil)
	t.max = most
	c := t.at(r)
	o.mu.Lock()
	o.recall(b.t.rows)
	c.orig, c.reply, c.kind, c.slot, c.hasNAT, c.loose, c.port, c.owner = o.orig, o.reply, o.kind, o.slot, o.hasNAT, o.loose, o.port, frame.NoPort
	c.revision.Store(o.revision.Load())
	c.win = o.win
	o.mu.Unlock()
	st := connState(o.state.Load())
	c.created.Store(o.created.Load())
	c.lastSeen.Store(o.lastSeen.Load())
	c.lastOut.Store(o.lastOut.Load())
	for d := range c.packets {
		c.packets[d].Store(o.packets[d].Load())
		c.bytes[d].Store(o.bytes[d].Load())
	}
	sh.mu.RUnlock()
	if !t.insert(r) {
		return false
	}
	c.become(t, r, st)
	return true
}

// pull copies a mapping from the table below.
func (m *masquerade) pull(e endpoint) {
	if _, ok := m.maps[e]; ok || m.pulled[e] {
		return
	}
	m.below.mu.Lock()
	got, ok := m.below.maps[e]
	m.below.mu.Unlock()
	if m.pulled == nil {
		m.pulled = make(map[endpoint]bool)
	}
	m.pulled[e] = true
	if ok {
		m.maps[e] = got
		if got.open {
			m.inside[outside(e.slot, e.proto, got.port)] = e
		}
	}
}

// pullOpened copies the mapping that strangers come in by.
func (m *masquerade) pullOpened(slot, proto uint8, port uint16) {
	if e, ok := m.below.opened(slot, proto, port); ok {
		m.pull(e)
	}
}
