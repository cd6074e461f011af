package dataplane

import (
	"sync/atomic"

	"github.com/vswitch/vswitch/dataplane/header"
)

// neighborTable maps next hops to their MAC addresses; it is the kernel's
// table, copied by control, and replaced as a whole.
type neighborTable struct {
	macs map[NeighborKey]*neighbor
}

type neighbor struct {
	mac  header.MAC
	used atomic.Bool // since confirm asked last
}

// renew makes a table out of the kernel's. Next hops that have not moved stay as they
// are; changed says whether there are others.
func (t *neighborTable) renew(macs map[NeighborKey]header.MAC) (fresh *neighborTable, changed bool) {
	fresh = &neighborTable{macs: make(map[NeighborKey]*neighbor, len(macs))}
	kept := 0
	for k, m := range macs {
		n := t.macs[k]
		if n == nil || n.mac != m {
			n = &neighbor{mac: m}
		} else {
			kept++
		}
		fresh.macs[k] = n
	}
	return fresh, kept != len(macs) || kept != len(t.macs)
}

// use notes that frames go to a next hop, so that the kernel is asked to confirm it.
func (n *neighbor) use() {
	if n != nil && !n.used.Load() {
		n.used.Store(true)
	}
}

// SetNeighbors replaces the table of next hops and sends what waited for one. Calls must
// not overlap.
func (s *Switch) SetNeighbors(macs map[NeighborKey]header.MAC) {
	t, changed := s.neigh.Load().renew(macs)
	if changed {
		s.neigh.Store(t)
		s.grace()
		s.flows.revalidate(s, func(r *flowRow) bool { return r.routed })
	}
	if s.waiting.release(func(a *awaited) bool { return t.macs[a.hop] != nil }) {
		s.workers[0].poller.Wake()
	}
}
