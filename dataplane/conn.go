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
)

// String names the kind.
func (k ConnKind) String() string {
	return [...]string{"masquerade", "publish", "hairpin", "routed", "inbound"}[k]
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
	created  int64 // ns
	lastSeen atomic.Int64
	lastOut  atomic.Int64 // packet of the container
	packets  atomic.Uint64
	bytes    atomic.Uint64
	mu       sync.Mutex   // serialises transitions, guards win
	win      [2]tcpWindow // of the first side, of the other
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
	c.created = now
	c.lastSeen.Store(now)
	c.lastOut.Store(now)
	c.packets.Store(1)
	c.bytes.Store(uint64(len(b)))
	c.win = [2]tcpWindow{}
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
	c.packets.Add(1)
	c.bytes.Add(uint64(len(b)))
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
	Port           frame.PortID // the container's
	Packets, Bytes uint64
	Age, Expires   time.Duration
}

func (c *conn) info(now int64, t *timeouts) ConnInfo {
	return ConnInfo{
		Orig: c.orig, Reply: c.reply, Kind: c.kind, Port: c.port,
		State:   stateNames[c.state.Load()],
		Packets: c.packets.Load(), Bytes: c.bytes.Load(),
		Age:     time.Duration(now - c.created),
		Expires: time.Duration(c.expires(t) - now),
	}
}
