package dataplane

import (
	"sync/atomic"

	"github.com/vswitch/vswitch/dataplane/frame"
)

// portCounters are what one worker counts on one port. One writer, any number
// of readers; the padding keeps two workers off the same cache line.
type portCounters struct {
	rx, rxBytes, tx, txBytes atomic.Uint64
	drops                    [NumDropReasons]atomic.Uint64
	_                        [64]byte
}

// Stats are the counters of a switch at about one moment.
type Stats struct {
	Ports []PortStats
	// Drops are those of all ports since the switch was made, removed ports
	// included.
	Drops [NumDropReasons]uint64
	Conns int // tracked flows
	// HalfOpen are those of them that only one side wants.
	HalfOpen int
	Pressure Pressure // since the switch began
	Flows    FlowStats

	FDB       FDBStats
	Conntrack ConntrackStats
	Captures  CaptureStats
	Workers   []WorkerStats
}

// FDBStats say how full the forwarding database is.
type FDBStats struct {
	Learned, Static int
	Max             int    // learned entries that have room
	Moves           uint64 // of stations from port to port, since the switch was made
}

// ConntrackStats count the tracked flows by protocol.
type ConntrackStats struct {
	TCP, UDP, ICMP, Other int
	Max                   int // of all together
}

// CaptureStats count captures.
type CaptureStats struct {
	Running int
	Lost    uint64 // frames that a capture wanted and had no room for, since the switch was made
}

// FlowStats say what the kernel's flow table does.
type FlowStats struct {
	Rows   int    // flows whose frames the kernel carries, or soon will
	Active int    // of them, carried now
	Frames uint64 // carried since the switch began, super-frames as one
}

// Pressure counts what limits of the switch cost.
type Pressure struct {
	TableFull      uint64 // flows refused: conntrack is full of answered ones
	Evicted        uint64 // half-open flows that made room for new ones
	PortsExhausted uint64 // flows refused: no masquerade port is free
}

func (s *Switch) totalPressure() Pressure {
	return Pressure{
		TableFull: s.conntrack.full.Load(), Evicted: s.conntrack.gone.Load(), PortsExhausted: s.masq.full.Load(),
	}
}

// report tells control what was refused since the last tick (RFC 6888 REQ-11 c).
func (s *Switch) report() {
	s.conntrack.sweeping.Lock()
	was, is := s.pressure, s.totalPressure()
	s.pressure = is
	s.conntrack.sweeping.Unlock()
	if is != was && s.cfg.Pressure != nil {
		s.cfg.Pressure(Pressure{
			TableFull: is.TableFull - was.TableFull, Evicted: is.Evicted - was.Evicted,
			PortsExhausted: is.PortsExhausted - was.PortsExhausted,
		})
	}
}

// PortStats are the counters of one port since it was added. Rx is what came in
// from the device, Tx what the device took. Drops are frames that came in
// here, but for the egress reasons, which count where the frame should have
// gone.
type PortStats struct {
	ID                       frame.PortID
	Rx, RxBytes, Tx, TxBytes uint64
	KernelDrops              uint64
	Drops                    [NumDropReasons]uint64
}

// Stats reads the counters of every port.
func (s *Switch) Stats() Stats {
	st := Stats{Conns: s.conntrack.len(), HalfOpen: s.conntrack.halfOpen(), Pressure: s.totalPressure()}
	st.Flows = s.flows.stats(s)
	s.mu.Lock() // keeps KernelDrops off a port that is being closed
	defer s.mu.Unlock()
	st.FDB, st.Conntrack = s.fdb.stats(), s.conntrack.stats()
	st.Captures.Lost = s.lost
	for _, c := range s.captures() {
		st.Captures.Running++
		st.Captures.Lost += c.Dropped()
	}
	for _, w := range s.workers {
		st.Workers = append(st.Workers, w.load.stats(s.cfg.Now))
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
		for r := range p.Drops {
			p.Drops[r] += c.drops[r].Load()
		}
	}
	p.Drops[DropInvalidOffload] += e.port.InvalidDrops()
	return p
}

func (f *fdb) stats() FDBStats {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return FDBStats{Learned: f.learned, Static: f.static, Max: f.max, Moves: f.moves}
}

func (t *conntrack) stats() ConntrackStats {
	n := func(proto int) int { return int(t.length[proto].Load()) }
	return ConntrackStats{TCP: n(connTCP), UDP: n(connUDP), ICMP: n(connICMP), Other: n(connOther), Max: t.max}
}
