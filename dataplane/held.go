package dataplane

import (
	"github.com/vswitch/vswitch/dataplane/frame"
	"github.com/vswitch/vswitch/dataplane/header"
)

const (
	heldFrames = 256
	heldSize   = frame.Headroom + 2048
	// What a container's port and an uplink may have of them.
	heldPort, heldLink = 32, 128
)

// heldFrame is a copy of a fragment that waits for another of its datagram.
type heldFrame struct {
	buf     [heldSize]byte // owned
	n       int
	offload frame.Offload
	vlan    uint16
	next    int16
}

// holdLocked copies a fragment that has to wait. The first goes before those that came
// earlier: it is what begins a flow.
func (t *fragmentTable) holdLocked(c *fragContext, r *routed) DropReason {
	list, limit := &t.ports[r.f.In], int16(heldPort)
	if r.in.Kind == PortUplink {
		limit = heldLink
	}
	if list.held >= limit || len(t.slots) == 0 || len(r.f.Buf) > heldSize {
		c.bad = true // incomplete: the rest would be carried for nothing
		return DropFragment
	}
	i := t.slots[len(t.slots)-1]
	t.slots = t.slots[:len(t.slots)-1]
	h := &t.held[i]
	h.n, h.offload, h.vlan, h.next = copy(h.buf[:], r.f.Buf), r.f.Offload, r.f.VLAN, -1
	switch {
	case c.last < 0:
		c.held, c.last = i, i
	case r.f.Layers.Flags&header.FlagFirstFragment != 0:
		h.next, c.held = c.held, i
	default:
		t.held[c.last].next, c.last = i, i
	}
	list.held++
	return deferred
}

// followUp puts the held fragments of a context behind the batch, as borrowed
// copies in the worker's memory.
func (w *worker) followUp(t *fragmentTable, c *fragContext, r *routed) {
	for c.held >= 0 {
		h := &t.held[c.held]
		f := w.newFrame(h.n - frame.Headroom)
		if f == nil || len(w.routes) == cap(w.routes) {
			t.discardLocked(w, c, DropFragment, w.now)
			return
		}
		copy(f.Buf, h.buf[:h.n])
		f.In, f.Offload, f.VLAN = c.key.in, h.offload, h.vlan
		header.Parse(f.Data(), &f.Layers) // as it did when it came
		c.mark(f)
		w.routes = append(w.routes, routed{f: f, in: r.in, fragID: c.id, gathered: true})
		t.unholdLocked(c)
	}
}

// unholdLocked frees the oldest held frame of a context.
func (t *fragmentTable) unholdLocked(c *fragContext) {
	i := c.held
	c.held = t.held[i].next
	if c.held < 0 {
		c.last = -1
	}
	t.held[i].n = 0
	t.slots = append(t.slots, i)
	t.ports[c.key.in].held--
}

// discardLocked drops what a context holds.
func (t *fragmentTable) discardLocked(w *worker, c *fragContext, why DropReason, now int64) {
	for c.held >= 0 {
		h := &t.held[c.held]
		w.sw.recordEnd(h.buf[:h.n], h.offload, c.key.in, why, now)
		t.unholdLocked(c)
		w.count(c.key.in, why)
	}
}

// forget takes a fragment back that will come by once more, from the waiting
// room: it is no copy of itself.
func (t *fragmentTable) forget(f *frame.Frame) {
	l := &f.Layers
	if l.Flags&(header.FlagFragment|header.FlagFirstFragment) == 0 {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	i, ok := t.index[fragKey{l.Tuple.Src, l.Tuple.Dst, l.FragID, f.In, l.Tuple.Proto}]
	if !ok {
		return
	}
	c := &t.ctx[i]
	from, to, _ := header.FragmentRange(f.Data(), l)
	for j, p := range c.pieces[:c.count] {
		if int(p.from) == from && int(p.to) == to {
			c.seen -= to - from
			c.count--
			c.pieces[j] = c.pieces[c.count]
			return
		}
	}
}
