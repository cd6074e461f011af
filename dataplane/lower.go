package dataplane

import (
	"math"

	"github.com/vswitch/vswitch/dataplane/frame"
)

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

// dueAt is when the next turn of a port of lower effort is due, unless nobody else is active.
func (s *scheduler) dueAt(p *scheduled) int64 {
	if p.muted {
		return p.until
	}
	return max(p.until, s.resume)
}

// due reports whether a port of lower effort may have a turn now.
func (s *scheduler) due(now int64) bool { return now >= s.soonest || s.active(now) == 0 }

// nextLower finds the first port of lower effort that is due: it names the one before it in
// the queue, frame.NoPort for the first.
func (s *scheduler) nextLower(now int64) (before frame.PortID, ok bool) {
	before = frame.NoPort
	if s.lower.length == 0 || !s.due(now) {
		return before, false
	}
	all := s.active(now) == 0
	soonest, id := int64(math.MaxInt64), s.lower.first
	for range s.lower.length {
		p := &s.ports[id]
		at := s.dueAt(p)
		if all || now >= at {
			return before, true
		}
		soonest = min(soonest, at)
		before, id = id, p.next
	}
	s.soonest = soonest
	return before, false
}

// mutes reports whether a port is looked at now and then after a turn: nobody has answered its
// turns of late, and they come in quick succession. One that is, and had frames, still is.
func (s *scheduler) mutes(id frame.PortID, now, cost int64, more, unheard bool) bool {
	p := &s.ports[id]
	switch {
	case cost == 0:
		return false
	case !unheard:
		p.alone = 0
		return false
	}
	p.alone = min(p.alone+1, 2*mutedAfter)
	if more || p.alone < mutedAfter || !p.muted && now-p.worked >= lookEvery {
		return false
	}
	others := s.active(now)
	if p.state == portHot && now-p.worked < activeTime {
		others--
	}
	return others > 0
}

// answered hears how many first answers a port was sent since its last turn: what it begins
// is wanted.
func (s *scheduler) answered(id frame.PortID, n uint32) {
	p := &s.ports[id]
	p.alone -= uint8(min(n, uint32(p.alone)))
}

// ignored reports whether nobody answers what a port sends: polling for more of it pays for nobody.
func (s *scheduler) ignored(id frame.PortID) bool { return s.ports[id].alone >= mutedAfter }

// rest is how long lower effort waits after a turn that took so long. A frame that comes while
// it lasts waits for half of it, in the mean of all that come took*took/2/(took+rest).
func rest(took int64) int64 {
	if took >= dearTurn {
		return min(dearPause*took, dearRest)
	}
	return min(max(lowerRest*took, took*took/(2*lowerWait)-took), longRest)
}

// done ends the turn of a port: when that is, how long it took if that is more than it cost,
// whether the port may have more, and whether nobody answers what it sends.
func (s *scheduler) done(id frame.PortID, now, cost, took int64, more, unheard bool) {
	p := &s.ports[id]
	p.credit -= cost
	all := max(cost, took) + p.owes
	p.owes, p.lower = 0, cost > 0 && s.lowers(id, cost, more, unheard) || p.lower && more && unheard
	p.muted = s.mutes(id, now, cost, more, unheard) && !p.lower
	if cost > 0 {
		p.worked = now
	}
	switch {
	case p.lower:
		pause := rest(all)
		s.resume = now + min(pause, longRest) // the others of lower effort do not pay for a dear one
		p.until = now + min(pause*int64(s.lows+1), longestWait)
		s.enqueue(id, portLower)
	case p.muted:
		p.until = now + lookEvery
		s.enqueue(id, portLower)
	case more || p.credit <= 0:
		s.enqueue(id, portQueued)
	case p.state != portHot:
		s.warm(id)
	}
}
