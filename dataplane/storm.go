package dataplane

import "github.com/vswitch/vswitch/dataplane/frame"

const (
	stormRate  = 1000 // flooded frames a second from one port
	stormBurst = 2000
	// stormPorts is in how many ports a flooded frame may end at that rate. In a
	// larger network each costs as much more: with 2,000 ports 1000 frames would be
	// two million a second.
	stormPorts = 64
	// stormSends is in how many ports all frames of a burst may end together.
	stormSends = 8 * stormBurst
)

// storm bounds what a port has flooded: one container must not keep all others
// busy, and a loop must not feed itself. Unicast to known stations and groups
// with members pass.
func (w *worker) storm(s *Snapshot) {
	keep := w.bridge[:0]
	for _, b := range w.bridge {
		if b.flooded && !w.mayFlood(b.f, s.ports[b.f.In]) {
			w.tell(s, EventStorm, b.f, frame.NoPort)
			w.drop(b.f, DropStorm)
			continue
		}
		if b.out == frame.NoPort {
			w.sw.flooded.note(b.f, w.now)
		}
		keep = append(keep, b)
	}
	w.bridge = keep
}

// flood is what a flooded frame costs of a port's credit, and how much of it the port may
// spend, in ns.
func (p *portConfig) flood() (cost, most int64) {
	ports := max(len(p.network.members), 1)
	cost = p.storm * int64(max(ports, stormPorts)) / stormPorts
	return cost, cost * int64(max(min(stormBurst, stormSends/ports), 1))
}

// mayFlood takes one frame from its port's credit. A super-frame counts as its
// segments.
func (w *worker) mayFlood(f *frame.Frame, in *portConfig) bool {
	e := w.sw.ports[f.In].Load()
	if e == nil || in.storm == 0 {
		return true
	}
	cost, most := in.flood()
	if size := int(f.Offload.GSOSize); size > 0 {
		cost = min(cost*int64(1+f.Len()/size), most)
	}
	return e.storms[w.id].take(w.now, cost, most)
}
