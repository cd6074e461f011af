package conntrack

import (
	"sync/atomic"

	"github.com/vswitch/vswitch/dataplane/frame"
	"github.com/vswitch/vswitch/dataplane/header"
	"github.com/vswitch/vswitch/dataplane/share"
)

// Kind is why a flow is translated.
type Kind uint8

const (
	KindMasquerade Kind = iota // a container went out: source translated
	KindPublish                // the world came in: destination translated
	KindHairpin                // a container came in by the host's address: both
	KindRouted                 // neither: tracked so that its answers pass
	KindInbound                // a stranger came in by a mapping of a network with FilterEIF
	KindBridged                // not routed and not in the table: an Info of who counts bridged flows
)

// String names the kind.
func (k Kind) String() string {
	return [...]string{"masquerade", "publish", "hairpin", "routed", "inbound", "bridged"}[k]
}

// Conn is one tracked flow. It is touched under the lock of one of the two
// shards that hold its tuples, so that it may be reused as soon as it was
// removed under both; only the sweep looks from outside, at what is atomic.
// Orig to hash are written before it is inserted and stay. It holds no pointer, lock or
// key, so that another process can go on with its memory (see Open).
type Conn struct {
	Orig, Reply header.Tuple // as the first packet of each direction comes in
	Kind        Kind
	Slot        uint8        // of the host address that the mapping is on
	nat         natHold      // of a masquerade mapping; changed under Table.lock
	listed      uint8        // in the list of this class minus one, 0: in none; guarded by Table.mu
	Port        frame.PortID // the container's
	Tenant      Tenant
	Came        uint16 // uplink that the first packet came in by, plus one; 0: none
	Turned      bool   // its outside end is another container behind the same address, or a second one
	hash        [2]atomic.Uint32

	// In the list of its tenant's flows of a class, or of free ones. Guarded by Table.mu.
	link share.Link

	Revision atomic.Uint32 // of what allowed it last
	Rule     atomic.Uint32 // that allowed it
	state    atomic.Uint32 // connState, assured and peered
	proof    atomic.Uint32 // what the beginner has to show, see assured
	lastOut  atomic.Uint32 // packet of the container, in units
	created  atomic.Int64  // ns
	lastSeen atomic.Int64
	packets  [2]atomic.Uint64 // of each direction
	bytes    [2]atomic.Uint64
	meter    Meter
	// rows of the flow table that carry the directions, and one; 0: none.
	rows [2]atomic.Uint32
	win  [2]tcpWindow // of the first side, of the other; guarded by Table.lock
}

// Towards returns the tuple a packet of the given direction leaves with.
func (c *Conn) Towards(reply bool) header.Tuple {
	if reply {
		return c.Orig.Reverse()
	}
	return c.Reply.Reverse()
}

// natHold is how a flow holds its masquerade port.
type natHold uint8

const (
	natNone  natHold = iota
	natHolds         // with all flows of its endpoint
	natOpens         // so, and strangers may come in
	natLends         // for its peer alone: others have the port for other peers
)

// Init makes a conn that was allocated that of a new flow: its first packet's tuple,
// why it is translated, and whose it is. It holds no port yet.
func (c *Conn) Init(orig header.Tuple, kind Kind, port frame.PortID, h Tenant) {
	c.Orig, c.Kind, c.Slot, c.nat, c.Port, c.Tenant, c.Came, c.Turned = orig, kind, 0, natNone, port, h, 0, false
}

// endpoint is the inside of the flow's mapping.
func (c *Conn) endpoint() endpoint {
	in := &c.Orig
	if c.Kind == KindInbound {
		in = &c.Reply
	}
	return endpoint{addr: in.Src, port: in.SrcPort, proto: in.Proto, slot: c.Slot}
}

// natPort is the outside port of the flow's mapping.
func (c *Conn) natPort() uint16 {
	if c.Kind == KindInbound {
		return c.Orig.DstPort
	}
	return c.Reply.DstPort
}

// Outbound reports whether packets of a direction are the container's.
func (c *Conn) Outbound(reply bool) bool {
	switch c.Kind {
	case KindMasquerade:
		return !reply
	case KindPublish, KindInbound:
		return reply
	}
	return true
}

// Begin sets the state for the first packet.
func (c *Conn) Begin(l *header.Layers, b []byte, now int64) { c.begin(l, b, 0, loosely, now) }

// BeginBack sets the state for the first packet that is seen of a flow which the other side began.
func (c *Conn) BeginBack(l *header.Layers, b []byte, now int64) { c.begin(l, b, 1, looselyBack, now) }

func (c *Conn) begin(l *header.Layers, b []byte, dir int, picked uint32, now int64) {
	c.blank(now)
	c.packets[dir].Store(1)
	c.bytes[dir].Store(uint64(len(b)))
	if c.Orig.Proto == header.ProtoTCP {
		seg := header.ReadSegment(b, l)
		if seg.Flags&header.TCPSYN == 0 {
			c.proof.Store(picked)
		}
		c.win[dir].learn(&c.win[1-dir], &seg)
	}
}

// blank leaves nothing of the flow that had the memory before.
func (c *Conn) blank(now int64) {
	c.created.Store(now)
	c.lastSeen.Store(now)
	c.lastOut.Store(units(now))
	for d := range c.win {
		c.packets[d].Store(0)
		c.bytes[d].Store(0)
		c.rows[d].Store(0)
		c.win[d] = tcpWindow{}
	}
	c.meter.rate.Store(0)
	c.proof.Store(0)
}

// Track notes a packet of the flow and says whether it may pass: all do but a TCP
// RST without the exact sequence number (RFC 5961 section 3).
func (c *Conn) Track(t *Table, r Ref, l *header.Layers, b []byte, now int64) bool {
	reply := r&1 == 1
	refresh := true
	switch {
	case c.Orig.Proto != header.ProtoTCP:
		switch st := c.st(); {
		case reply && st.halfOpen():
			c.proof.Store(units(now))
			c.become(t, r, st.answered(&c.Orig))
		case !reply:
			c.prove(t, r, now)
		}
		// Strangers do not keep a mapping alive (RFC 4787 REQ-6, RFC 7857
		// section 7).
		refresh = c.Kind != KindInbound || reply
	case l.Flags&header.FlagFragment == 0:
		ok := true
		if ok, refresh = c.trackTCP(t, r, l, b, reply, now); !ok {
			return false
		}
	}
	if frame.Observed {
		c.packets[r&1].Add(1)
		c.bytes[r&1].Add(uint64(len(b)))
	}
	if refresh {
		c.seen(reply, now)
	}
	return true
}

// become changes the state, and with it the class that the flow is in.
func (c *Conn) become(t *Table, r Ref, st connState) {
	var v uint32
	was := c.state.Load()
	for {
		if v = uint32(st); !st.reopens() {
			v |= was & assured
		}
		v |= was & peered
		if c.state.CompareAndSwap(was, v) {
			break
		}
		was = c.state.Load()
	}
	if classOf(was) != classOf(v) {
		t.reclass(r)
	}
	if closed := connState(was &^ stateFlags).closed(); closed != st.closed() {
		t.charge(c, closed)
	}
	if st.closed() {
		t.endRows(c)
	} else if was&told != 0 || st.reopens() && connState(was&^stateFlags).closed() {
		if was&told == 0 {
			t.Ended.tracked(c, connState(was&^stateFlags))
		}
		c.again(t.Ended.now())
		t.Begun.begun(c)
	}
	c.noteState(t)
}

// again makes a new flow of one that has ended: both count from where they begin.
func (c *Conn) again(now int64) {
	c.created.Store(now)
	for d := range c.packets {
		c.packets[d].Store(0)
		c.bytes[d].Store(0)
	}
	c.meter.rate.Store(0)
}

// expires is when the flow ends if it stays idle, in ns.
func (c *Conn) expires(t *Limits) int64 {
	st := c.st()
	at := c.lastSeen.Load() + t.of[st]
	class := c.class()
	switch {
	case st == stateUDP, st == stateUDPOnce:
		seen := c.lastSeen.Load()
		since := int64(int32(units(seen)-c.lastOut.Load())) << unitShift // another worker may be ahead
		at = min(at, seen-since+t.inbound)
	case class == classUnassured && c.Orig.Proto == header.ProtoTCP:
		// The handshake is not over (RFC 5382 REQ-5): who forged the SYN cannot end it.
		at = min(at, c.lastSeen.Load()+t.of[stateInit])
	}
	if t.opening == 0 {
		return at
	}
	switch class {
	case classHalfOpen, classUnassured:
		since := c.lastSeen.Load()
		switch { // SYNs that are sent again prove nothing
		case st == stateInit:
			since = c.created.Load()
		case st.reopens():
			since += int64(c.proof.Load()-units(since)) << unitShift
		}
		at = min(at, since+t.opening)
	}
	return at
}

// Mapped reports whether the mapping that a stranger came in by is still there.
// The container's first answer makes the flow one of those that hold it.
func (c *Conn) Mapped(t *Table, answer bool) bool {
	lock := t.lock(c)
	lock.Lock()
	defer lock.Unlock()
	if c.nat != natNone {
		return true
	}
	if answer {
		c.nat = t.nat.join(c.endpoint(), c.natPort())
		return c.nat != natNone
	}
	e, ok := t.nat.opened(c.Slot, c.Orig.Proto, c.Orig.DstPort)
	return ok && e == c.endpoint()
}

// Forged reports whether an error quotes a TCP segment that its sender cannot
// have sent lately: who is not on the path does not know the numbers. reply is
// the direction of the error; the quoted segment went the other way.
func (c *Conn) Forged(t *Table, b []byte, q *header.Layers, reply bool) bool {
	if q.Tuple.Proto != header.ProtoTCP || q.Kind != header.KindL4 {
		return false
	}
	lock := t.lock(c)
	lock.Lock()
	defer lock.Unlock()
	c.recall(t.rows)
	s, o := &c.win[1], &c.win[0]
	if reply {
		s, o = o, s
	}
	return !s.sentLately(o, header.QuotedSeq(b, q))
}

// GoesOn reports whether the flow has not ended: packets of both sides are to come, be they no more
// than acknowledgments.
func (c *Conn) GoesOn() bool {
	st := c.st()
	return st.carried() || st == stateUDP || st == stateUDPOnce
}

// HoldsPort reports whether the flow holds a mapping of masquerade. One that a
// stranger began does so once it was answered.
func (c *Conn) HoldsPort() bool { return c.nat != natNone }

// State is the word for the flow's state.
func (c *Conn) State() string { return stateNames[c.st()] }
