package dataplane

import (
	"sync/atomic"

	"github.com/vswitch/vswitch/dataplane/frame"
	"github.com/vswitch/vswitch/dataplane/header"
)

// neighborTable maps next hops to their MAC addresses; it is the kernel's
// table, copied by control, and replaced as a whole.
type neighborTable struct {
	macs map[NeighborKey]*neighbor
}

type neighbor struct {
	mac  header.MAC
	used atomic.Bool // since the resolver looked last
}

func newNeighborTable(macs map[NeighborKey]header.MAC) *neighborTable {
	t := &neighborTable{macs: make(map[NeighborKey]*neighbor, len(macs))}
	for k, m := range macs {
		t.macs[k] = &neighbor{mac: m}
	}
	return t
}

// neighbor returns the MAC address of a next hop.
func (w *worker) neighbor(uplink frame.PortID, next header.Addr) (header.MAC, bool) {
	n := w.sw.neigh.Load().macs[NeighborKey{uplink, next}]
	if n == nil {
		return header.MAC{}, false
	}
	if !n.used.Load() {
		n.used.Store(true)
	}
	return n.mac, true
}

// SetNeighbors replaces the table of next hops and sends what waited for one.
func (s *Switch) SetNeighbors(macs map[NeighborKey]header.MAC) {
	t := newNeighborTable(macs)
	s.neigh.Store(t)
	s.flows.flush(s, func(r *flowRow) bool { return r.routed })
	if s.waiting.release(t) {
		s.workers[0].poller.Wake()
	}
}
