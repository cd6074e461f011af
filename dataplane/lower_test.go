package dataplane

import (
	"testing"

	"github.com/vswitch/vswitch/dataplane/frame"
)

// beside lets a port that nobody answers send a frame each gap beside one that has a
// conversation if others says so, and counts its turns, its frames and how long the oldest waited.
func beside(t *testing.T, gap int64, others bool, answers bool) (turns, frames int, longest int64) {
	const loud, other = 1, 2
	p := newPretend()
	p.unheard = map[frame.PortID]bool{loud: true}
	var came []int64
	nextLoud, nextOther := int64(0), int64(0)
	for step := 0; p.now < 100_000_000; step++ {
		if p.now >= nextLoud {
			p.add(loud, 2000)
			came = append(came, p.now)
			nextLoud += gap
			frames++
		}
		if p.now >= nextOther && others {
			p.add(other, 2000)
			nextOther += 80_000
		}
		was := len(p.served)
		p.pass()
		if len(p.backlog[loud])+len(p.backlog[other]) > 0 {
			p.glance()
		}
		p.now += 1000
		for _, id := range p.served[was:] {
			if id != loud {
				continue
			}
			turns++
			if answers {
				p.s.answered(loud, uint32(len(came)))
			}
			if p.now > 20_000_000 {
				longest = max(longest, p.now-came[0])
			}
			came = came[:0]
		}
	}
	if int64(len(p.backlog[loud])) > lookEvery/gap+1 {
		t.Errorf("%d frames are left", len(p.backlog[loud]))
	}
	return turns, frames, longest
}

// Frames of a port that nobody answers are taken once a millisecond beside others, all of them;
// those of one that is answered, that sends little or that is alone come at once.
func TestWhoIsNotAnsweredIsLookedAtNowAndThen(t *testing.T) {
	for _, c := range []struct {
		name    string
		gap     int64
		others  bool
		answers bool
		muted   bool
	}{
		{"a flood", 333_000, true, false, true},
		{"a faster one", 50_000, true, false, true},
		{"a flood of somebody alone", 333_000, false, false, false},
		{"questions that are answered", 333_000, true, true, false},
		{"broadcasts now and then", 2_000_000, true, false, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			turns, frames, longest := beside(t, c.gap, c.others, c.answers)
			if most := int64(lookEvery + 100_000); longest > most {
				t.Errorf("a frame waited for %d ns, want %d at most", longest, most)
			}
			if !c.muted && (longest > 50_000 || turns < frames-1) {
				t.Errorf("%d turns for %d frames, the longest wait %d ns: want one for each, at once", turns, frames, longest)
			}
			if most := 100 + 2*mutedAfter; c.muted && turns > most {
				t.Errorf("%d turns for %d frames, want %d at most", turns, frames, most)
			}
		})
	}
}

// One turn with answers makes a port like any other.
func TestWhoIsAnsweredIsNotMuted(t *testing.T) {
	var s scheduler
	s.init()
	s.ports[1].credit, s.ports[2].credit = 1<<40, 1<<40
	s.done(2, 0, 2000, 0, false, false)
	now := int64(0)
	for range 2 * mutedAfter {
		now += 100_000
		s.done(2, now, 2000, 0, false, false)
		s.done(1, now, 2000, 0, false, true)
		if s.ports[1].state == portLower {
			now = s.soonest
			if id := s.queued(now); id != 1 {
				t.Fatalf("port %d has the turn", id)
			}
		}
	}
	if !s.ports[1].muted || !s.ignored(1) {
		t.Fatal("nobody answers, and it is not muted")
	}
	s.done(1, now, 2000, 0, false, false)
	if s.ports[1].muted || s.ignored(1) || s.ports[1].state != portHot {
		t.Errorf("it is answered: %+v", s.ports[1])
	}
}

// A port whose turns take others milliseconds rests by itself: the others of lower effort go on.
func TestADearPortHoldsNobodyElse(t *testing.T) {
	var s scheduler
	s.init()
	for id := range 4 {
		s.ports[id].credit = 1 << 40
	}
	now := int64(0)
	for range 3 {
		now += 5_000_000
		s.weigh(1, 5_000_000)
		s.done(1, now, 3000, 5_000_000, false, true)
		if s.ports[1].state == portLower {
			now = s.ports[1].until
			s.queued(now)
		}
	}
	s.done(3, now, 2000, 0, false, false) // somebody else is active
	s.done(1, now, 3000, 5_000_000, false, true)
	s.done(2, now, turnLeast, 0, true, true)
	turns := 0
	for ; now < s.ports[1].until-1; now += 10_000 {
		s.done(3, now, 2000, 0, false, false)
		switch id := s.queued(now); id {
		case 1:
			t.Fatalf("the dear port has a turn %d ns too early", s.ports[1].until-now)
		case 2:
			turns++
			now += turnLeast
			s.done(2, now, turnLeast, 0, true, true)
		}
	}
	if turns < 100 {
		t.Errorf("the other one had %d turns meanwhile", turns)
	}
	if id := s.queued(now + longRest); id != 1 && id != 2 {
		t.Errorf("port %d has a turn", id)
	}
}
