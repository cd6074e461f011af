package dataplane

import "github.com/vswitch/vswitch/dataplane/frame"

const (
	stormRate  = 1000 // flooded frames a second from one port
	stormBurst = 2000
	// stormPorts is in how many ports a flooded frame may end at that rate. In a
	// larger network each costs as much more: with 2,000 ports 1000 frames would be
	// two million a second.
	stormPorts = 64
)

// storm bounds what a port has flooded: one container must not keep all others
// busy, and a loop must not feed itself. Unicast to known stations and groups
// with members pass.
func (w *worker) storm(s *Snapshot) {
	keep := w.bridge[:0]
	for _, b := range w.bridge {
		if b.open && !w.mayFlood(b.f, s.ports[b.f.In]) {
			w.tell(s, EventStorm, b.f, frame.NoPort)
			w.drop(b.f, DropStorm)
			continue
		}
		keep = append(keep, b)
	}
	w.bridge = keep
}

// mayFlood takes one frame from its port's credit. A super-frame counts as its
// segments.
func (w *worker) mayFlood(f *frame.Frame, in *portConfig) bool {
	e := w.sw.ports[f.In].Load()
	if e == nil || in.storm == 0 {
		return true
	}
	cost := in.storm
	if size := int(f.Offload.GSOSize); size > 0 {
		cost *= int64(1 + f.Len()/size)
	}
	if n := len(in.network.members); n > stormPorts {
		cost = cost * int64(n) / stormPorts
	}
	return e.storms[w.id].take(w.now, cost, stormBurst*in.storm)
}
