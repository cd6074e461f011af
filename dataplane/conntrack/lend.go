package conntrack

import (
	"sync/atomic"
	"time"

	"github.com/vswitch/vswitch/dataplane/flowmap"
	"github.com/vswitch/vswitch/dataplane/header"
)

// A routed flow whose frames the kernel carries is lent to a row of the flow table.
// The row keeps what conntrack would have learned from them: the TCP window, so that
// a forged RST or ICMP error is known for what it is, and packets, so that the flow
// does not expire. Each frame that still comes here takes that over first, and gives
// its own back.

// Lend enters a row's number in the flow of a tuple and fills in the window. It is
// false when the flow does not leave as to any more, has ended, has no window yet, when its
// beginner has not shown yet that it hears the answers, or when the row of its other
// direction is of another pair: the two are held against each other. early says that the
// answer to its SYN is in hand: then the programs wait for what the beginner has to show.
func (t *Table) Lend(flow *header.Tuple, to header.Tuple, row uint32, early bool) bool {
	ref, sh := t.Lookup(flow)
	if ref == 0 {
		return false
	}
	defer sh.mu.RUnlock()
	c, dir := t.At(ref), ref&1
	lock := t.lock(c)
	lock.Lock()
	defer lock.Unlock()
	if c.Towards(dir == 1) != to || !c.GoesOn() {
		return false // another flow by now, or its end
	}
	if o := c.rows[1-dir].Load(); o != 0 && o-1 != row^1 {
		return false
	}
	if c.Orig.Proto == header.ProtoTCP && !c.lendable(early) {
		return false
	}
	if !c.rows[dir].CompareAndSwap(0, row+1) {
		return false
	}
	if c.Orig.Proto == header.ProtoTCP {
		c.lend(t.rows, int(dir))
		if c.rows[1-dir].Load() == 0 {
			c.lend(t.rows, 1-int(dir)) // otherwise the program keeps it
		}
	}
	c.lent(t, int(dir))
	return true
}

// lendable reports whether the programs can follow a TCP flow. It needs Table.lock.
func (c *Conn) lendable(early bool) bool {
	if !c.win[0].known || !c.win[1].known || !c.win[1].acked {
		return false
	}
	assured := c.class() == classAssured
	return assured && c.win[0].acked || early && !assured && !c.win[0].acked && c.win[1].maxAck == c.win[0].end
}

// SetTimeouts says for how long flows may be idle, by which rows are dead where nobody removes
// them.
func (t *Table) SetTimeouts(limits *Limits, jiffies func(time.Duration) uint32) {
	for st := range t.timeouts {
		t.timeouts[st].Store(jiffies(time.Duration(limits.of[st])))
	}
	for i := range t.madeNow() {
		c := t.conn(i + 1)
		if c.rows[0].Load() == 0 && c.rows[1].Load() == 0 {
			continue
		}
		t.live(i+1, func(c *Conn) {
			lock := t.lock(c)
			lock.Lock()
			c.noteState(t)
			lock.Unlock()
		})
	}
}

// TakeBack ends the loan.
func (t *Table) TakeBack(flow *header.Tuple, row uint32) {
	if ref, sh := t.Lookup(flow); ref != 0 {
		c, dir := t.At(ref), int(ref&1)
		lock := t.lock(c)
		lock.Lock()
		if c.rows[dir].Load() == row+1 {
			c.learn(t, ref, t.Ended.now())
			c.rows[dir].Store(0)
		}
		lock.Unlock()
		sh.mu.RUnlock()
	}
}

// Carried notes what the kernel carried. It is false when the row's flow has ended.
func (t *Table) Carried(flow *header.Tuple, row uint32, m *flowmap.Entry, now int64) bool {
	ref, sh := t.Lookup(flow)
	if ref == 0 {
		return false
	}
	defer sh.mu.RUnlock()
	c, dir := t.At(ref), int(ref&1)
	if c.rows[dir].Load() != row+1 {
		return false
	}
	c.count(m, dir)
	t.catchUp(c, ref, now)
	if !c.GoesOn() {
		return false // a program turned the row active in the moment of its end
	}
	if dir == 0 && c.Orig.Proto != header.ProtoTCP { // TCP is lent once it has shown that
		c.prove(t, ref, now)
	}
	c.seen(dir == 1, now)
	return true
}

// Learn takes over what the programs saw of a row's flow, such as its end.
func (t *Table) Learn(flow *header.Tuple, row uint32, now int64) {
	ref, sh := t.Lookup(flow)
	if ref == 0 {
		return
	}
	defer sh.mu.RUnlock()
	if c := t.At(ref); c.rows[ref&1].Load() == row+1 {
		t.catchUp(c, ref, now)
	}
}

// catchUp is learn for who does not hold Table.lock. It costs next to nothing where there is
// nothing to learn but numbers.
func (t *Table) catchUp(c *Conn, r Ref, now int64) {
	if c.behind(t.rows) {
		lock := t.lock(c)
		lock.Lock()
		c.learn(t, r, now)
		lock.Unlock()
	}
}

// behind reports whether the programs know more of a flow's state than it.
func (c *Conn) behind(rows []flowmap.Entry) bool {
	h := c.half(rows, 0)
	if h == nil || c.Orig.Proto != header.ProtoTCP {
		return false
	}
	st := c.st()
	return c.class() == classUnassured && atomic.LoadUint32(&h.Doubt) == 0 || c.ended(rows, st) != st
}

// learn takes over what the rows of a flow learned, as its stages would have: numbers, that its
// beginner hears the answers, how its sides have ended. It needs Table.lock.
func (c *Conn) learn(t *Table, r Ref, now int64) {
	h := c.half(t.rows, 0)
	if h == nil || c.Orig.Proto != header.ProtoTCP {
		return
	}
	c.recall(t.rows)
	if atomic.LoadUint32(&h.Doubt) == 0 {
		c.proveTCP(t, r)
	}
	st := c.st()
	next := c.ended(t.rows, st)
	if next == st {
		return
	}
	if next.closed() {
		c.lastSeen.Store(now) // the short timer runs from here
	}
	c.become(t, r, next)
}

// ended is the state of a flow after the ends that were carried. Of a FIN and a reset of one side
// the reset is there, unless both sides have sent their FIN before.
func (c *Conn) ended(rows []flowmap.Entry, st connState) connState {
	for d := range c.win {
		st = st.after(atomic.LoadUint32(&c.half(rows, d).Ended), d)
	}
	return st
}

// after is the state after the end of a side.
func (st connState) after(end uint32, side int) connState {
	fin := [2]connState{stateClientFin, stateServerFin}
	switch {
	case end == flowmap.HalfRST && st.carried():
		return stateTransitory
	case end == flowmap.HalfFIN && st == stateEstablished:
		return fin[side]
	case end == flowmap.HalfFIN && st == fin[1-side]:
		return stateClosing
	}
	return st
}

// count adds what a row has carried since it was counted last. Whoever swaps the
// number counts the difference, once: the sweep of the rows, or the end of the flow.
func (c *Conn) count(m *flowmap.Entry, dir int) {
	packets, bytes := atomic.LoadUint64(&m.Packets), atomic.LoadUint64(&m.Bytes)
	c.packets[dir].Add(packets - atomic.SwapUint64(&m.Counted.Packets, packets))
	c.bytes[dir].Add(bytes - atomic.SwapUint64(&m.Counted.Bytes, bytes))
}

// endRows gives the frames of a flow that has ended back to the switch, at once. The
// keys of the rows go when the flow table looks at them next.
func (t *Table) endRows(c *Conn) {
	for dir := range c.rows {
		if n := c.rows[dir].Load(); n != 0 {
			m := &t.rows[n-1]
			m.End()
			c.count(m, dir)
		}
	}
	for dir := range c.rows {
		if h := c.half(t.rows, dir); h != nil {
			atomic.StoreUint32(&h.Ended, 0) // it has been learned
		}
	}
}

// half is where the rows keep what a side has sent, nil when no direction is lent. The
// halves of a flow are side by side, also where only one direction has a row.
func (c *Conn) half(rows []flowmap.Entry, dir int) *flowmap.Half {
	if n := c.rows[dir].Load(); n != 0 {
		return &rows[n-1].Half
	}
	if n := c.rows[1-dir].Load(); n != 0 {
		return &rows[(n-1)^1].Half
	}
	return nil
}

// recall takes over what the rows of a flow learned, as accept would have from the
// segments that they carried. It needs Table.lock.
func (c *Conn) recall(rows []flowmap.Entry) {
	for dir := range c.rows {
		n := c.rows[dir].Load()
		if n == 0 {
			continue
		}
		h, s, o := &rows[n-1].Half, &c.win[dir], &c.win[1-dir]
		if atomic.LoadUint32(&h.Doubt) != 0 {
			continue // nothing of it has been carried
		}
		if catchUp(&s.end, atomic.LoadUint32(&h.SeqEnd)); !s.acked {
			s.maxAck, s.acked = atomic.LoadUint32(&h.Ack), true
		}
		catchUp(&s.maxAck, atomic.LoadUint32(&h.Ack))
		catchUp(&o.maxEnd, atomic.LoadUint32(&h.Edge))
		s.maxWin = max(s.maxWin, atomic.LoadUint32(&h.Window))
	}
	for dir := range c.win {
		if s := &c.win[dir]; after(s.end, s.maxEnd) {
			s.maxEnd = s.end
		}
	}
}

// overtaken is more than a program takes back that has read a number before relend wrote
// it, and writes after that: a frame's length. Otherwise numbers of a half go forward
// only, so that one a little behind is no news; it may be ahead by any other distance.
const overtaken = 1 << 20

func catchUp(number *uint32, to uint32) {
	if *number-to >= overtaken {
		*number = to
	}
}

// relend gives the half of a side what one of its segments has moved, which came here, and
// whether it was its end. A program may move the half meanwhile, so numbers only go forward. It
// needs Table.lock.
func (c *Conn) relend(rows []flowmap.Entry, dir int, ends bool) {
	h := c.half(rows, dir)
	if h == nil {
		return
	}
	if ends {
		atomic.StoreUint32(&h.Ended, flowmap.HalfFIN)
	}
	s, o := &c.win[dir], &c.win[1-dir]
	forward(&h.SeqEnd, s.end)
	if s.acked {
		forward(&h.Ack, s.maxAck)
	}
	forward(&h.Edge, o.maxEnd)
	if w := atomic.LoadUint32(&h.Window); s.maxWin > w {
		atomic.CompareAndSwapUint32(&h.Window, w, s.maxWin)
	}
}

func forward(number *uint32, to uint32) {
	for {
		n := atomic.LoadUint32(number)
		if !after(to, n) || atomic.CompareAndSwapUint32(number, n, to) {
			return
		}
	}
}

// give writes the half of a side as it is. No program moves it. It needs Table.lock.
func (c *Conn) give(rows []flowmap.Entry, dir int) {
	h, s, o := c.half(rows, dir), &c.win[dir], &c.win[1-dir]
	ack, doubt := s.maxAck, uint32(0)
	if !s.acked { // early
		ack, doubt = o.end, 1
	}
	atomic.StoreUint32(&h.Doubt, doubt)
	atomic.StoreUint32(&h.SeqEnd, s.end)
	atomic.StoreUint32(&h.Ack, ack)
	atomic.StoreUint32(&h.Edge, o.maxEnd)
	atomic.StoreUint32(&h.Window, s.maxWin)
	atomic.StoreUint32(&h.Scale, uint32(s.scale))
}

// lend gives a half to a row that begins.
func (c *Conn) lend(rows []flowmap.Entry, dir int) {
	ended := uint32(0)
	if st := c.st(); st == stateClientFin && dir == 0 || st == stateServerFin && dir == 1 {
		ended = flowmap.HalfFIN
	}
	atomic.StoreUint32(&c.half(rows, dir).Ended, ended)
	c.give(rows, dir)
}

// detach ends the rows of a flow whose windows have moved otherwise than by data: its
// numbers begin anew. It needs Table.lock.
func (c *Conn) detach(t *Table) {
	t.endRows(c)
	c.rows[0].Store(0)
	c.rows[1].Store(0)
}
