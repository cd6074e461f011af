package dataplane

import (
	"github.com/vswitch/vswitch/dataplane/frame"
	"github.com/vswitch/vswitch/dataplane/header"
)

// maxSends is how many frames a turn can have on its way out before it has to
// flush: a batch flooded to a few ports fits, to thousands it goes in parts.
const maxSends = 1024

// sendLists holds, for each port, what the turn sends there, in order: linked
// lists through one array, so that thousands of ports cost nothing.
type sendLists struct {
	links   [maxSends]sendLink
	used    int
	head    [MaxPorts]int16 // -1: empty
	tail    [MaxPorts]int16
	touched []frame.PortID
	vec     [frame.BatchSize]*frame.Frame
}

type sendLink struct {
	f    *frame.Frame
	next int16
}

func (o *sendLists) init() {
	for i := range o.head {
		o.head[i] = -1
	}
	o.touched = make([]frame.PortID, 0, maxSends)
}

// add puts a frame on a port's list. The frame is borrowed until flush.
func (o *sendLists) add(w *worker, id frame.PortID, f *frame.Frame) {
	if o.used == maxSends {
		w.flush()
	}
	w.left -= f.Offload.SendCost(f.Len())
	i := int16(o.used)
	o.used++
	o.links[i] = sendLink{f, -1}
	if o.head[id] < 0 {
		o.head[id] = i
		o.touched = append(o.touched, id)
	} else {
		o.links[o.tail[id]].next = i
	}
	o.tail[id] = i
	if w.mirror.on() {
		w.mirror.sentTo(f, id)
	}
}

// egress puts each frame on the list of its port; a flooded one on those of all
// ports that may have it, but the one it came from. When that costs too much for one turn
// the rest waits for the next, and all later ones after it, so that they stay in order.
func (w *worker) egress(s *Snapshot) {
	waits := false
	for i := range w.bridge {
		b := &w.bridge[i]
		if b.heard {
			w.hear(b.f)
		}
		switch {
		case waits && w.postpone(b, s):
		case waits && b.out == frame.NoPort:
			w.drop(b.f, DropStorm)
		case w.forward(b, s): // without room a frame for one station overtakes the flood
		case w.postpone(b, s):
			waits = true
		default:
			w.drop(b.f, DropStorm)
		}
	}
	for i := range w.routes {
		r := &w.routes[i]
		if r.heard {
			w.hear(r.f)
		}
		if r.asked {
			w.owe(r)
		}
		if r.pieces == 0 {
			w.out.add(w, r.out, r.f)
		}
		for j := range r.pieces {
			w.out.add(w, r.out, &w.spare.frames[r.first+j])
		}
	}
}

// hear counts what a frame of a flow that both sides want costs.
func (w *worker) hear(f *frame.Frame) {
	w.heard += frame.TakeCost(f.Len()) + f.Offload.SendCost(f.Len())
}

// owe lets a container pay for an answer that it provoked: a super-frame may be answered by a
// hundred resets, which come in at the port of all others' answers.
func (w *worker) owe(r *routed) {
	if e := w.sw.ports[r.out].Load(); e != nil {
		e.debt.Add(frame.TakeCost(r.f.Len()) + r.f.Offload.SendCost(r.f.Len()))
	}
}

// floods reports whether what is flooded from one port may leave by another.
func (s *Snapshot) floods(in, out *portConfig, f *frame.Frame, lists *listTable) bool {
	if out == nil || out.network != in.network || in.network.vlans && !out.carries(f.VLAN) {
		return false
	}
	if l := &f.Layers; out.Kind == PortHost && l.Kind >= header.KindIP && l.Dst.IsMulticast() && s.isLocal(l.Tuple.Dst) {
		return false // a host discards it (RFC 1122, 3.3.6), but Linux takes UDP
	}
	_, parted := s.parts(in, out, &f.Layers, lists)
	return !parted
}

// put hands a frame to a port, with a tag where the port wants one. p is nil for
// a port that has just left the snapshot.
func (w *worker) put(p *portConfig, id frame.PortID, f *frame.Frame) {
	if p != nil && p.trunk != nil {
		t := w.tags.tagged(f, p)
		if t == nil {
			w.drop(f, DropOversize)
			return
		}
		f = t
	}
	w.out.add(w, id, f)
}

// flush sends all lists, one call of the port for each batch of a list. What a
// device does not take is lost and counted there: to wait for one slow port
// would stop all others.
func (w *worker) flush() {
	o := &w.out
	for _, id := range o.touched {
		e := w.sw.ports[id].Load()
		for i := o.head[id]; i >= 0; {
			n := 0
			for ; i >= 0 && n < len(o.vec); i = o.links[i].next {
				o.vec[n] = o.links[i].f
				n++
			}
			if e == nil {
				w.portGone(o.vec[:n])
				continue
			}
			if w.mirror.on() {
				w.mirrorTx(id, o.vec[:n])
			}
			w.send(id, e, o.vec[:n])
		}
		o.head[id] = -1
	}
	o.touched = o.touched[:0]
	o.used = 0
	w.reply.used = 0
}

// send hands frames to a port and counts them.
func (w *worker) send(id frame.PortID, e *portEntry, frames []*frame.Frame) {
	bytes := 0
	for _, f := range frames {
		bytes += f.Len()
	}
	sent := e.port.Send(w.tx, frames)
	if !frame.Observed {
		return
	}
	c := &e.counters[w.id]
	c.tx.Add(uint64(sent))
	c.txBytes.Add(uint64(bytes))
	if lost := len(frames) - sent; lost > 0 {
		c.drops[DropDeviceFull].Add(uint64(lost))
		e.last.note(frames[sent], DropDeviceFull, w.now)
		for _, f := range frames[sent:] {
			if w.mirror.on() {
				w.mirrorDrop(f, id, DropDeviceFull)
			}
		}
	}
}

func (w *worker) portGone(frames []*frame.Frame) {
	for _, f := range frames {
		w.drop(f, DropPortGone)
	}
}
