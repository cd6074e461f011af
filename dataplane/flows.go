package dataplane

import (
	"sync/atomic"
	"time"

	"github.com/vswitch/vswitch/dataplane/conntrack"
	"github.com/vswitch/vswitch/dataplane/flowmap"
	"github.com/vswitch/vswitch/dataplane/frame"
	"github.com/vswitch/vswitch/dataplane/header"
)

// ReadConns fills page with the tracked flows from a place on and returns how many they
// are, and the place of the next page: 0 when there is none. Place 0 is the first. A flow
// that lives from the first page to the last is told once. Workers wait for the copy of
// one flow at most.
func (s *Switch) ReadConns(page []conntrack.Info, place uint32) (n int, next uint32) {
	n, next = s.conntrack.Read(page, place, s.now(), &s.snapshot.Load().timeouts)
	s.noteCarried(page[:n])
	return n, next
}

// ReadBridged is ReadConns for the bridged flows of the last minute, of which each worker
// remembers 4096; busy ones stay. The flows of station rows come after them. A flow is told once for each worker that has seen it,
// and conntrack.MergeParts makes one of these. A page shorter than BridgedPage is refused
// as the end.
func (s *Switch) ReadBridged(page []conntrack.Info, place uint32) (n int, next uint32) {
	now, stations := s.now(), uint32(len(s.workers)*accountParts)
	if place == 0 {
		s.stations.sweep(s, now, false)
	}
	defer func() { s.noteCarried(page[:n]) }()
	for ; len(page) >= BridgedPage; place++ {
		worker, part := int(place/accountParts), int(place%accountParts)
		if worker >= len(s.workers) {
			if next = s.stations.each(place-stations, func(e *stationFlow, carries bool) bool {
				if n == len(page) {
					return false
				}
				if page[n] = e.info(now); carries {
					page[n].Carried = max(1, time.Duration(now-e.since))
				}
				n++
				return true
			}); next != 0 {
				next += stations
			}
			return n, next
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
	state, closed := conntrack.StateSeen(e.tuple.Proto, e.flags, e.packets[1] > 0)
	return conntrack.Info{
		Orig: e.tuple, Reply: e.tuple.Reverse(), Kind: conntrack.KindBridged, Port: e.ports[0], Other: e.ports[1],
		State: state, Packets: e.packets, Bytes: e.bytes, Rate: e.meter.Rate(), Created: e.created, Closed: closed,
		Age: time.Duration(now - e.created), Idle: time.Duration(now - e.seen),
	}
}

func (e *bridgedFlow) closed() bool {
	_, closed := conntrack.StateSeen(e.tuple.Proto, e.flags, true)
	return closed
}

// RecordFlows begins or stops to remember flows that have ended, for EndedFlows, and flows that
// have begun, for BegunFlows.
func (s *Switch) RecordFlows(ended, begun bool) {
	for log, on := range map[*conntrack.Log]bool{&s.conntrack.Ended: ended, &s.conntrack.Begun: begun} {
		if log.On() != on {
			log.Record(on)
		}
	}
}

// EndedFlows appends the flows that have ended since the last call to list and
// says how many more had no room. Their Age is that at the last packet. One that its ends have
// closed has ended, though it is remembered for late packets.
func (s *Switch) EndedFlows(list []conntrack.Info) ([]conntrack.Info, uint64) {
	return s.conntrack.Ended.Take(list)
}

// BegunFlows is EndedFlows for flows that have begun.
func (s *Switch) BegunFlows(list []conntrack.Info) ([]conntrack.Info, uint64) {
	return s.conntrack.Begun.Take(list)
}

// bridgedEnded takes a bridged flow that gives way or was idle for too long.
func (s *Switch) bridgedEnded(e *bridgedFlow) { s.bridgedTold(e, &s.conntrack.Ended) }

// bridgedBegun takes a bridged flow whose first packet has come.
func (s *Switch) bridgedBegun(e *bridgedFlow) { s.bridgedTold(e, &s.conntrack.Begun) }

func (s *Switch) bridgedTold(e *bridgedFlow, log *conntrack.Log) {
	if e.created == 0 || !log.On() {
		return
	}
	i := e.info(s.now())
	log.Put(&i)
}

// noteCarried says of flows for how long the kernel has carried them.
func (s *Switch) noteCarried(list []conntrack.Info) {
	t, snapshot := s.flows, s.snapshot.Load()
	if t == nil || t.count.Load() == 0 {
		return
	}
	now := s.now()
	t.mu.Lock()
	defer t.mu.Unlock()
	for i := range list {
		f := &list[i]
		for _, tuple := range [...]*header.Tuple{&f.Orig, &f.Reply} {
			for _, side := range [...]frame.PortID{f.Port, f.Other, frame.NoPort} {
				from := &portConfig{PortConfig: PortConfig{Kind: PortUplink}}
				if side != frame.NoPort {
					if from = snapshot.ports[side]; from == nil {
						continue
					}
				}
				r := t.rows[from.keyOf(tuple)]
				if r != nil && atomic.LoadUint32(&t.entry(r).State) == flowmap.Active {
					f.Carried = max(f.Carried, time.Duration(now-r.since), 1)
				}
			}
		}
	}
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
