package dataplane

import (
	"sync"
	"time"

	"github.com/vswitch/vswitch/dataplane/frame"
	"github.com/vswitch/vswitch/dataplane/header"
	"github.com/vswitch/vswitch/dataplane/share"
)

const (
	fragContexts = 2048
	fragTime     = 2 * time.Second
	// fragEach is how many pieces a datagram may have. 65,535 bytes over a path of
	// MTU 576, the least that every host takes (RFC 791), are 119.
	fragEach = 128
)

// fragmentTable gives later fragments the ports of their first one ("virtual
// reassembly"): nothing is put together, so nothing can be overfilled. Fragments
// that overtake their first one are deferred as copies until it comes. SCTP is deferred until the
// last has come too where ports are published under other numbers: the checksum in the
// first can follow them only when the length of the whole is known. Its size is
// fixed; ports share it, and when there is no room the one that has most gives.
type fragmentTable struct {
	mu     sync.Mutex
	index  map[fragKey]int16
	ctx    [fragContexts]fragContext
	free   []int16
	owners *share.Table // of the contexts; class 0 still waits for its first fragment

	mem      *chunks // of deferred fragments
	deferred []deferredFragment
	shares   *share.Table // of the memory
}

// fragOwners and fragShares are what the shares are of.
type (
	fragOwners fragmentTable
	fragShares fragmentTable
)

func (t *fragOwners) Link(i uint32) *share.Link { return &t.ctx[i-1].link }
func (t *fragOwners) Seen(uint32) uint32        { return 0 }
func (t *fragShares) Link(i uint32) *share.Link { return &t.deferred[i-1].link }
func (t *fragShares) Seen(uint32) uint32        { return 0 }

type fragKey struct {
	src, dst header.Addr
	id       uint32
	in       frame.PortID
	proto    uint8 // of IPv4: of IPv6 each fragment may name another one (RFC 8200, 4.5)
}

func fragKeyOf(l *header.Layers, in frame.PortID) fragKey {
	k := fragKey{src: l.Tuple.Src, dst: l.Tuple.Dst, id: l.FragID, in: in}
	if l.Tuple.Src.Is4() {
		k.proto = l.Tuple.Proto
	}
	return k
}

type fragContext struct {
	key            fragKey
	src, dst       uint16 // ports, or the query identifier
	proto          uint8
	id             uint16 // that the packet leaves with when its source is translated
	first          bool   // the first fragment came: src and dst are valid
	known          bool   // and nothing has to wait any more
	bad            bool   // fragments contradicted each other: the rest is dropped
	since          int64  // ns
	total          int    // bytes of the datagram, 0: not known
	seen           int    // bytes
	pieces         [fragEach]fragPiece
	count          int
	deferred, last int32 // list of deferred fragments, -1: none
	link           share.Link
}

type fragPiece struct{ from, to uint16 }

func newFragmentTable() *fragmentTable {
	t := &fragmentTable{
		index: make(map[fragKey]int16, fragContexts),
		mem:   newChunks(deferredChunks), deferred: make([]deferredFragment, deferredChunks),
	}
	for i := range int16(fragContexts) {
		t.free = append(t.free, i)
	}
	t.owners = share.New((*fragOwners)(t), MaxPorts, 0, 0)
	t.shares = share.New((*fragShares)(t), MaxPorts, 0)
	return t
}

// gather takes a fragment: it is given its ports and may go on, it waits
// (deferred), or it is dropped. When it was the first, the deferred ones follow in
// w.routes.
func (w *worker) gather(r *routed, s *Snapshot) DropReason {
	t, f := w.sw.frags, r.f
	t.mu.Lock()
	defer t.mu.Unlock()
	i, why := t.contextLocked(w, r)
	if why != NotDropped {
		return why
	}
	c := &t.ctx[i]
	if why := c.add(f); why != NotDropped {
		if c.bad {
			t.discardLocked(w, c, DropOverlap, w.now)
		}
		return why
	}
	l := &f.Layers
	first := l.Flags&header.FlagFirstFragment != 0
	if first {
		c.src, c.dst, c.proto, c.first = l.Tuple.SrcPort, l.Tuple.DstPort, l.Tuple.Proto, true
	}
	if !c.known {
		if c.known = c.first && (c.total != 0 || c.proto != header.ProtoSCTP || !s.movesSCTP); c.known {
			t.owners.Move(uint32(i)+1, int(f.In), 0, 1)
		}
		if !c.known || !first {
			why = t.deferLocked(w, i, r) // after the first, which waits too
		}
		switch {
		case c.bad:
			t.discardLocked(w, c, DropFragment, w.now)
		case c.known:
			w.followUp(t, c, r)
		}
	}
	if why == NotDropped {
		c.mark(f)
		r.fragID = c.id
	}
	if c.seen == c.total && c.known {
		t.closeLocked(i)
	}
	return why
}

// mark gives a fragment the protocol and ports of its datagram's first one, and that the
// length of the rest.
func (c *fragContext) mark(f *frame.Frame) {
	l := &f.Layers
	l.Tuple.SrcPort, l.Tuple.DstPort, l.Tuple.Proto = c.src, c.dst, c.proto
	if l.Flags&header.FlagFirstFragment != 0 && c.total != 0 {
		_, to, _ := header.FragmentRange(f.Data(), l)
		l.Behind = uint16(c.total - to)
	}
}

// contextLocked finds the context of a fragment, or makes one.
func (t *fragmentTable) contextLocked(w *worker, r *routed) (int16, DropReason) {
	l := &r.f.Layers
	k := fragKeyOf(l, r.f.In)
	if i, ok := t.index[k]; ok {
		if w.now-t.ctx[i].since <= int64(fragTime) {
			return i, NotDropped
		}
		t.discardLocked(w, &t.ctx[i], DropFragment, w.now)
		t.closeLocked(i)
	}
	for len(t.free) == 0 {
		oldest, tenant := t.owners.Victim(int(k.in))
		if oldest == 0 {
			t.owners.Refuse(int(k.in))
			return -1, DropFragment
		}
		t.owners.Gave(tenant)
		t.discardLocked(w, &t.ctx[oldest-1], DropFragment, w.now)
		t.closeLocked(int16(oldest - 1))
	}
	i := t.free[len(t.free)-1]
	t.free = t.free[:len(t.free)-1]
	t.ctx[i] = fragContext{key: k, since: w.now, id: w.sw.ids.Next(&l.Tuple, 1), deferred: -1, last: -1}
	t.owners.Enter(uint32(i)+1, int(k.in), 0, 1)
	t.index[k] = i
	return i, NotDropped
}

// add notes which bytes a fragment holds. Fragments that overlap or reach
// beyond the last one spoil the datagram: two receivers could read it
// differently (RFC 5722, RFC 1858). A copy is dropped alone.
func (c *fragContext) add(f *frame.Frame) DropReason {
	from, to, more := header.FragmentRange(f.Data(), &f.Layers)
	switch {
	case c.bad:
		return DropOverlap
	case c.count == fragEach: // before it is compared with the others
		return DropFragment
	}
	for _, p := range c.pieces[:c.count] {
		if from == int(p.from) && to == int(p.to) {
			return DropOverlap
		}
		c.bad = c.bad || from < int(p.to) && int(p.from) < to || !more && int(p.to) > to
	}
	if c.total != 0 && (to > c.total || !more && to != c.total) {
		c.bad = true
	}
	if c.bad {
		return DropOverlap
	}
	c.pieces[c.count] = fragPiece{uint16(from), uint16(to)}
	c.count++
	c.seen += to - from
	if !more {
		c.total = to
	}
	return NotDropped
}

// closeLocked frees a context that holds nothing.
func (t *fragmentTable) closeLocked(i int16) {
	c := &t.ctx[i]
	class := 0
	if c.known {
		class = 1
	}
	t.owners.Leave(uint32(i)+1, int(c.key.in), class, 1)
	delete(t.index, c.key)
	t.free = append(t.free, i)
}

// expire drops contexts that are too old; w counts what they deferred.
func (t *fragmentTable) expire(now int64, w *worker) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, i := range t.index {
		if c := &t.ctx[i]; now-c.since > int64(fragTime) {
			t.discardLocked(w, c, DropFragment, now)
			t.closeLocked(i)
		}
	}
}
