package dataplane

import (
	"sync/atomic"

	"github.com/vswitch/vswitch/dataplane/header"
)

// A routed flow whose frames the kernel carries is lent to a row of the flow table.
// The row keeps what conntrack would have learned from them: the TCP window, so that
// a forged RST or ICMP error is known for what it is, and packets, so that the flow
// does not expire. Each frame that still comes here takes that over first, and gives
// its own back.

// lendFloor is how far at least a segment may be ahead of or behind the row: what one
// may send without an acknowledgment lies below for all but the fattest pipes. What is
// further away comes to the switch, which looks at the window.
const lendFloor = 4 << 20

// lend enters a row's number in its flow, if that is still as the row says, and fills
// in the window.
func (t *conntrack) lend(r *flowRow, m *FlowSlot, to *header.Tuple) bool {
	ref, sh := t.lookup(&r.tuple)
	if ref == 0 {
		return false
	}
	defer sh.mu.RUnlock()
	c, dir := t.at(ref), ref&1
	st := connState(c.state.Load())
	if st != stateEstablished && st != stateUDP && st != stateUDPOnce || c.kind == ConnInbound || c.towards(dir == 1) != *to {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.orig.Proto == header.ProtoTCP {
		if !c.win[0].known || !c.win[1].known || !c.win[0].acked || !c.win[1].acked {
			return false
		}
		c.give(m, int(dir))
	}
	return c.rows[dir].CompareAndSwap(0, r.slot+1)
}

// takeBack ends the loan.
func (t *conntrack) takeBack(r *flowRow, m *FlowSlot) {
	if ref, sh := t.lookup(&r.tuple); ref != 0 {
		c, dir := t.at(ref), int(ref&1)
		c.mu.Lock()
		if c.rows[dir].CompareAndSwap(r.slot+1, 0) && c.orig.Proto == header.ProtoTCP {
			c.learnFrom(m, dir)
		}
		c.mu.Unlock()
		sh.mu.RUnlock()
	}
}

// carried notes what the kernel carried. It is false when the row's flow has ended.
func (t *conntrack) carried(r *flowRow, packets, bytes uint64, now int64) bool {
	ref, sh := t.lookup(&r.tuple)
	if ref == 0 {
		return false
	}
	defer sh.mu.RUnlock()
	c, dir := t.at(ref), ref&1
	if c.rows[dir].Load() != r.slot+1 {
		return false
	}
	c.packets[dir].Add(packets)
	c.bytes[dir].Add(bytes)
	c.lastSeen.Store(now)
	if c.outbound(dir == 1) {
		c.lastOut.Store(now)
	}
	return true
}

// recall takes over what the rows of a flow learned. It needs mu.
func (c *conn) recall(rows []FlowSlot) {
	for dir := range c.rows {
		if n := c.rows[dir].Load(); n != 0 {
			c.learnFrom(&rows[n-1], dir)
		}
	}
}

// relend gives the rows what a frame that came here has changed. It needs mu.
func (c *conn) relend(rows []FlowSlot) {
	for dir := range c.rows {
		if n := c.rows[dir].Load(); n != 0 {
			c.give(&rows[n-1], dir)
		}
	}
}

// give writes the window of a side into its row. It needs mu.
func (c *conn) give(m *FlowSlot, dir int) {
	s, o := &c.win[dir], &c.win[1-dir]
	atomic.StoreUint32(&m.SeqEnd, s.end)
	atomic.StoreUint32(&m.Ack, s.maxAck)
	atomic.StoreUint32(&m.Limit, max(lendFloor, s.maxWin, o.maxWin))
}

// learnFrom is accept for all the segments that a row has carried. It needs mu.
func (c *conn) learnFrom(m *FlowSlot, dir int) {
	s, o := &c.win[dir], &c.win[1-dir]
	s.end, s.maxAck = atomic.LoadUint32(&m.SeqEnd), atomic.LoadUint32(&m.Ack)
	s.maxWin = max(s.maxWin, atomic.LoadUint32(&m.Window)<<s.scale)
	if after(s.end, s.maxEnd) {
		s.maxEnd = s.end
	}
	if edge := s.maxAck + max(1, s.maxWin); after(edge, o.maxEnd) {
		o.maxEnd = edge
	}
}
