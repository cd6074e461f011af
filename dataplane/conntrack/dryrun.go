package conntrack

import (
	mrand "math/rand/v2"

	"github.com/vswitch/vswitch/dataplane/flowmap"
	"github.com/vswitch/vswitch/dataplane/header"
)

// connsBelow is the table that a dry run asks: a flow is copied when
// it is first asked for.
type connsBelow struct {
	t    *Table
	seen map[header.Tuple]bool
}

// DryRun makes an empty table one that answers as another does and changes nothing of
// it: flows, mappings and quotas are copied as they are asked for. It is for one
// goroutine.
func (t *Table) DryRun(of *Table) {
	t.below = &connsBelow{of, make(map[header.Tuple]bool)}
	t.nat.keys, t.nat.below = of.nat.keys, of.nat
	t.peers.used.Store(of.peers.used.Load())
	for id := range of.held {
		t.held[id].all.Store(of.held[id].all.Load())
		for i := range of.held[id].of {
			t.held[id].of[i].Store(of.held[id].of[i].Load())
		}
	}
}

// DryRunRoom is room for the flows that one frame can meet.
const DryRunRoom = 64

// pull copies the flow of a tuple from the table below and reports whether there
// was one that had not been asked for yet.
func (t *Table) pull(k *header.Tuple) bool {
	b := t.below
	if b.seen[*k] {
		return false
	}
	b.seen[*k] = true
	ref, sh := b.t.Lookup(k)
	if ref == 0 {
		return false
	}
	o := b.t.At(ref)
	b.seen[o.Orig], b.seen[o.Reply] = true, true
	t.mu.Lock()
	r := Ref(t.unusedLocked()) << 1 // also when the table below may take no new ones
	t.mu.Unlock()
	if r == 0 {
		sh.RUnlock()
		return false
	}
	c := t.At(r)
	lock := b.t.lock(o)
	lock.Lock()
	o.learn(b.t, ref, b.t.Ended.now())
	c.Orig, c.Reply, c.Kind, c.Slot, c.nat, c.Port, c.Tenant, c.Came, c.Turned = o.Orig, o.Reply, o.Kind, o.Slot, o.nat, o.Port, Nobody, o.Came, o.Turned
	c.Revision.Store(o.Revision.Load())
	c.Rule.Store(o.Rule.Load())
	c.win = o.win
	lock.Unlock()
	v := o.state.Load()
	c.proof.Store(o.proof.Load())
	c.created.Store(o.created.Load())
	c.lastSeen.Store(o.lastSeen.Load())
	c.lastOut.Store(o.lastOut.Load())
	for d := range c.packets {
		c.packets[d].Store(o.packets[d].Load())
		c.bytes[d].Store(o.bytes[d].Load())
	}
	sh.mu.RUnlock()
	if t.Insert(r) != Inserted {
		return false
	}
	c.become(t, r, connState(v&^stateFlags))
	if v&assured != 0 {
		c.assure(t, r)
	}
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
		m.enterLocked(e, got)
	}
}

// pullOpened copies the mapping that strangers come in by.
func (m *masquerade) pullOpened(slot, proto uint8, port uint16) {
	if e, ok := m.below.opened(slot, proto, port); ok {
		m.pull(e)
	}
}

// reclaimBelow is reclaim in a dry run: of the table below no flow ends.
func (t *Table) reclaimBelow(e endpoint, who int, open, capped bool, pool *Pool, busy *BusyPorts, rng *mrand.Rand) (port uint16, searches int, hold natHold) {
	for _, f := range t.below.t.wouldEnd(e, who, open, capped) {
		t.below.seen[f.orig], t.below.seen[f.reply] = true, true
		if f.gives {
			t.nat.plane.Clear(int(e.slot), e.proto, f.port)
		}
		if port, hold = t.nat.acquire(e, who, open, pool, busy, rng); hold != natNone {
			break
		}
	}
	return port, 1, hold
}

// ending is a flow that would end for another's port.
type ending struct {
	orig, reply header.Tuple
	inside      endpoint
	port        uint16
	gives       bool // no other flow holds the port, and it does not rest
}

// wouldEnd is which flows reclaim ends until it has a port, in that order.
func (t *Table) wouldEnd(e endpoint, who int, open, capped bool) []ending {
	giver := t.nat.giver(e, who, open, t.Ended.now())
	if giver < 0 || giver >= flowmap.MaxPorts {
		return nil
	}
	list := t.endings(e, giver, gives(giver == who, open, capped))
	t.nat.mu.Lock()
	defer t.nat.mu.Unlock()
	ended := make(map[endpoint]uint32)
	for i := range list {
		f := &list[i]
		ended[f.inside]++
		got := t.nat.maps[f.inside]
		f.port, f.gives = got.port, got.refs == ended[f.inside] && (got.alone || !got.rests(e.proto))
	}
	return list
}

func (t *Table) endings(e endpoint, giver int, upTo class) (list []ending) {
	t.mu.Lock()
	defer t.mu.Unlock()
	add := func(i uint32) {
		c := t.conn(i)
		list = append(list, ending{orig: c.Orig, reply: c.Reply, inside: c.endpoint()})
	}
	for of := classClosed; of <= upTo; of++ {
		found, idlest, at := len(list), uint32(0), uint32(0)
		i := t.shares.Oldest(giver<<1, int(of))
		for range min(portsBack, t.shares.Count(giver<<1, int(of))) {
			if c := t.conn(i); c.hasPort(e, of) {
				if seen := units(c.lastSeen.Load()); idlest == 0 || int32(seen-at) < 0 {
					idlest, at = i, seen
				}
				if !t.shares.Used(i) {
					add(i)
				}
			}
			i = t.shares.Next(i)
		}
		if len(list) == found && idlest != 0 {
			add(idlest)
		}
	}
	return list
}
