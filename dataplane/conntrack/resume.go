package conntrack

import (
	"sync/atomic"
	"time"

	"github.com/vswitch/vswitch/dataplane/flowmap"
	"github.com/vswitch/vswitch/dataplane/frame"
	"github.com/vswitch/vswitch/dataplane/header"
)

// A process that ends leaves the rows of the flow table to the next one, and with them the
// flows that they carry: a row has both tuples and, in its half, the window; in its origin
// Lend writes down the rest. A flow without a row is unknown to the next process.

// Bits of flowmap.Origin.Conn. A zero kind is no tracked flow's.
const (
	originKind   = 0 // shift of the kind and one, 4 bits
	originReply  = 1 << 4
	originHold   = 5 // shift of natHold, 3 bits
	originSlot   = 8
	originState  = 16 // the rest is Conn.state
	originStates = 0xff
)

// Born is when a flow began, as a row has it.
func Born(created int64) uint32 { return units(created) }

// BornAt is the time that Born was made of, less than 52 days before now.
func BornAt(born uint32, now int64) int64 { return now - int64(units(now)-born)<<unitShift }

// BridgedOrigin is flowmap.Origin.Conn of a bridged flow whose row has a direction.
func BridgedOrigin(dir int) uint32 { return uint32(dir) * originReply }

// OriginDirection is the direction of a row: 0 of the side that began.
func OriginDirection(conn uint32) int {
	if conn&originReply != 0 {
		return 1
	}
	return 0
}

// lent writes into a row the rest of what the next process needs. It needs Table.lock.
func (c *Conn) lent(t *Table, dir int) {
	m := &t.rows[c.rows[dir].Load()-1]
	m.Container, m.Holder, m.Born = uint16(c.Port), uint16(c.Tenant), units(c.created.Load())
	// The row goes on counting where the flow is.
	packets, bytes := c.packets[dir].Load(), c.bytes[dir].Load()
	atomic.StoreUint64(&m.Packets, packets)
	atomic.StoreUint64(&m.Bytes, bytes)
	atomic.StoreUint64(&m.Counted.Packets, packets)
	atomic.StoreUint64(&m.Counted.Bytes, bytes)
	c.noteState(t)
}

// noteState writes the state of a flow into its rows, and for how long it may be idle in it.
func (c *Conn) noteState(t *Table) {
	for dir := range c.rows {
		n := c.rows[dir].Load()
		if n == 0 {
			continue
		}
		v := c.state.Load()
		o := (uint32(c.Kind)+1)<<originKind | uint32(c.nat)<<originHold | uint32(c.Slot)<<originSlot | v&originStates<<originState | v&assured
		if dir == 1 {
			o |= originReply
		}
		st := connState(v &^ stateFlags)
		if st == stateEstablished && v&assured == 0 {
			st = stateInit // as expires has it
		}
		m := &t.rows[n-1]
		atomic.StoreUint32(&m.Conn, o)
		atomic.StoreUint32(&m.Timeout, t.timeouts[st].Load())
	}
}

// Resume goes on with the flow of a row that a process before has left, idle for a time, in the
// direction that the row has. It is false when nothing can be made of it. No worker runs yet.
func (t *Table) Resume(row uint32, idle time.Duration) bool {
	m := &t.rows[row]
	now := t.Ended.now()
	dir := OriginDirection(m.Conn)
	in, out := m.Key.Tuple(), m.Leaves()
	ref, sh := t.Lookup(&in)
	if ref != 0 {
		sh.RUnlock()
	} else if ref = t.resume(m, dir, in, out, now); ref == 0 {
		return false
	}
	c := t.At(ref)
	if int(ref&1) != dir || c.Towards(dir == 1) != out {
		return false
	}
	if o := c.rows[1-dir].Load(); c.rows[dir].Load() != 0 || o != 0 && o-1 != row^1 {
		return false
	}
	c.packets[dir].Store(atomic.LoadUint64(&m.Packets))
	c.bytes[dir].Store(atomic.LoadUint64(&m.Bytes))
	atomic.StoreUint64(&m.Counted.Packets, c.packets[dir].Load())
	atomic.StoreUint64(&m.Counted.Bytes, c.bytes[dir].Load())
	if m.LastUse == 0 { // it tells nothing
		idle = time.Duration(now - c.created.Load())
	}
	seen := max(now-int64(idle), c.created.Load(), c.lastSeen.Load())
	c.lastSeen.Store(seen)
	if c.Outbound(dir == 1) {
		if at := units(seen); int32(at-c.lastOut.Load()) > 0 {
			c.lastOut.Store(at)
		}
	}
	if c.Orig.Proto == header.ProtoTCP {
		c.reopen(t, ref, row)
	}
	if !c.GoesOn() {
		return false // its end was carried
	}
	c.rows[dir].Store(row + 1)
	c.noteState(t)
	return true
}

// resume makes the flow of a row, 0 when it cannot be.
func (t *Table) resume(m *flowmap.Entry, dir int, in, out header.Tuple, now int64) Ref {
	kind, st := int(m.Conn>>originKind&0xf)-1, connState(m.Conn>>originState&originStates)
	slot, hold := uint8(m.Conn>>originSlot), natHold(m.Conn>>originHold&7)
	switch Kind(kind) {
	case KindMasquerade, KindPublish, KindHairpin, KindRouted:
	default:
		return 0
	}
	if slot >= flowmap.ClaimSlots || hold > natLends || m.Holder > uint16(Nobody) || !st.follows(in.Proto) {
		return 0
	}
	t.mu.Lock()
	i := t.unusedLocked()
	t.mu.Unlock()
	if i == 0 {
		return 0
	}
	ref, c := Ref(i)<<1, t.conn(i)
	orig, reply := in, out.Reverse()
	if dir == 1 {
		orig, reply = reply, orig
	}
	c.Init(orig, Kind(kind), frame.PortID(m.Container), Tenant(m.Holder))
	c.Reply, c.Slot = reply, slot
	c.blank(BornAt(m.Born, now))
	c.Revision.Store(0)
	c.Rule.Store(m.Policy)
	c.proof.Store(units(now))
	t.nat.mu.Lock()
	fits := hold == natNone || t.nat.fits(c.endpoint(), c.natPort(), hold)
	if fits {
		c.nat = hold
		t.adoptPort(c)
	}
	t.nat.mu.Unlock()
	if !fits || t.Insert(ref) != Inserted {
		t.GiveBack(ref)
		return 0
	}
	c.become(t, ref, st)
	if m.Conn&assured != 0 {
		c.assure(t, ref)
	}
	return ref | Ref(dir)
}

// follows reports whether a flow of a protocol can be in a state while a row carries it.
func (st connState) follows(proto uint8) bool {
	if proto == header.ProtoTCP {
		return st.carried()
	}
	return proto == header.ProtoUDP && (st == stateUDPOnce || st == stateUDP || st == stateUDPShort)
}

// fits reports whether an endpoint may hold a port: it has no other, and who else has this one
// shares it with others by their peers.
func (m *masquerade) fits(e endpoint, port uint16, hold natHold) bool {
	p := m.pool(e.slot, e.proto)
	mapped, lent := p.mapped.has(port), p.lent.has(port)
	switch got, has := m.maps[e]; {
	case !m.plane.Test(int(e.slot), e.proto, port):
		return !has || hold == natLends
	case hold == natLends:
		return mapped || lent
	case has:
		return got.port == port
	}
	return lent && !mapped
}

// reopen makes the windows of what the halves of a pair of rows say, of which one is that of ref,
// and the state of the ends that were carried while nobody was there.
func (c *Conn) reopen(t *Table, ref Ref, row uint32) {
	st := c.st()
	for d := range c.win {
		h, s := &t.rows[row^uint32(d)^uint32(ref&1)].Half, &c.win[d]
		s.end, s.maxAck, s.maxWin, s.scale = h.SeqEnd, h.Ack, h.Window, uint8(h.Scale)
		s.scaled, s.known, s.acked = h.Scale != 0, true, h.Doubt == 0
		c.win[1-d].maxEnd = h.Edge
		st = st.after(h.Ended, d)
	}
	for d := range c.win {
		if s := &c.win[d]; after(s.end, s.maxEnd) {
			s.maxEnd = s.end
		}
	}
	c.proof.Store(c.win[0].maxAck)
	if !c.win[0].acked { // he has yet to show that he hears the answers
		c.proof.Store(c.win[1].end)
	}
	if st != c.st() {
		c.become(t, ref, st)
	}
}

// Lent reports whether a flow leaves as to and its direction is that of a row.
func (t *Table) Lent(flow *header.Tuple, to header.Tuple, row uint32) bool {
	ref, sh := t.Lookup(flow)
	if ref == 0 {
		return false
	}
	defer sh.mu.RUnlock()
	c := t.At(ref)
	return c.rows[ref&1].Load() == row+1 && c.Towards(ref.Reply()) == to
}

// Leftover gives a claimed peer back to the host unless a flow has it, whose answers have a
// tuple.
func (t *Table) Leftover(p flowmap.Peer, answer *header.Tuple) bool {
	h := t.keys.Tuple(answer)
	sh := t.shard(h)
	sh.mu.Lock() // a flow that begins claims its peer under it
	defer sh.mu.Unlock()
	if r := sh.index.find(t, h, answer); r != 0 && t.At(r).claims() {
		return false
	}
	t.peers.maps.Drop(p)
	return true
}

// CloseLeft lets no stranger in by ports that are no mapping's, as a process before may have let.
func (t *Table) CloseLeft() {
	m := t.nat
	if m.claims == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	open := make(flowmap.ClaimPlane, flowmap.ClaimWords)
	for k := range m.inside {
		open.Set(int(k>>24), uint8(k>>16), uint16(k))
	}
	m.claims.Keep(open)
}
