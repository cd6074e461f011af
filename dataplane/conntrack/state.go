package conntrack

import (
	"fmt"
	"time"

	"github.com/vswitch/vswitch/dataplane/header"
)

// connState is the state of a flow; for TCP the machine of RFC 7857 section 2.
type connState uint32

const (
	stateFree connState = iota // in no index

	// UDP, ICMP queries and other protocols: one direction seen, or both.
	stateUDPOnce
	stateUDP
	stateUDPShort // answered, of a well-known service of one question and one answer
	stateQueryOnce
	stateQuery
	stateOtherOnce
	stateOther

	stateInit         // TCP, SYN of the first side, or picked up in the middle
	stateEstablished  // TCP
	stateClientFin    // TCP, FIN of the first side: half closed
	stateServerFin    // TCP, FIN of the other
	stateClosing      // TCP, both FINs
	stateClientReopen // TCP, closed, then a SYN of the first side
	stateServerReopen // TCP, closed, then a SYN of the other
	stateTransitory   // TCP, valid RST: data brings the flow back

	numStates
)

var stateNames = [numStates]string{
	"free", "unreplied", "replied", "replied", "unreplied", "replied", "unreplied", "replied",
	"init", "established", "client-fin", "server-fin", "closing", "client-reopen", "server-reopen", "transitory",
}

// HalfOpen are the states in which only one side has shown that it wants the
// flow. They make room for others when the table is full.
func (st connState) halfOpen() bool {
	return st == stateUDPOnce || st == stateQueryOnce || st == stateOtherOnce || st == stateInit
}

// closed are the states of a flow that its ends have given up. It is kept for
// late packets only (RFC 7857 2.1, 2.2): it counts on no quota, and makes room
// first.
func (st connState) closed() bool { return st == stateClosing || st == stateTransitory }

// halfClosed are the states of a TCP flow that one side has ended.
func (st connState) halfClosed() bool { return st == stateClientFin || st == stateServerFin }

// carried are the states in which rows carry a TCP flow.
func (st connState) carried() bool { return st == stateEstablished || st.halfClosed() }

// reopens are the states of a closed flow that one side wants again.
func (st connState) reopens() bool { return st == stateClientReopen || st == stateServerReopen }

// firstState is the state of a flow after its first packet.
func firstState(proto uint8) connState {
	switch proto {
	case header.ProtoTCP:
		return stateInit
	case header.ProtoUDP:
		return stateUDPOnce
	case header.ProtoICMP, header.ProtoICMPv6:
		return stateQueryOnce
	}
	return stateOtherOnce
}

// answered is the state of a flow that is no TCP after a packet of its other
// side.
func (st connState) answered(t *header.Tuple) connState {
	switch st {
	case stateUDPOnce:
		if t.DstPort == portDNS {
			return stateUDPShort
		}
		return stateUDP
	case stateQueryOnce:
		return stateQuery
	case stateOtherOnce:
		return stateOther
	}
	return st
}

const portDNS = 53

// Timeouts are the times a flow may be idle, by its state. A zero field takes
// the default in parentheses. While the table is over 80 % full, a flow whose beginner has
// not shown that it hears the answers is kept for 30 s at most.
type Timeouts struct {
	UDPOnce        time.Duration // one packet or one direction only (120 s: RFC 4787 REQ-5)
	UDP            time.Duration // both directions (300 s: REQ-5 c)
	UDPDNS         time.Duration // to port 53, answered (30 s: REQ-5 a)
	UDPInbound     time.Duration // since the container's last packet, whatever comes in (1 h: REQ-6)
	ICMP           time.Duration // queries (60 s: RFC 5508 REQ-2)
	TCPOpening     time.Duration // until the handshake is over (240 s: RFC 7857 2.1)
	TCPEstablished time.Duration // (24 h; RFC 5382 REQ-5 demands 2 h 4 min)
	TCPHalfClosed  time.Duration // one FIN (7440 s: RFC 7857 figure 1)
	TCPClosing     time.Duration // both FINs, from the second on (240 s)
	TCPReset       time.Duration // after an RST (240 s: RFC 7857 2.2)
	Other          time.Duration // other protocols (600 s)
}

// openingUnderPressure is how long a flow is kept that is not assured, while the table is
// more than tightAt percent full. A large table is swept in eight seconds, which makes 30
// of it.
const (
	openingUnderPressure = int64(22 * time.Second)
	tightAt              = 80
)

// Limits is Timeouts as the table reads it, in ns.
type Limits struct {
	of      [numStates]int64
	inbound int64
	opening int64 // of flows that are not assured, 0: as of all
}

// Lasting is for how long a flow may be idle whose ends both speak.
func (l *Limits) Lasting(proto uint8) time.Duration {
	if proto == header.ProtoTCP {
		return time.Duration(l.of[stateEstablished])
	}
	return time.Duration(l.of[stateUDP])
}

// tight are the limits that hold now.
func (t *Table) tight(limits *Limits) Limits {
	now := *limits
	if t.Len()*100 > t.max*tightAt {
		now.opening = openingUnderPressure
	}
	return now
}

// Compile fills in the defaults; a negative time is an error.
func (t *Timeouts) Compile() (out Limits, err error) {
	take := func(d, def time.Duration, states ...connState) int64 {
		if d < 0 {
			err = fmt.Errorf("timeout %s is negative", d)
		}
		if d == 0 {
			d = def
		}
		for _, st := range states {
			out.of[st] = int64(d)
		}
		return int64(d)
	}
	take(t.UDPOnce, 120*time.Second, stateUDPOnce)
	take(t.UDP, 300*time.Second, stateUDP)
	take(t.UDPDNS, 30*time.Second, stateUDPShort)
	out.inbound = take(t.UDPInbound, time.Hour)
	take(t.ICMP, 60*time.Second, stateQueryOnce, stateQuery)
	take(t.TCPOpening, 240*time.Second, stateInit)
	take(t.TCPEstablished, 24*time.Hour, stateEstablished)
	take(t.TCPHalfClosed, 7440*time.Second, stateClientFin, stateServerFin)
	take(t.TCPClosing, 240*time.Second, stateClosing, stateClientReopen, stateServerReopen)
	take(t.TCPReset, 240*time.Second, stateTransitory)
	take(t.Other, 600*time.Second, stateOtherOnce, stateOther)
	return out, err
}
