package dataplane

import (
	"github.com/vswitch/vswitch/dataplane/frame"
	"github.com/vswitch/vswitch/dataplane/header"
	"github.com/vswitch/vswitch/dataplane/share"
)

// deferredChunks is the memory for all deferred fragments, 4 MiB.
const deferredChunks = 8192

// deferredFragment is a copy of a fragment that waits for another of its datagram, without
// its bytes.
type deferredFragment struct {
	n       int // bytes, headroom included
	offload frame.Offload
	vlan    uint16
	of      int16 // context
	next    int32
	link    share.Link
}

// deferLocked copies a fragment of a context that has to wait. The first goes before those
// that came earlier: it is what begins a flow. When there is no room, the port that has
// most loses a datagram.
func (t *fragmentTable) deferLocked(w *worker, at int16, r *routed) DropReason {
	c, in, need := &t.ctx[at], int(r.f.In), chunksOf(len(r.f.Buf))
	for t.mem.left < need {
		oldest, tenant := t.shares.Victim(in)
		if oldest == 0 {
			t.shares.Refuse(in)
			c.bad = true // incomplete: the rest would be carried for nothing
			return DropFragment
		}
		t.shares.Gave(tenant)
		gives := &t.ctx[t.deferred[oldest-1].of]
		gives.bad = true
		t.discardLocked(w, gives, DropFragment, w.now)
	}
	if c.bad { // it gave itself
		return DropFragment
	}
	i := t.mem.keep(r.f.Buf)
	h := &t.deferred[i]
	*h = deferredFragment{n: len(r.f.Buf), offload: r.f.Offload, vlan: r.f.VLAN, of: at, next: -1}
	switch {
	case c.last < 0:
		c.deferred, c.last = i, i
	case r.f.Layers.Flags&header.FlagFirstFragment != 0:
		h.next, c.deferred = c.deferred, i
	default:
		t.deferred[c.last].next, c.last = i, i
	}
	t.shares.Enter(uint32(i)+1, in, 0, need*chunkSize)
	return deferred
}

// followUp puts the deferred fragments of a context after the batch, as borrowed
// copies in the worker's memory.
func (w *worker) followUp(t *fragmentTable, c *fragContext, r *routed) {
	for c.deferred >= 0 {
		h := &t.deferred[c.deferred]
		f := w.newFrame(h.n - frame.Headroom)
		if f == nil || len(w.routes) == cap(w.routes) {
			t.discardLocked(w, c, DropFragment, w.now)
			return
		}
		t.mem.read(c.deferred, f.Buf)
		f.In, f.Offload, f.VLAN = c.key.in, h.offload, h.vlan
		header.Parse(f.Data(), &f.Layers) // as it did when it came
		c.mark(f)
		w.routes = append(w.routes, routed{f: f, in: r.in, fragID: c.id, gathered: true})
		t.undeferLocked(c)
	}
}

// undeferLocked frees the oldest deferred fragment of a context.
func (t *fragmentTable) undeferLocked(c *fragContext) {
	i := c.deferred
	h := &t.deferred[i]
	if c.deferred = h.next; c.deferred < 0 {
		c.last = -1
	}
	t.shares.Leave(uint32(i)+1, int(c.key.in), 0, chunksOf(h.n)*chunkSize)
	t.mem.release(i)
}

// discardLocked drops what a context has deferred.
func (t *fragmentTable) discardLocked(w *worker, c *fragContext, why DropReason, now int64) {
	for c.deferred >= 0 {
		if h := &t.deferred[c.deferred]; w.sw.mirrors.Load() != nil {
			buf := make([]byte, h.n)
			t.mem.read(c.deferred, buf)
			w.sw.recordEnd(buf, h.offload, c.key.in, why, now)
		}
		t.undeferLocked(c)
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
	i, ok := t.index[fragKeyOf(l, f.In)]
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
