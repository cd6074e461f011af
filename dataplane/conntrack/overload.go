package conntrack

import (
	"math/bits"
	mrand "math/rand/v2"
	"time"

	"github.com/vswitch/vswitch/dataplane/flowmap"
	"github.com/vswitch/vswitch/dataplane/frame"
	"github.com/vswitch/vswitch/dataplane/header"
	"github.com/vswitch/vswitch/dataplane/share"
)

// portPool is who has the ports of one host address and protocol.
type portPool struct {
	// tenants are containers, and one for who is none; each port of a mapping weighs 1.
	tenants *share.Table
	resting [portTenants]int32 // ports that rest, by whose they were: no flow's end gives one
	mapped  portSet            // ports of mappings that no stranger may come in by
	lent    portSet            // ports that serve single peers, see AcquirePort
	// barren is until when no flow is ended for another of a tenant, ns: see ask.
	barren [4][portTenants]int64
}

const portTenants = flowmap.MaxPorts + 1

// portTenant is whose a port is that a flow takes.
func portTenant(h Tenant) int { return int(min(h>>1, portTenants-1)) }

func (m *masquerade) pool(slot, proto uint8) *portPool {
	p := &m.pools[slot][flowmap.ClaimProto(proto)]
	if *p == nil {
		*p = &portPool{tenants: share.New(nil, portTenants)}
	}
	return *p
}

// held is how many ports a tenant keeps from others.
func (p *portPool) held(who int) int { return p.tenants.Held(who) + int(p.resting[who]) }

func (s *portSet) remove(p uint16) { s[p>>6] &^= 1 << (p & 63) }

// barrenTime is how long no flows are searched for a tenant, ns, after the last search was in
// vain: it costs much more than another frame.
const barrenTime = int64(2 * time.Millisecond)

// lendTries is how many ports are tried for a peer, each at random.
const lendTries = 8

// lend finds a port for a flow to one peer, which may be another endpoint's for other peers:
// one of the pool, or when last says so of the host's own range. It may still be the flow's
// of another endpoint to the same peer, as those are that were tried.
func (m *masquerade) lend(e endpoint, last bool, tried []uint16, pool *Pool, busy *BusyPorts, rng *mrand.Rand) (uint16, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	ranges, taken := pool.of(e.proto, e.port), takenPorts{busy: busy.of(e.proto), published: pool.publishedOf(e.proto)}
	of := m // whose sets they are
	if m.below != nil {
		of = m.below // this one has only copies of the mappings that were asked for
		of.mu.Lock()
		defer of.mu.Unlock()
	}
	p, claimed := of.pool(e.slot, e.proto), of.plane[flowmap.ClaimWord(int(e.slot), e.proto, 0):]
	var not portSet
	if last {
		ranges = pool.last
		// Of this range a port is free, or lent already.
		for i := range not {
			not[i] = claimed[i] &^ p.lent[i]
		}
	} else {
		for i := range not {
			not[i] = ^(p.mapped[i] | p.lent[i])
		}
	}
	for _, port := range tried {
		not.add(port, port)
	}
	taken.claimed = not[:]
	for n, i := len(ranges), 0; i < n; i++ {
		// Begin with a range at random, so that none is worn out first.
		if port, ok := findPort(ranges[(i+rng.IntN(n))%n], &taken, rng); ok {
			m.borrowLocked(e, port)
			return port, true
		}
	}
	return 0, false
}

// borrowLocked notes a flow that has a port for one peer.
func (m *masquerade) borrowLocked(e endpoint, port uint16) {
	m.plane.Set(int(e.slot), e.proto, port)
	m.pool(e.slot, e.proto).lent.add(port, port)
	m.lent[outside(e.slot, e.proto, port)]++
}

// giveBack ends the use of a port for one peer.
func (m *masquerade) giveBack(e endpoint, port uint16) {
	m.mu.Lock()
	defer m.mu.Unlock()
	k := outside(e.slot, e.proto, port)
	if m.lent[k]--; m.lent[k] > 0 {
		return
	}
	delete(m.lent, k)
	p := m.pool(e.slot, e.proto)
	p.lent.remove(port)
	if !p.mapped.has(port) {
		m.plane.Clear(int(e.slot), e.proto, port)
	}
}

// capped reports whether an endpoint may have no further port that rests after it: its container
// has as many as it leaves free. They cannot be taken back for others at once, so that somebody
// who had all of them would keep others out for as long as they rest.
func (m *masquerade) capped(e endpoint, who int, pool *Pool, busy *BusyPorts) bool {
	if e.proto != header.ProtoUDP {
		return false
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, ok := m.maps[e]; ok {
		return false // it has one
	}
	held, taken, free := m.heldLocked(e, who), m.takenLocked(e, pool, busy), 0
	for _, r := range pool.of(e.proto, e.port) {
		for i := int(r.First >> 6); i <= int(r.Last>>6) && free <= held; i++ {
			word := taken.free(i)
			if i == int(r.First>>6) {
				word &= ^uint64(0) << (r.First & 63)
			}
			if i == int(r.Last>>6) {
				word &= ^uint64(0) >> (63 - r.Last&63)
			}
			free += bits.OnesCount64(word)
		}
	}
	return free > 0 && free <= held && held >= cappedFrom
}

// heldLocked is how many ports a tenant keeps from others, of the address and protocol of e.
func (m *masquerade) heldLocked(e endpoint, who int) int {
	if m.below != nil { // it has only copies of those that were asked for
		m.below.mu.Lock()
		defer m.below.mu.Unlock()
		m = m.below
	}
	return m.pool(e.slot, e.proto).held(who)
}

// cappedFrom is how many ports a container may have whatever is free.
const cappedFrom = 16

// AcquirePort gives a flow the outside port of its endpoint, a new one when that has
// none; false when no port is free. to is the flow as it leaves, without its port; open
// lets strangers in. The flow has its Slot and Tenant, and holds the port until it is
// removed or given back.
//
// When no port is free, the container that has most gives some of flows that are closed or
// half open, and to others of such that are not assured. When that gives none either, the
// flow shares a port with flows to other peers (unless strangers are to come in), and as the
// last resort has one of the host's own range for its peer alone. searches is how many times
// ports or flows were searched.
func (t *Table) AcquirePort(c *Conn, to header.Tuple, open bool, pool *Pool, busy *BusyPorts, rng *mrand.Rand) (port uint16, searches int, ok bool) {
	e, who := c.endpoint(), portTenant(c.Tenant)
	capped, hold := open && t.nat.capped(e, who, pool, busy), natNone
	if searches = 1; !capped {
		port, hold = t.nat.acquire(e, who, open, pool, busy, rng)
	}
	if hold == natNone {
		var more int
		port, more, hold = t.reclaim(e, who, open, capped, pool, busy, rng)
		searches += more
	}
	if c.nat = hold; hold != natNone {
		return port, searches, true
	}
	var tried [2 * lendTries]uint16 // 0: none, which is no port
	for try := 0; try < 2*lendTries && !open; try++ {
		searches++
		if port, ok = t.nat.lend(e, try >= lendTries, tried[:try], pool, busy, rng); !ok {
			try = max(try, lendTries-1) // nothing to share: go on with the host's
			continue
		}
		to.SrcPort = port
		reply := to.Reverse()
		ref, sh := t.Lookup(&reply)
		if ref == 0 {
			c.nat = natLends
			return port, searches, true
		}
		sh.RUnlock()
		t.nat.giveBack(e, port)
		tried[try] = port
	}
	t.nat.refuse(e, who)
	return 0, searches, false
}

// releasePort ends a flow's use of its port. atOnce says that the port is another's as soon as
// nobody holds it.
func (t *Table) releasePort(c *Conn, atOnce bool) {
	switch c.nat {
	case natNone:
	case natLends:
		t.nat.giveBack(c.endpoint(), c.natPort())
	default:
		t.nat.release(c.endpoint(), c.natPort(), atOnce)
	}
}

// LetPort ends the use of the port of a flow that is in no index.
func (t *Table) LetPort(r Ref) {
	c := t.At(r)
	t.releasePort(c, false)
	c.nat = natNone
}

// adoptPort enters the mapping of a flow that is there already.
func (t *Table) adoptPort(c *Conn) {
	switch c.nat {
	case natNone:
	case natLends:
		t.nat.borrowLocked(c.endpoint(), c.natPort())
	default:
		t.nat.adopt(c.endpoint(), portTenant(c.Tenant), c.natPort(), c.nat == natOpens)
	}
}

// portsBack is how many flows of a class end at most for one port, which other flows of their
// endpoint may hold as well, and among how many they are searched.
const portsBack = 16

// reclaim is acquire after the end of some flows of the container that has most ports, in
// the order of their classes. open says that the asker cannot share a port, and
// capped that it has as many as it may: then nothing that is answered ends for it.
func (t *Table) reclaim(e endpoint, who int, open, capped bool, pool *Pool, busy *BusyPorts, rng *mrand.Rand) (port uint16, searches int, hold natHold) {
	if t.below != nil {
		return t.reclaimBelow(e, who, open, capped, pool, busy, rng)
	}
	now := t.Ended.now()
	giver := t.nat.giver(e, who, open, now)
	if giver < 0 || giver >= flowmap.MaxPorts {
		return 0, 0, natNone
	}
	upTo, h := gives(giver == who, open, capped), Tenant(giver<<1)
	var room [portsBack]uint32
	for from := classClosed; from <= upTo; from++ {
		searches++
		for _, i := range t.withPort(e, h, from, room[:0]) {
			if !t.evict(i, h, from) {
				continue
			}
			t.nat.gave(e, giver)
			searches++
			if port, hold = t.nat.acquire(e, who, open, pool, busy, rng); hold != natNone {
				return port, searches, hold
			}
		}
	}
	t.nat.gaveNothing(e, who, open, now)
	return 0, searches, natNone
}

// gives is the last class of which flows end for another's port.
func gives(own, open, capped bool) class {
	switch {
	case own, capped: // nobody's assured flows end for their own container's next
		return classHalfOpen
	case open:
		return classAssured
	}
	return classUnassured
}

// withPort finds the oldest flows of a class that hold a mapping of the kind of e, and whose
// port does not rest after they end. Others go to the end of their class, so that the next
// search begins where this one ends, and so do flows that were used since they were looked at
// last: of those it takes the idlest when there is no better one.
func (t *Table) withPort(e endpoint, h Tenant, of class, found []uint32) []uint32 {
	t.mu.Lock()
	defer t.mu.Unlock()
	idlest, at := uint32(0), uint32(0)
	i := t.shares.Oldest(int(h), int(of))
	for range min(portsBack, t.shares.Count(int(h), int(of))) {
		next := t.shares.Next(i)
		c := t.conn(i)
		has := c.hasPort(e, of)
		if has && !t.shares.Used(i) {
			found = append(found, i)
			i = next
			continue
		}
		if seen := units(c.lastSeen.Load()); has && (idlest == 0 || int32(seen-at) < 0) {
			idlest, at = i, seen
		}
		t.shares.Move(i, int(h), int(of), int(of))
		i = next
	}
	if len(found) == 0 && idlest != 0 {
		found = append(found, idlest)
	}
	return found
}

// hasPort reports whether the end of a flow of a class gives a port of the kind of e.
func (c *Conn) hasPort(e endpoint, of class) bool {
	return c.nat != natNone && c.nat != natLends && c.Slot == e.slot && c.Orig.Proto == e.proto &&
		(c.nat != natOpens || e.proto != header.ProtoUDP || of == classHalfOpen)
}

// giver is the container that gives ports, so that who may have one; -1: nobody, or it had
// none a moment ago.
func (m *masquerade) giver(e endpoint, who int, open bool, now int64) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	p := m.pool(e.slot, e.proto)
	if now < p.barren[e.ask(open)][who] {
		return -1
	}
	return p.tenants.Giver(who)
}

// gaveNothing notes that no flow's end gave who a port.
func (m *masquerade) gaveNothing(e endpoint, who int, open bool, now int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.pool(e.slot, e.proto).barren[e.ask(open)][who] = now + barrenTime
}

// ask numbers what a tenant may search for: a port that lets strangers in or not, below 1024
// or not.
func (e *endpoint) ask(open bool) (n int) {
	if open {
		n = 1
	}
	if e.port < 1024 {
		n += 2
	}
	return n
}

// gave counts a port, or a part in one, that a container has given.
func (m *masquerade) gave(e endpoint, giver int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.pool(e.slot, e.proto).tenants.Gave(giver)
}

// refuse counts a flow that found no port.
func (m *masquerade) refuse(e endpoint, who int) {
	m.full.Add(1)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.pool(e.slot, e.proto).tenants.Refuse(who)
}

// PortsHeld is what a container has of masquerade's ports, of all addresses and protocols, with
// those that rest.
func (t *Table) PortsHeld(container frame.PortID) (u share.Use) {
	t.nat.mu.Lock()
	defer t.nat.mu.Unlock()
	for slot := range t.nat.pools {
		for _, p := range t.nat.pools[slot] {
			if p != nil {
				u.Add(p.tenants.Use(int(container)))
				u.Held += int(p.resting[container])
			}
		}
	}
	return u
}
