package dataplane

import (
	"time"

	"github.com/vswitch/vswitch/dataplane/conntrack"
	"github.com/vswitch/vswitch/dataplane/header"
)

// ReadConns fills page with the tracked flows from a place on and returns how many they
// are, and the place of the next page: 0 when there is none. Place 0 is the first. A flow
// that lives from the first page to the last is told once. Workers wait for the copy of
// one flow at most.
func (s *Switch) ReadConns(page []conntrack.Info, place uint32) (n int, next uint32) {
	return s.conntrack.Read(page, place, s.now(), &s.snapshot.Load().timeouts)
}

// ReadBridged is ReadConns for the bridged flows of the last minute, of which each worker
// remembers 4096; busy ones stay. A flow is told once for each worker that has seen it,
// and conntrack.MergeParts makes one of these. A page shorter than BridgedPage is refused
// as the end.
func (s *Switch) ReadBridged(page []conntrack.Info, place uint32) (n int, next uint32) {
	now := s.now()
	for ; len(page) >= BridgedPage; place++ {
		worker, part := int(place/accountParts), int(place%accountParts)
		if worker >= len(s.workers) {
			break
		}
		if len(page)-n < BridgedPage {
			return n, place
		}
		s.workers[worker].accounts.each(part, func(e *bridgedFlow) {
			page[n] = e.info(now)
			n++
		})
	}
	return n, 0
}

func (e *bridgedFlow) info(now int64) conntrack.Info {
	return conntrack.Info{
		Orig: e.tuple, Reply: e.tuple.Reverse(), Kind: conntrack.KindBridged, Port: e.ports[0], Other: e.ports[1],
		State: conntrack.StateSeen(e.tuple.Proto, e.flags, e.packets[1] > 0), Packets: e.packets, Bytes: e.bytes, Rate: e.meter.Rate(),
		Created: e.created, Closed: e.flags&(header.TCPFIN|header.TCPRST) != 0,
		Age: time.Duration(now - e.created), Idle: time.Duration(now - e.seen),
	}
}

// RecordFlows begins or stops to remember flows that have ended, for EndedFlows.
func (s *Switch) RecordFlows(on bool) { s.conntrack.Ended.Record(on) }

// EndedFlows appends the flows that have ended since the last call to list and
// says how many more had no room. Their Age is that at the last packet.
func (s *Switch) EndedFlows(list []conntrack.Info) ([]conntrack.Info, uint64) {
	return s.conntrack.Ended.Take(list)
}

// bridgedEnded takes a bridged flow that gives way or was idle for too long.
func (s *Switch) bridgedEnded(e *bridgedFlow) {
	if e.created == 0 || !s.conntrack.Ended.On() {
		return
	}
	i := e.info(s.now())
	s.conntrack.Ended.Put(&i)
}

// FlushConns forgets the flows of a selector and returns how many.
func (s *Switch) FlushConns(which conntrack.Selector) int {
	s.flows.sweep(s, s.now()) // what the kernel carried belongs to the flows that end
	n := s.conntrack.Flush(&which)
	s.grace()
	s.flows.revalidate(s, func(r *flowRow) bool { return r.routed })
	return n
}

// NATPorts counts the masquerade ports of a claim slot. It takes no lock that a
// worker waits for; the numbers are of about one moment.
func (s *Switch) NATPorts(slot int) conntrack.NATPortStats {
	return s.conntrack.NATPorts(slot, s.snapshot.Load().pool, s.busy.Load())
}
