package dataplane

import (
	"sync/atomic"

	"github.com/vswitch/vswitch/dataplane/conntrack"
	"github.com/vswitch/vswitch/dataplane/flowmap"
	"github.com/vswitch/vswitch/dataplane/frame"
	"github.com/vswitch/vswitch/dataplane/header"
)

// dryRun is a switch of its own that decides as s would now and changes nothing
// of it: it shares the snapshot, which is immutable, and has private copies of
// the tables, or makes them entry by entry as they are read. It has no ports but
// one that counts, so that what it would send stays in its worker's lists. What it
// leaves out is the credit of storm control and of the rate of new flows, which
// only the workers know, and fragments of datagrams under way.
func (s *Switch) dryRun(in frame.PortID, src, dst header.MAC) (*Switch, error) {
	now := s.now()
	clock := new(atomic.Int64)
	clock.Store(now)
	plane := make(flowmap.ClaimPlane, flowmap.ClaimWords)
	for i := range plane {
		plane[i] = atomic.LoadUint64(&s.cfg.Masquerade[i])
	}
	o, err := New(Config{Workers: 1, Clock: clock, MaxConns: conntrack.DryRunRoom, MaxFDB: conntrack.DryRunRoom, Masquerade: plane})
	if err != nil {
		return nil, err
	}
	o.began, o.dry, o.ways = s.began, true, s.ways
	sn := s.snapshot.Load()
	o.snapshot.Store(sn)
	o.busy.Store(s.busy.Load())
	o.neigh.Store(s.neigh.Load().clone())
	o.lists.Store(s.lists.Load())
	o.groups = s.groups.Clone()
	o.fdb.SetStatic(sn.pinned, sn.hasNetwork)
	o.fdb.CopyFrom(s.fdb, src, dst)
	o.conntrack.DryRun(s.conntrack)
	e := &portEntry{counters: make([]portCounters, 1), storms: make([]credit, 1), births: make([]credit, 1)}
	for id := range s.ports {
		if s.ports[id].Load() != nil {
			o.ports[id].Store(e)
		}
	}
	if was := s.ports[in].Load(); was != nil { // the others' credit is not asked for
		e.storms[0].copyFrom(was.storms, now)
		e.births[0].copyFrom(was.births, now)
	}
	return o, nil
}

// end closes what New opened: the entry is not a port that could be closed.
func (s *Switch) end() {
	for id := range s.ports {
		s.ports[id].Store(nil)
	}
	_ = s.Close() // a poller without ports
}

func (t *neighborTable) clone() *neighborTable {
	c := &neighborTable{macs: make(map[NeighborKey]*neighbor, len(t.macs))}
	for k, n := range t.macs {
		c.macs[k] = &neighbor{mac: n.mac}
	}
	return c
}
