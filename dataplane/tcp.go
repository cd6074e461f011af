package dataplane

import (
	"github.com/vswitch/vswitch/dataplane/header"
)

const (
	tcpFIN = 1 << 0
	tcpSYN = 1 << 1
	tcpRST = 1 << 2
	tcpACK = 1 << 4
)

// begins reports whether a TCP segment may be the first that the switch sees of
// a flow: a SYN, or a segment of a flow older than the switch itself. Those bear
// ACK, as all do behind the SYN (RFC 9293 3.5.2); without, and with SYN and FIN,
// they are a scanner's.
func begins(flags uint8) bool {
	switch flags & (tcpSYN | tcpACK | tcpRST | tcpFIN) {
	case tcpSYN, tcpACK, tcpACK | tcpFIN:
		return true
	}
	return false
}

// trackTCP takes a segment through the machine of RFC 7857 figure 1. Data is
// never dropped, even far out of the window: only what it may change depends on
// that. refresh says whether the segment keeps the flow alive.
func (c *conn) trackTCP(t *conntrack, r connRef, l *header.Layers, b []byte, reply bool, now int64) (why DropReason, refresh bool) {
	seg := header.ReadSegment(b, l)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.recall(t.rows)
	defer c.relend(t.rows)
	s, o := &c.win[0], &c.win[1]
	if reply {
		s, o = o, s
	}
	st := connState(c.state.Load())
	next := st
	switch {
	case seg.Flags&tcpRST != 0:
		if !c.validReset(s, o, &seg, reply, st) {
			return DropBadReset, false
		}
		switch st {
		case stateEstablished, stateClientFin, stateServerFin:
			c.lastSeen.Store(now) // the short timer runs from here
			c.become(t, r, stateTransitory)
		}
		return NotDropped, false
	case seg.Flags&tcpSYN != 0:
		next = c.synchronize(s, o, &seg, reply, st)
	default:
		next = c.advance(s, o, &seg, reply, st)
	}
	if next != st {
		c.become(t, r, next)
	}
	// What comes after both FINs keeps nothing alive, and neither does the SYN
	// of one side.
	return NotDropped, next < stateClosing || next == stateClosing && next != st
}

// validReset accepts an RST only with the exact number that its receiver
// expects next (RFC 5961 section 3): the highest it acknowledged, or where the
// sender's data ended. To any other the receiver would answer with a challenge
// ACK at most, whose RST in turn is exact. A refused SYN is known by its
// acknowledgment. No state is kept from a forged one.
func (c *conn) validReset(s, o *tcpWindow, seg *header.Segment, reply bool, st connState) bool {
	if st == stateInit && reply && !c.loose && seg.Flags&tcpACK != 0 && seg.Ack == o.end {
		return true
	}
	return s.known && seg.Seq == s.end || o.acked && seg.Seq == o.maxAck
}

// synchronize is the step for a SYN.
func (c *conn) synchronize(s, o *tcpWindow, seg *header.Segment, reply bool, st connState) connState {
	ack := seg.Flags&tcpACK != 0
	switch st {
	case stateInit:
		if !reply {
			if !ack {
				s.learn(o, seg) // again, or a new attempt
				c.loose = false
			}
			return st
		}
		if ack && !o.couldBeAcked(seg.Ack) {
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
		case s.accept(o, seg):
		case !ack:
			s.reopen = seg.Seq + 1
		case seg.Ack == o.reopen && o.reopen != 0:
			*o = tcpWindow{end: seg.Ack, maxEnd: seg.Ack, maxWin: 0xffff, scale: 14, scaled: seg.Scale >= 0, known: true}
			s.learn(o, seg)
			return stateEstablished
		case seg.Ack == o.end:
			s.learn(o, seg)
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

// advance is the step for a segment without SYN and RST.
func (c *conn) advance(s, o *tcpWindow, seg *header.Segment, reply bool, st connState) connState {
	if !s.known {
		switch {
		case st != stateInit || c.loose:
			s.learn(o, seg)
		case reply && seg.Flags&tcpACK != 0:
			// A challenge ACK of a flow that the other end still holds: the RST
			// that answers it has this number.
			s.maxAck, s.acked = seg.Ack, true
			return st
		}
	}
	if !s.accept(o, seg) {
		return st
	}
	fin := seg.Flags&tcpFIN != 0
	switch {
	case st == stateInit && c.loose && reply:
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

// maxAckBehind is how far an acknowledgment may lag behind at least.
const maxAckBehind = 66000

// after reports whether a lies behind b in sequence space.
func after(a, b uint32) bool { return int32(a-b) > 0 }

// learn begins the window of a side from its SYN, or from a segment in the
// middle of a flow, whose scale is not known: then anything may be.
func (s *tcpWindow) learn(o *tcpWindow, seg *header.Segment) {
	syn := seg.Flags&tcpSYN != 0
	*s = tcpWindow{end: seg.Seq + seg.Len, known: true}
	s.maxEnd = s.end
	if !syn {
		s.scale, s.scaled = 14, true
	} else if seg.Scale >= 0 {
		s.scale, s.scaled = uint8(seg.Scale), true
	}
	if o.known && syn && !(s.scaled && o.scaled) {
		s.scale, o.scale = 0, 0 // RFC 7323, 1.3: both or neither
	}
	s.maxWin = max(1, s.window(seg))
	if seg.Flags&tcpACK == 0 {
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
	if seg.Flags&tcpSYN != 0 {
		return uint32(seg.Window)
	}
	return uint32(seg.Window) << s.scale
}

// noteAck takes what a segment of s says about what o may send.
func (s *tcpWindow) noteAck(o *tcpWindow, seg *header.Segment) {
	if seg.Flags&tcpACK == 0 {
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

// accept reports whether a segment of s lies in the window, and if so moves it.
func (s *tcpWindow) accept(o *tcpWindow, seg *header.Segment) bool {
	end := seg.Seq + seg.Len
	if after(seg.Seq, s.maxEnd) || !after(end, s.end-o.maxWin-1) {
		return false
	}
	if seg.Flags&tcpACK != 0 && (after(seg.Ack, o.end) || !after(seg.Ack, o.end-max(s.maxWin, maxAckBehind)-1)) {
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
