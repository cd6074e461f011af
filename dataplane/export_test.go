package dataplane

import (
	"fmt"
	"time"

	"github.com/vswitch/vswitch/dataplane/conntrack"
	"github.com/vswitch/vswitch/dataplane/flowmap"
	"github.com/vswitch/vswitch/dataplane/frame"
	"github.com/vswitch/vswitch/dataplane/header"
)

// EnterOffers is StepFlows, and returns the rows.
func (s *Switch) EnterOffers() (rows []*flowmap.Entry) {
	s.StepFlows()
	t := s.flows
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, r := range t.rows {
		rows = append(rows, t.entry(r))
	}
	return rows
}

// Sweep looks at the rows, as Tick does.
func (s *Switch) Sweep() { s.flows.sweep(s, s.now()) }

// OfferFrame offers the flow of a frame that comes in at a port.
func (s *Switch) OfferFrame(in frame.PortID, b []byte) {
	var l header.Layers
	if header.Parse(b, &l) {
		s.flows.offers <- flowID{in: in, dst: l.Dst, src: l.Src, tuple: l.Tuple}
	}
}

// CheckEntries says what is wrong with the flow table's bookkeeping: a pair of entries is
// free once, or one of its halves has a row or rests.
func (s *Switch) CheckEntries() error {
	t := s.flows
	t.mu.Lock()
	defer t.mu.Unlock()
	free, rests := make(map[uint32]bool), 0
	for _, n := range t.free {
		if free[n] {
			return fmt.Errorf("pair %d is free twice", n)
		}
		free[n] = true
	}
	rows := 0
	for n := range t.places {
		p := &t.places[n]
		o := &t.places[n^1]
		used := p.row != nil || p.rests || o.row != nil || o.rests
		switch {
		case used == free[uint32(n/2)]:
			return fmt.Errorf("pair %d: free %v, in use %v", n/2, free[uint32(n/2)], used)
		case p.row != nil && (p.rests || p.row.number != uint32(n) || t.rows[p.row.row.Key] != p.row):
			return fmt.Errorf("entry %d is not that of its row", n)
		case p.row != nil && o.row != nil && p.row.other != o.row.row.Key:
			return fmt.Errorf("entries %d and %d are no pair", n, n^1)
		}
		if p.row != nil {
			rows++
		}
		if p.rests {
			rests++
		}
	}
	if rows != len(t.rows) || rests != len(t.resting) {
		return fmt.Errorf("%d rows and %d resting entries, in the table %d and %d", len(t.rows), len(t.resting), rows, rests)
	}
	return nil
}

// Conns lists the tracked flows in no particular order.
func (s *Switch) Conns() []conntrack.Info { return readAll(s.ReadConns) }

// Flows lists the tracked flows, and the bridged ones.
func (s *Switch) Flows() []conntrack.Info {
	return append(s.Conns(), conntrack.MergeParts(readAll(s.ReadBridged))...)
}

func readAll(read func([]conntrack.Info, uint32) (int, uint32)) (list []conntrack.Info) {
	var page [3 * BridgedPage / 2]conntrack.Info
	for place := uint32(0); ; {
		n, next := read(page[:], place)
		list = append(list, page[:n]...)
		if place = next; place == 0 {
			return list
		}
	}
}

// Revision is that of the snapshot that turns begin with now.
func (s *Switch) Revision() uint64 { return s.snapshot.Load().revision }

// Pass is one pass of every worker over its hot ports and one of its queue, as between two
// glances at epoll; glance looks at epoll first. Time goes by in one that moves nothing.
func Pass(s *Switch, glance bool) int {
	n := 0
	for _, w := range s.workers {
		if glance {
			n += w.pollEvents(false)
		}
		n += w.pass()
	}
	if n == 0 {
		w, clock := s.workers[0], s.cfg.Clock
		clock.Add(int64(20 * time.Microsecond))
		w.now = clock.Load()
	}
	return n
}

// FloodMemory is how many chunks the workers keep of what is flooded.
func FloodMemory(s *Switch) (n int) {
	for _, w := range s.workers {
		n += floodChunks - w.flooding.mem.left
	}
	return n
}

// Waiting is how many chunks and next hops the waiting room keeps.
func Waiting(s *Switch) (frames, hops int) {
	room := s.waiting
	room.mu.Lock()
	defer room.mu.Unlock()
	return waitingChunks - room.mem.left, len(room.index)
}

// Deferred is how many chunks the deferred fragments take.
func Deferred(s *Switch) int {
	s.frags.mu.Lock()
	defer s.frags.mu.Unlock()
	return deferredChunks - s.frags.mem.left
}

// OwnerOf is the number of the worker that a port belongs to.
func OwnerOf(s *Switch, id frame.PortID) int { return s.ports[id].Load().owner.id }

// StepWorker is Step of one worker.
func StepWorker(s *Switch, id int) int { return s.workers[id].step() }

// Serve has a port's worker give it a turn, and returns what others let it pay for before,
// and by how much its credit has fallen.
func Serve(s *Switch, id frame.PortID) (debt, paid int64) {
	e := s.ports[id].Load()
	w := e.owner
	debt, paid = e.debt.Load(), w.sched.credit(id)
	w.serve(id)
	return debt, paid - w.sched.ports[id].credit
}

// BeginRound gives the ports of a port's worker another quantum.
func BeginRound(s *Switch, id frame.PortID) {
	w := s.ports[id].Load().owner
	w.sched.begin(w.now)
}

// Dear says how dear the last turns of a port were, and makes it as dear as a port may be.
func Dear(s *Switch, id frame.PortID) (was uint8) {
	p := &s.ports[id].Load().owner.sched.ports[id]
	was, p.dear = p.dear, dearMost
	return was
}

// NewcomerMemory is how many chunks the workers keep of newcomers.
func NewcomerMemory(s *Switch) (n int) {
	for _, w := range s.workers {
		n += newcomerChunks - w.newcomers.mem.left
	}
	return n
}

// IsGuest reports whether an address has had a connection with a published port.
func (s *Switch) IsGuest(a header.Addr) bool { return s.guests.has(&a) }

// HoldWays has everybody wait who looks for a way where all workers do, until the end of fn.
func (s *Switch) HoldWays(fn func()) {
	s.ways.mu.Lock()
	defer s.ways.mu.Unlock()
	fn()
}
