package dataplane

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/vswitch/vswitch/dataplane/frame"
	"github.com/vswitch/vswitch/dataplane/header"
)

// ConnKind is why a flow is translated.
type ConnKind uint8

const (
	ConnMasquerade ConnKind = iota // a container went out: source translated
	ConnPublish                    // the world came in: destination translated
	ConnHairpin                    // a container came in by the host's address: both
	ConnRouted                     // neither: tracked so that its answers pass
	ConnInbound                    // a stranger came in by a mapping of a network with FilterEIF
	ConnBridged                    // not routed at all: see account.go
)

// String names the kind.
func (k ConnKind) String() string {
	return [...]string{"masquerade", "publish", "hairpin", "routed", "inbound", "bridged"}[k]
}

// conn is one tracked flow. It is touched under the lock of one of the two
// shards that hold its tuples, so that it may be reused as soon as it was
// removed under both; only the sweep looks from outside, at what is atomic.
// orig to hash are written before it is inserted and stay. It holds no
// pointer, so that the garbage collector does not scan the table.
type conn struct {
	orig, reply header.Tuple // as the first packet of each direction comes in
	kind        ConnKind
	slot        uint8        // of the host address that the mapping is on
	hasNAT      bool         // it holds a masquerade mapping; changed under mu
	loose       bool         // TCP that was picked up in the middle
	port        frame.PortID // the container's
	owner       frame.PortID // whose quota it counts on, NoPort: nobody's
	hash        [2]atomic.Uint32

	// In the list of half-open, closed or free flows. Guarded by conntrack.mu.
	prev, next uint32
	listed     listKind

	revision atomic.Uint32 // of the snapshot that allowed it last
	state    atomic.Uint32
	created  atomic.Int64 // ns
	lastSeen atomic.Int64
	lastOut  atomic.Int64     // packet of the container
	packets  [2]atomic.Uint64 // of each direction
	bytes    [2]atomic.Uint64
	meter    meter
	// rows of the flow table that carry the directions, and one; 0: none.
	rows [2]atomic.Uint32
	mu   sync.Mutex   // serialises transitions, guards win
	win  [2]tcpWindow // of the first side, of the other
}

// towards returns the tuple a packet of the given direction leaves with.
func (c *conn) towards(reply bool) header.Tuple {
	if reply {
		return c.orig.Reverse()
	}
	return c.reply.Reverse()
}

// endpoint is the inside of the flow's mapping.
func (c *conn) endpoint() endpoint {
	in := &c.orig
	if c.kind == ConnInbound {
		in = &c.reply
	}
	return endpoint{addr: in.Src, port: in.SrcPort, proto: in.Proto, slot: c.slot}
}

// natPort is the outside port of the flow's mapping.
func (c *conn) natPort() uint16 {
	if c.kind == ConnInbound {
		return c.orig.DstPort
	}
	return c.reply.DstPort
}

// outbound reports whether packets of a direction are the container's.
func (c *conn) outbound(reply bool) bool {
	switch c.kind {
	case ConnMasquerade:
		return !reply
	case ConnPublish, ConnInbound:
		return reply
	}
	return true
}

// begin sets the state for the first packet.
func (c *conn) begin(l *header.Layers, b []byte, now int64) {
	c.created.Store(now)
	c.lastSeen.Store(now)
	c.lastOut.Store(now)
	c.packets[0].Store(1)
	c.bytes[0].Store(uint64(len(b)))
	c.packets[1].Store(0)
	c.bytes[1].Store(0)
	c.meter.rate.Store(0)
	c.win = [2]tcpWindow{}
	c.rows[0].Store(0)
	c.rows[1].Store(0)
	c.loose = false
	if c.orig.Proto == header.ProtoTCP {
		seg := header.ReadSegment(b, l)
		c.loose = seg.Flags&tcpSYN == 0
		c.win[0].learn(&c.win[1], &seg)
	}
}

// track notes a packet of the flow and says whether it may pass.
func (c *conn) track(t *conntrack, r connRef, l *header.Layers, b []byte, now int64) DropReason {
	reply := r&1 == 1
	refresh := true
	switch {
	case c.orig.Proto != header.ProtoTCP:
		st := connState(c.state.Load())
		if reply && st.halfOpen() {
			c.become(t, r, st.answered(&c.orig))
		}
		// Strangers do not keep a mapping alive (RFC 4787 REQ-6, RFC 7857
		// section 7).
		refresh = c.kind != ConnInbound || reply
	case l.Flags&header.FlagFragment == 0:
		why := NotDropped
		if why, refresh = c.trackTCP(t, r, l, b, reply, now); why != NotDropped {
			return why
		}
	}
	if observed {
		c.packets[r&1].Add(1)
		c.bytes[r&1].Add(uint64(len(b)))
	}
	if refresh {
		c.lastSeen.Store(now)
		if c.outbound(reply) {
			c.lastOut.Store(now)
		}
	}
	return NotDropped
}

// become changes the state, and with it the list that the flow is in.
func (c *conn) become(t *conntrack, r connRef, st connState) {
	was := connState(c.state.Swap(uint32(st)))
	if was.list() != st.list() {
		t.relist(r, st.list())
	}
	if was.closed() != st.closed() {
		t.charge(c, was.closed())
	}
}

// expires is when the flow ends if it stays idle, in ns.
func (c *conn) expires(t *timeouts) int64 {
	st := connState(c.state.Load())
	at := c.lastSeen.Load() + t.of[st]
	if st == stateUDP || st == stateUDPOnce {
		at = min(at, c.lastOut.Load()+t.inbound)
	}
	return at
}

// ConnInfo describes one tracked flow.
type ConnInfo struct {
	Orig, Reply    header.Tuple // as the first packet of each direction came in
	Kind           ConnKind
	State          string
	Port           frame.PortID // the container's; of a bridged flow that of the side that began it
	Other          frame.PortID // of a bridged flow that of the other side, or frame.NoPort
	Packets, Bytes [2]uint64    // of the first packet's direction, of the other
	Rate           uint64       // bytes a second of both, between the last two sweeps
	Age, Idle      time.Duration
	Expires        time.Duration
	Created        int64 // of the switch's clock, ns: with Orig it names the flow
	Closed         bool  // its ends have given it up
}

func (c *conn) info(now int64, t *timeouts) ConnInfo {
	return ConnInfo{
		Orig: c.orig, Reply: c.reply, Kind: c.kind, Port: c.port, Other: frame.NoPort,
		State:   stateNames[c.state.Load()],
		Packets: [2]uint64{c.packets[0].Load(), c.packets[1].Load()},
		Bytes:   [2]uint64{c.bytes[0].Load(), c.bytes[1].Load()},
		Rate:    c.meter.rate.Load(),
		Created: c.created.Load(), Closed: connState(c.state.Load()).closed(),
		Age:     time.Duration(now - c.created.Load()),
		Idle:    time.Duration(now - c.lastSeen.Load()),
		Expires: time.Duration(c.expires(t) - now),
	}
}
