package dataplane

import (
	"sync/atomic"
	"time"

	"github.com/vswitch/vswitch/dataplane/conntrack"
	"github.com/vswitch/vswitch/dataplane/fdb"
	"github.com/vswitch/vswitch/dataplane/frame"
)

// portCounters are what one worker counts on one port. One writer, any number
// of readers; the padding keeps two workers off the same cache line.
type portCounters struct {
	rx, rxBytes, tx, txBytes atomic.Uint64
	cost                     atomic.Uint64 // ns of turns, as the scheduler counts them
	drops                    [NumDropReasons]atomic.Uint64
	_                        [64]byte
}

// Stats are the counters of a switch at about one moment.
type Stats struct {
	Ports []PortStats
	// Drops are of all ports since the switch was made, removed ports
	// included.
	Drops [NumDropReasons]uint64
	Conns int // tracked flows
	// HalfOpen is how many of them only one side wants.
	HalfOpen int
	Pressure conntrack.Pressure // since the switch began
	Flows    FlowStats

	FDB       fdb.Stats
	Conntrack conntrack.Stats
	Captures  CaptureStats
	Workers   []WorkerStats
}

// CaptureStats count captures.
type CaptureStats struct {
	Running int
	Lost    uint64 // frames that a capture wanted and had no room for, since the switch was made
}

// FlowStats say what the kernel's flow table does.
type FlowStats struct {
	Rows   int    // flows whose frames the kernel carries, or soon will, by direction
	Active int    // of them, carried now
	Frames uint64 // carried since the switch began, super-frames as one
	// Stations have rows, by which the frames between them are carried from the first one on;
	// Between is how many flows there are by these, which count above as well, and Untold the
	// frames of those for which there was no room among them.
	Stations, Between int
	Untold            uint64
}

// PortStats are the counters of one port since it was added. Rx is what came in
// from the device, Tx what the device took. Drops are frames that came in
// here, except with the egress reasons, which count where the frame should have
// gone.
type PortStats struct {
	ID                       frame.PortID
	Rx, RxBytes, Tx, TxBytes uint64
	// Cost is what the port's turns have cost, as the scheduler counts: a model of the
	// worker's time (frame.SendCost), not a measurement.
	Cost        time.Duration
	KernelDrops uint64
	Drops       [NumDropReasons]uint64
}

// Stats reads the counters of every port.
func (s *Switch) Stats() Stats {
	st := Stats{Conns: s.conntrack.Len(), HalfOpen: s.conntrack.HalfOpen(), Pressure: s.conntrack.Pressure()}
	st.Flows = s.flows.stats(s)
	s.stations.stats(s, &st.Flows)
	s.mu.Lock() // keeps KernelDrops off a port that is being closed
	defer s.mu.Unlock()
	st.FDB, st.Conntrack = s.fdb.Stats(), s.conntrack.Stats()
	st.Captures.Lost = s.lost
	for _, c := range s.captures() {
		st.Captures.Running++
		st.Captures.Lost += c.ring.ctl.lost.Load()
	}
	for _, w := range s.workers {
		st.Workers = append(st.Workers, w.load.stats(s.now))
	}
	st.Drops = s.retired
	for id := range s.ports {
		e := s.ports[id].Load()
		if e == nil {
			continue
		}
		p := e.stats(frame.PortID(id))
		for r, n := range p.Drops {
			st.Drops[r] += n
		}
		st.Ports = append(st.Ports, p)
	}
	return st
}

// stats sums the counters of all workers.
func (e *portEntry) stats(id frame.PortID) PortStats {
	p := PortStats{ID: id, KernelDrops: e.port.KernelDrops()}
	for i := range e.counters {
		c := &e.counters[i]
		p.Rx += c.rx.Load()
		p.RxBytes += c.rxBytes.Load()
		p.Tx += c.tx.Load()
		p.TxBytes += c.txBytes.Load()
		p.Cost += time.Duration(c.cost.Load())
		for r := range p.Drops {
			p.Drops[r] += c.drops[r].Load()
		}
	}
	p.Drops[DropInvalidOffload] += e.port.InvalidDrops()
	return p
}

// FDB lists the forwarding database in no particular order.
func (s *Switch) FDB() []fdb.Entry { return s.fdb.Entries(s.now()) }
