package dataplane

import (
	"sync"
	"time"

	"github.com/vswitch/vswitch/dataplane/frame"
	"github.com/vswitch/vswitch/dataplane/header"
)

const (
	fragContexts = 2048
	fragTime     = 2 * time.Second
	fragEach     = 45 // 65535 bytes in pieces of 1480, and one
	// What one port may take of the table: a container a little, an uplink, which
	// brings the fragments for all of them, more.
	fragPort, fragUplink = 64, 512
)

// fragmentTable gives later fragments the ports of their first one ("virtual
// reassembly"): nothing is put together, so nothing can be overfilled. Fragments
// that overtake their first one are held as copies until it comes. SCTP is held until the
// last has come too where ports are published under other numbers: the checksum in the
// first can follow them only when the length of the whole is known. Its size is
// fixed, and a port that brings many fragments pushes out its own.
type fragmentTable struct {
	mu    sync.Mutex
	index map[fragKey]int16
	ctx   [fragContexts]fragContext
	free  []int16
	ports [MaxPorts]fragPortList
	held  [heldFrames]heldFrame
	slots []int16 // free ones of held
}

type fragKey struct {
	src, dst header.Addr
	id       uint32
	in       frame.PortID
	proto    uint8
}

type fragContext struct {
	key        fragKey
	src, dst   uint16 // ports, or the query identifier
	id         uint16 // that the packet leaves with when its source is translated
	first      bool   // the first fragment came: src and dst are valid
	known      bool   // and nothing has to wait any more
	bad        bool   // fragments contradicted each other: the rest is dropped
	since      int64  // ns
	total      int    // bytes of the datagram, 0: not known
	seen       int    // bytes
	pieces     [fragEach]fragPiece
	count      int
	held, last int16 // list of held frames, -1: none
	prev, next int16 // in the port's list, the oldest first
}

type fragPiece struct{ from, to uint16 }

type fragPortList struct {
	first, last int16
	count, held int16
}

func newFragmentTable() *fragmentTable {
	t := &fragmentTable{index: make(map[fragKey]int16, fragContexts)}
	for i := range int16(fragContexts) {
		t.free = append(t.free, i)
	}
	for i := range int16(heldFrames) {
		t.slots = append(t.slots, i)
	}
	for i := range t.ports {
		t.ports[i].first, t.ports[i].last = -1, -1
	}
	return t
}

// gather takes a fragment: it is given its ports and may go on, is held
// (deferred), or dropped. When it was the first, those that were held follow in
// w.routes.
func (w *worker) gather(r *routed, s *Snapshot) DropReason {
	t, f := w.sw.frags, r.f
	t.mu.Lock()
	defer t.mu.Unlock()
	i, why := t.openLocked(w, r)
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
		c.src, c.dst, c.first = l.Tuple.SrcPort, l.Tuple.DstPort, true
	}
	if !c.known {
		c.known = c.first && (c.total != 0 || l.Tuple.Proto != header.ProtoSCTP || !s.movesSCTP)
		if !c.known || !first {
			why = t.holdLocked(c, r) // behind the first, which waits too
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

// mark gives a fragment the ports of its datagram and the first the length of the rest.
func (c *fragContext) mark(f *frame.Frame) {
	l := &f.Layers
	l.Tuple.SrcPort, l.Tuple.DstPort = c.src, c.dst
	if l.Flags&header.FlagFirstFragment != 0 && c.total != 0 {
		_, to, _ := header.FragmentRange(f.Data(), l)
		l.Behind = uint16(c.total - to)
	}
}

// openLocked finds the context of a fragment, or makes one.
func (t *fragmentTable) openLocked(w *worker, r *routed) (int16, DropReason) {
	l := &r.f.Layers
	k := fragKey{l.Tuple.Src, l.Tuple.Dst, l.FragID, r.f.In, l.Tuple.Proto}
	if i, ok := t.index[k]; ok {
		if w.now-t.ctx[i].since <= int64(fragTime) {
			return i, NotDropped
		}
		t.discardLocked(w, &t.ctx[i], DropFragment, w.now)
		t.closeLocked(i)
	}
	list, limit := &t.ports[k.in], int16(fragPort)
	if r.in.Kind == PortUplink {
		limit = fragUplink
	}
	if list.count > 0 && (list.count >= limit || len(t.free) == 0) {
		oldest := list.first
		t.discardLocked(w, &t.ctx[oldest], DropFragment, w.now)
		t.closeLocked(oldest)
	}
	if len(t.free) == 0 {
		return -1, DropFragment
	}
	i := t.free[len(t.free)-1]
	t.free = t.free[:len(t.free)-1]
	t.ctx[i] = fragContext{key: k, since: w.now, id: w.sw.ids.next(&l.Tuple, 1), held: -1, last: -1, prev: list.last, next: -1}
	if list.last >= 0 {
		t.ctx[list.last].next = i
	} else {
		list.first = i
	}
	list.last = i
	list.count++
	t.index[k] = i
	return i, NotDropped
}

// add notes which bytes a fragment holds. Fragments that overlap or reach
// behind the last one spoil the datagram: two receivers could read it
// differently (RFC 5722, RFC 1858). A copy is dropped alone.
func (c *fragContext) add(f *frame.Frame) DropReason {
	from, to, more := header.FragmentRange(f.Data(), &f.Layers)
	if c.bad {
		return DropOverlap
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
	if c.count == fragEach {
		return DropFragment
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
	list := &t.ports[c.key.in]
	if c.prev >= 0 {
		t.ctx[c.prev].next = c.next
	} else {
		list.first = c.next
	}
	if c.next >= 0 {
		t.ctx[c.next].prev = c.prev
	} else {
		list.last = c.prev
	}
	list.count--
	delete(t.index, c.key)
	t.free = append(t.free, i)
}

// expire drops contexts that are too old; w counts what they held.
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
