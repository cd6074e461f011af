package dataplane

import (
	"time"

	"github.com/vswitch/vswitch/dataplane/frame"
)

const (
	// turnLimit is what one turn may cost, in ns as frame.SendCost counts. Where several
	// ports have frames they share turnRound, so that all of them come round often; with
	// less than turnLeast a turn would be mostly its own beginning and end.
	turnLimit = 250_000
	turnRound = 100_000
	turnLeast = 30_000

	// hotPorts is how many recently active ports a worker asks for frames
	// without the help of epoll.
	hotPorts = 8
	// activeTime is how long a port counts as one of those that share a turn.
	activeTime = int64(time.Millisecond)

	// lowerRest is how many times as long as a turn of lower effort took the next one waits at
	// least, while others have frames: such turns get a quarter of the worker. lowerWait is how
	// long a frame of somebody else waits for them in the mean, ns: the longer a turn is, the
	// more of those it meets, and the longer each waits.
	lowerRest = 3
	lowerWait = 5_000
	longRest  = 2_000_000 // at most, however much somebody owes

	// dearTurn is what no turn takes unless a receiver makes far more of a frame than its price
	// says, or the worker was interrupted, ns: each such turn of a port counts dearUp, each
	// other one takes one off, and from dearPort on the port has one frame a turn, at lower effort.
	dearTurn = 1_000_000
	dearUp   = 4
	dearPort = dearUp + 1
	dearMost = 4 * dearUp
	dearRest = 50_000_000 // the longest rest after one
)

// scheduler says which port has the next turn: a deficit round robin over what turns cost.
// Each round a port may spend one quantum. One that has more frames than that queues for
// the next round, and pays there for what its last turn cost too much. One that runs out of
// frames keeps the rest: it is hot, asked before each turn of the queue, so that somebody
// who sends little never waits for more than one turn.
//
// A port that always has more frames, which nobody answers, queues for lower effort (as in
// RFC 8622): while others have frames those turns together get a quarter of the time, as the
// others wait for each of them, and when nobody has, all of it. Not safe for concurrent use.
type scheduler struct {
	ports   [MaxPorts]scheduled
	hot     [hotPorts]frame.PortID
	queue   portQueue
	lower   portQueue // of lower effort
	resume  int64     // when the next turn of lower is due, others or not, ns
	left    int       // turns of the queue to the end of the round
	round   uint32    // wraps
	quantum int64     // of a port of weight 1, this round
}

// portQueue is a list of ports through scheduled.next.
type portQueue struct {
	first, last frame.PortID
	length      int
}

// scheduled is what the scheduler knows of a port.
type scheduled struct {
	credit int64 // ns that it may spend in round; negative: it owes them
	owes   int64 // ns of work outside of its turns since the last one
	worked int64 // when it last had frames, ns
	round  uint32
	next   frame.PortID // in the queue
	state  portState
	lower  bool  // its last turn was of lower effort
	dear   uint8 // see dearTurn
}

type portState uint8

const (
	portResting portState = iota // epoll will name it
	portHot
	portQueued
	portLower // queued for lower effort
)

func (s *scheduler) init() {
	s.queue, s.lower, s.quantum = portQueue{first: frame.NoPort}, portQueue{first: frame.NoPort}, turnLimit
	for i := range s.hot {
		s.hot[i] = frame.NoPort
	}
}

// credit is what a port may spend on a turn now, in ns; none unless it is positive. A port
// that was not in the queue has saved the quanta of the rounds that went by, up to a turn.
func (s *scheduler) credit(id frame.PortID) int64 {
	p := &s.ports[id]
	if rounds := s.round - p.round; rounds != 0 {
		p.credit = min(p.credit+int64(rounds)*s.quantum, turnLimit)
		p.round = s.round
	}
	return min(p.credit, turnLimit)
}

// wake hears that a port that rests has something. It reports whether the port has its
// turn at once.
func (s *scheduler) wake(id frame.PortID) bool {
	switch p := &s.ports[id]; {
	case p.state >= portQueued:
		return false
	case s.credit(id) <= 0:
		s.enqueue(id, portQueued)
		return false
	}
	return true
}

// wait hears that something waits for a port, which may have nothing of its own.
func (s *scheduler) wait(id frame.PortID) {
	if s.ports[id].state < portQueued {
		s.enqueue(id, portQueued)
	}
}

// queued takes the port from the queue whose turn it is, or frame.NoPort when none has
// one: the queue is empty, or its first still owes. The port is in no queue until done.
func (s *scheduler) queued(now int64) frame.PortID {
	from, state := &s.queue, portQueued
	if s.lower.length > 0 && s.due(now) {
		from, state = &s.lower, portLower
		s.begin(now)
	} else {
		if s.left == 0 {
			s.begin(now)
		}
		if s.queue.length == 0 {
			return frame.NoPort
		}
		s.left--
	}
	id := from.first
	from.first = s.ports[id].next
	from.length--
	p := &s.ports[id]
	p.state, p.round = portResting, s.round
	// Credit that was too little for its next frame stays, or it would get less than others.
	p.credit = min(p.credit+s.quantum, 2*turnLimit)
	if p.credit <= 0 {
		s.enqueue(id, state)
		return frame.NoPort
	}
	return id
}

// due reports whether lower effort has a turn now.
func (s *scheduler) due(now int64) bool { return now >= s.resume || s.active(now) == 0 }

// active is how many ports have or had frames lately, ports of lower effort aside.
func (s *scheduler) active(now int64) int {
	n := s.queue.length
	for _, id := range s.hot {
		if id != frame.NoPort && s.ports[id].state == portHot && now-s.ports[id].worked < activeTime {
			n++
		}
	}
	return n
}

// begin begins a round.
func (s *scheduler) begin(now int64) {
	s.round++
	s.left = s.queue.length // a turn of lower effort is a round of its own
	s.quantum = turnLimit
	if active := s.active(now) + s.lower.length; active > 1 {
		s.quantum = max(turnRound/int64(active), turnLeast)
	}
}

// lowers reports whether the next turn of a port is of lower effort after one that cost so much,
// if nobody answers what the port sends. Only a turn that costs something makes it so: the first
// frame of a connection is unanswered, too, and may have spent the rest of a credit.
func (s *scheduler) lowers(id frame.PortID, cost int64, more, unheard bool) bool {
	return s.ports[id].dear >= dearPort || more && unheard && (s.ports[id].lower || cost >= turnLeast)
}

// weigh notes how long a turn took of frames that nobody answers; of others it is none.
func (s *scheduler) weigh(id frame.PortID, took int64) {
	switch p := &s.ports[id]; {
	case took >= dearTurn:
		p.dear = min(p.dear+dearUp, dearMost)
	case p.dear > 0:
		p.dear--
	}
}

// limit is what a turn of a port may cost.
func (s *scheduler) limit(id frame.PortID) int64 {
	limit := s.credit(id)
	if s.ports[id].dear >= dearPort {
		limit = min(limit, 1) // one frame
	}
	return limit
}

// rest is how long lower effort waits after a turn that took so long. A frame that comes while
// it lasts waits for half of it, in the mean of all that come took*took/2/(took+rest).
func rest(took int64) int64 {
	if took >= dearTurn {
		return min(lowerRest*took, dearRest)
	}
	return min(max(lowerRest*took, took*took/(2*lowerWait)-took), longRest)
}

// done ends the turn of a port: when that is, how long it took if that is more than it cost,
// whether the port may have more, and whether nobody answers what it sends.
func (s *scheduler) done(id frame.PortID, now, cost, took int64, more, unheard bool) {
	p := &s.ports[id]
	p.credit -= cost
	if cost > 0 {
		p.worked = now
	}
	all := max(cost, took) + p.owes
	p.owes, p.lower = 0, cost > 0 && s.lowers(id, cost, more, unheard) || p.lower && more && unheard
	switch {
	case p.lower:
		s.enqueue(id, portLower)
		s.resume = now + rest(all)
	case more || p.credit <= 0:
		s.enqueue(id, portQueued)
	case p.state != portHot:
		s.warm(id)
	}
}

// owe lets a port pay for work that was done outside of its turns. One that queues has its
// quantum when its turn comes.
func (s *scheduler) owe(id frame.PortID, cost int64) {
	if s.ports[id].state < portQueued {
		s.credit(id)
	}
	s.ports[id].credit -= cost
	s.ports[id].owes += cost
}

// enqueue puts a port at the end of the queue of a state.
func (s *scheduler) enqueue(id frame.PortID, state portState) {
	q := &s.queue
	if state == portLower {
		q = &s.lower
	}
	p := &s.ports[id]
	p.state, p.next = state, frame.NoPort
	if q.length == 0 {
		q.first = id
	} else {
		s.ports[q.last].next = id
	}
	q.last = id
	q.length++
}

// warm puts a port in front of the hot ones; the last falls out.
func (s *scheduler) warm(id frame.PortID) {
	s.ports[id].state = portHot
	prev := id
	for i, h := range s.hot {
		s.hot[i] = prev
		if h == id {
			return
		}
		prev = h
	}
	if prev != frame.NoPort && s.ports[prev].state == portHot {
		s.ports[prev].state = portResting
	}
}
