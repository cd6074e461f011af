package dataplane

import (
	"github.com/vswitch/vswitch/dataplane/frame"
	"github.com/vswitch/vswitch/dataplane/header"
)

// flowCounter counts the frames of flows by hash, in sets of a cache line. In a full set a flow
// gives way that was silent for a while or has been offered, as those are that the kernel carries by
// now, or the one with the fewest frames: so of more flows that take turns than a set has room for all
// but one come to an end.
type flowCounter [2048][8]flowCount

type flowCount struct {
	hash  uint32
	count uint16
	seen  uint16 // in units of 134 ms
}

// silent is after how many units another flow may have the place: 2 s.
const silent = 15

// note counts a frame.
func (c *flowCounter) note(hash uint32, now int64) *flowCount {
	set, at := &c[hash%uint32(len(c))], uint16(now>>27)
	victim, fewest := &set[0], uint16(0xffff)
	for i := range set {
		e := &set[i]
		if e.hash == hash {
			e.count++
			e.seen = at
			return e
		}
		frames := e.count
		if at-e.seen > silent || frames >= flowWorth {
			frames = 0
		}
		if frames < fewest {
			victim, fewest = e, frames
		}
	}
	*victim = flowCount{hash, 1, at}
	return victim
}

// due reports whether the flow should be offered with this frame.
func (e *flowCount) due() bool { return e.count%flowAgain == flowWorth }

// offer is the stage that names flows worth a row of the kernel's flow table. What the
// row says is decided elsewhere (decide); here stay those of which that is known to
// say nothing. It drops nothing and changes nothing.
func (w *worker) offer(s *Snapshot) {
	t := w.sw.flows
	if t == nil {
		return
	}
	for i := range w.bridge {
		b := &w.bridge[i]
		if b.out == frame.NoPort || !flowable(&b.f.Layers) {
			continue
		}
		if out := s.ports[b.out]; out != nil && s.ports[b.f.In].plain && out.plain {
			w.offerFrame(t, b.f)
		}
	}
	for i := range w.routes {
		r := &w.routes[i]
		if !r.tracked || r.turned || r.cut > 0 || r.quoted != nil || r.f.Layers.Dst.IsMulticast() || !flowable(&r.f.Layers) {
			continue
		}
		if out := s.ports[r.out]; out != nil && r.in.carriesRouted() && out.carriesRouted() {
			if w.offerFrame(t, r.f); r.begins {
				w.enterEarly(t, i)
			}
		}
	}
}

// offerFrame offers the flow of a frame when it is due.
func (w *worker) offerFrame(t *flowTable, f *frame.Frame) {
	l := &f.Layers
	e := w.offers.note(w.reply.keys.Tuple(&l.Tuple), w.now)
	if !e.due() {
		return
	}
	select {
	case t.offers <- flowID{in: f.In, dst: l.Dst, src: l.Src, tuple: l.Tuple}:
	default:
		e.count-- // with its next frame
	}
}

// flowable reports whether a packet is of a kind that the kernel's programs know.
func flowable(l *header.Layers) bool {
	return l.Kind == header.KindL4 && (l.Tuple.Proto == header.ProtoTCP || l.Tuple.Proto == header.ProtoUDP) &&
		l.Flags&(header.FlagFragment|header.FlagFirstFragment|header.FlagOptions|header.FlagICMPError) == 0
}
