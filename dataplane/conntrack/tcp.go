package conntrack

import (
	"github.com/vswitch/vswitch/dataplane/flowmap"
	"github.com/vswitch/vswitch/dataplane/header"
)

// Begins reports whether a TCP segment may be the first that the switch sees of
// a flow: a SYN, or a segment of a flow older than the switch itself. Those bear
// ACK, as all do behind the SYN (RFC 9293 3.5.2); without, and with SYN and FIN,
// they are a scanner's.
func Begins(flags uint8) bool {
	switch flags & (header.TCPSYN | header.TCPACK | header.TCPRST | header.TCPFIN) {
	case header.TCPSYN, header.TCPACK, header.TCPACK | header.TCPFIN:
		return true
	}
	return false
}

// trackTCP takes a segment through the machine of RFC 7857 figure 1. Data is
// never dropped, even far out of the window: only what it may change depends on
// that. ok is false for a reset that is not to pass, and refresh says whether the segment keeps the flow alive.
func (c *Conn) trackTCP(t *Table, r Ref, l *header.Layers, b []byte, reply bool, now int64) (ok, refresh bool) {
	seg := header.ReadSegment(b, l)
	lock := t.lock(c)
	lock.Lock()
	defer lock.Unlock()
	c.learn(t, r, now)
	s, o, dir := &c.win[0], &c.win[1], 0
	if reply {
		s, o, dir = o, s, 1
	}
	st := c.st()
	next := st
	switch {
	case seg.Flags&header.TCPRST != 0:
		if !c.validReset(s, o, &seg, reply, st) {
			return false, false
		}
		switch st {
		case stateEstablished, stateClientFin, stateServerFin:
			c.lastSeen.Store(now) // the short timer runs from here
			c.become(t, r, stateTransitory)
		}
		return true, false
	case seg.Flags&header.TCPSYN != 0:
		before := c.win
		next = c.synchronize(s, o, &seg, reply, st)
		if before[0].moved(&c.win[0]) || before[1].moved(&c.win[1]) {
			c.detach(t)
		}
	default:
		next = c.advance(s, o, &seg, reply, st)
		c.relend(t.rows, dir, next != st && next.halfClosed())
	}
	loose := st == stateInit && c.proof.Load() == loosely
	if next != st {
		switch {
		case next == stateEstablished && loose:
			c.proof.Store(seg.Seq) // which its beginner has acknowledged before it came
		case next == stateEstablished:
			c.proof.Store(c.win[1].end)
		}
		if next.reopens() {
			c.proof.Store(units(now))
		}
		c.become(t, r, next)
	}
	if !reply && seg.Flags&header.TCPSYN == 0 || loose && next == stateEstablished {
		c.proveTCP(t, r)
	}
	// What comes after both FINs keeps nothing alive, and neither does the SYN
	// of one side.
	return true, next < stateClosing || next == stateClosing && next != st
}

// validReset accepts an RST only with the exact number that its receiver
// expects next (RFC 5961 section 3): the highest it acknowledged, or where the
// sender's data ended. To any other the receiver would answer with a challenge
// ACK at most, whose RST in turn is exact. A refused SYN is known by its
// acknowledgment. No state is kept from a forged one.
func (c *Conn) validReset(s, o *tcpWindow, seg *header.Segment, reply bool, st connState) bool {
	if st == stateInit && reply && !c.loose() && seg.Flags&header.TCPACK != 0 && seg.Ack == o.end {
		return true
	}
	return s.known && seg.Seq == s.end || o.acked && seg.Seq == o.maxAck
}

// synchronize is the step for a SYN.
func (c *Conn) synchronize(s, o *tcpWindow, seg *header.Segment, reply bool, st connState) connState {
	ack := seg.Flags&header.TCPACK != 0
	switch st {
	case stateInit:
		if !reply {
			if !ack {
				s.learn(o, seg) // again, or a new attempt
				c.proof.Store(0)
			}
			return st
		}
		if ack && !o.couldBeAcked(seg.Ack) || c.proof.Load() == looselyBack {
			return st
		}
		// An answer, or a simultaneous open (RFC 5382 REQ-2).
		s.learn(o, seg)
		return stateEstablished
	case stateEstablished, stateClientFin, stateServerFin:
		// A SYN in a living flow is answered with a challenge ACK. Only an answer
		// to the other side's exact SYN shows that it was reopened meanwhile, as
		// when data overtook the RST of the connection before.
		switch {
		case s.accept(o, seg, 0):
		case !ack:
			s.reopen = seg.Seq + 1
		case seg.Ack == o.reopen && o.reopen != 0:
			*o = tcpWindow{end: seg.Ack, maxEnd: seg.Ack, maxWin: 0xffff, scale: anyScale, scaled: seg.Scale >= 0, known: true}
			s.learn(o, seg)
			return stateEstablished
		}
		return st
	}
	// Closed: it takes a SYN of each side to reopen it.
	other := stateServerReopen
	if reply {
		other = stateClientReopen
	}
	switch {
	case st == other && (!ack || o.couldBeAcked(seg.Ack)):
		s.learn(o, seg)
		return stateEstablished
	case ack:
		return st
	}
	*o = tcpWindow{}
	s.learn(o, seg)
	if reply {
		return stateServerReopen
	}
	return stateClientReopen
}

// unseen is how much a side may have sent that nobody has seen. Before the beginner is
// believed he has to be exact. A row carries what follows the ends of a connection until somebody learns of
// those, so one that has closed is held to the same measure.
func (c *Conn) unseen() uint32 {
	v := c.state.Load()
	if cl := classOf(v); cl == classAssured || cl == classClosed && v&assured != 0 {
		return ackAhead
	}
	return 0
}

// advance is the step for a segment without SYN and RST.
func (c *Conn) advance(s, o *tcpWindow, seg *header.Segment, reply bool, st connState) connState {
	if !s.known {
		switch {
		case st != stateInit || c.loose():
			s.learn(o, seg)
		case reply && seg.Flags&header.TCPACK != 0:
			// A challenge ACK of a flow that the other end still holds: the RST
			// that answers it has this number.
			s.maxAck, s.acked = seg.Ack, true
			return st
		}
	}
	if !s.accept(o, seg, c.unseen()) {
		return st
	}
	fin := seg.Flags&header.TCPFIN != 0
	switch {
	case st == stateInit && c.loose() && reply == (c.proof.Load() == loosely): // the other side speaks
		return stateEstablished
	case st == stateTransitory:
		return stateEstablished // the RST was not heeded: data goes on
	case !fin:
		return st
	case st == stateEstablished && reply:
		return stateServerFin
	case st == stateEstablished:
		return stateClientFin
	case st == stateClientFin && reply, st == stateServerFin && !reply:
		return stateClosing
	}
	return st
}

// tcpWindow is what one side of a flow has sent and may send, after "Real
// Stateful TCP Packet Filtering in IP Filter" (G. van Rooij) as the kernel's
// conntrack does it. It is there to tell a forged RST or ICMP error.
type tcpWindow struct {
	end    uint32 // highest sequence number sent, and one
	maxEnd uint32 // the other side's highest acknowledgment and window
	maxWin uint32 // largest window announced, scaled
	maxAck uint32 // highest acknowledgment
	reopen uint32 // what would acknowledge a SYN out of the window, 0: there was none
	scale  uint8
	scaled bool // the side sent a window scale option
	known  bool // end to maxWin are valid
	acked  bool // maxAck is valid
}

// moved reports whether a window is another than before.
func (s tcpWindow) moved(now *tcpWindow) bool {
	s.reopen = now.reopen
	return s != *now
}

// maxAckBehind is how far an acknowledgment may lag behind at least.
const maxAckBehind = 66000

// mostBehind bounds how far an acknowledgment may lie behind the highest of its side, as one
// does that is overtaken on the way; ackAhead is how far ahead of what the other side is known
// to have sent. Two programs that move the half of that side at once lose one of two numbers (ADR 23).
const (
	mostBehind = 256 << 10
	ackAhead   = 128 << 10
)

// anyScale is the scale of a side that has told none.
const anyScale = 14 | flowmap.ScaleUnknown

// after reports whether a lies behind b in sequence space.
func after(a, b uint32) bool { return int32(a-b) > 0 }

// learn begins the window of a side from its SYN, or from a segment in the
// middle of a flow, whose scale is not known: then anything may be.
func (s *tcpWindow) learn(o *tcpWindow, seg *header.Segment) {
	syn := seg.Flags&header.TCPSYN != 0
	*s = tcpWindow{end: seg.Seq + seg.Len, known: true}
	s.maxEnd = s.end
	if !syn {
		s.scale, s.scaled = anyScale, true
	} else if seg.Scale >= 0 {
		s.scale, s.scaled = uint8(seg.Scale), true
	}
	if o.known && syn && !(s.scaled && o.scaled) {
		s.scale, o.scale = 0, 0 // RFC 7323, 1.3: both or neither
	}
	s.maxWin = max(1, s.window(seg))
	if seg.Flags&header.TCPACK == 0 {
		return
	}
	if !syn && (!o.known || after(seg.Ack, o.end)) {
		// Of a flow picked up in the middle the other side has sent at least
		// what is acknowledged.
		o.end, o.maxEnd = seg.Ack, seg.Ack
	}
	s.noteAck(o, seg)
}

// window is the window that a segment announces. That of a SYN is not scaled.
func (s *tcpWindow) window(seg *header.Segment) uint32 {
	if seg.Flags&header.TCPSYN != 0 {
		return uint32(seg.Window)
	}
	window := uint32(seg.Window) << (s.scale & flowmap.ScaleMask)
	if s.scale&flowmap.ScaleUnknown != 0 {
		window = min(window, flowmap.MostUnknown)
	}
	return window
}

// noteAck takes what a segment of s says about what o may send.
func (s *tcpWindow) noteAck(o *tcpWindow, seg *header.Segment) {
	if seg.Flags&header.TCPACK == 0 {
		return
	}
	if !s.acked || after(seg.Ack, s.maxAck) {
		s.maxAck, s.acked = seg.Ack, true
	}
	if edge := seg.Ack + max(1, s.window(seg)); after(edge, o.maxEnd) {
		o.maxEnd = edge
	}
}

// couldBeAcked reports whether an acknowledgment is about data that s has sent
// lately.
func (s *tcpWindow) couldBeAcked(ack uint32) bool {
	return !after(ack, s.end) && after(ack, s.end-max(s.maxWin, maxAckBehind)-1)
}

// acknowledges reports whether a segment of s acknowledges what o may have sent, and lately.
// ahead is how much of that may be unknown.
func (s *tcpWindow) acknowledges(o *tcpWindow, ack, ahead uint32) bool {
	if !s.acked {
		return !after(ack, o.end) && after(ack, o.end-max(s.maxWin, maxAckBehind)-1)
	}
	return !after(ack, o.end+ahead) && after(ack, s.maxAck-max(min(s.maxWin, mostBehind), maxAckBehind))
}

// accept reports whether a segment of s lies in the window, and if so moves it.
func (s *tcpWindow) accept(o *tcpWindow, seg *header.Segment, ahead uint32) bool {
	end := seg.Seq + seg.Len
	if after(seg.Seq, s.maxEnd) || !after(end, s.end-o.maxWin-1) {
		return false
	}
	// RFC 9293 3.10.7.4: the receiver drops a segment without ACK, so it moves nothing.
	if seg.Flags&header.TCPACK == 0 || !s.acknowledges(o, seg.Ack, ahead) {
		return false
	}
	s.maxWin = max(s.maxWin, s.window(seg))
	if after(end, s.end) {
		s.end = end
	}
	if after(end, s.maxEnd) {
		s.maxEnd = end
	}
	s.noteAck(o, seg)
	return true
}

// sentLately reports whether a sequence number, quoted by an ICMP error, is of
// data that s has sent and o not long acknowledged (RFC 5927, 4.1).
func (s *tcpWindow) sentLately(o *tcpWindow, seq uint32) bool {
	if !s.known || !o.acked {
		return !s.known || !after(seq, s.end) && after(seq, s.end-maxAckBehind)
	}
	return !after(seq, s.end) && after(seq, o.maxAck-max(o.maxWin, maxAckBehind))
}
