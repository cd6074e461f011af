package dataplane

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/vswitch/vswitch/dataplane/frame"
)

// pretend is a world of ports that cost something, for the scheduler alone.
type pretend struct {
	s       scheduler
	now     int64
	backlog map[frame.PortID][]int64 // costs of what waits, the oldest first
	spent   map[frame.PortID]int64
	served  []frame.PortID // the order of turns
	most    int64          // the dearest turn
	unheard map[frame.PortID]bool
}

func newPretend() *pretend {
	p := &pretend{backlog: map[frame.PortID][]int64{}, spent: map[frame.PortID]int64{}}
	p.s.init()
	return p
}

func (p *pretend) add(id frame.PortID, costs ...int64) {
	p.backlog[id] = append(p.backlog[id], costs...)
}

// serve is what the worker does: at least one frame, then those that fit.
func (p *pretend) serve(id frame.PortID) {
	limit, cost := p.s.credit(id), int64(0)
	q := p.backlog[id]
	for len(q) > 0 && (cost == 0 || cost+q[0] <= limit) && cost < limit {
		cost += q[0]
		q = q[1:]
	}
	p.backlog[id] = q
	p.now += cost
	p.spent[id] += cost
	p.most = max(p.most, cost)
	if cost > 0 {
		p.served = append(p.served, id)
	}
	// A turn whose credit is spent has perhaps left some, as a batch that is full.
	p.s.done(id, p.now, cost, 0, len(q) > 0 || cost >= limit, p.unheard[id])
}

func (p *pretend) hot() {
	for _, id := range p.s.hot {
		if id != frame.NoPort && p.s.ports[id].state == portHot {
			p.serve(id)
		}
	}
}

func (p *pretend) pass() {
	p.hot()
	if id := p.s.queued(p.now); id != frame.NoPort {
		p.serve(id)
	} else if p.s.lower.length > 0 {
		p.now += 1000 // the worker looks around meanwhile
	}
}

// glance is epoll: it names every port that has something.
func (p *pretend) glance() {
	for id := range frame.PortID(64) {
		if len(p.backlog[id]) > 0 && p.s.wake(id) {
			p.serve(id)
			p.hot()
		}
	}
}

// Whatever the ports' frames cost, those that always have some get the same, but for one
// quantum and the dearest frame; no turn costs more than the limit and one frame; and the
// frames of a port stay in order, as the model takes them.
func TestTurnsAreFairInCost(t *testing.T) {
	for seed := range uint64(200) {
		rng := rand.New(rand.NewPCG(seed, 1))
		p := newPretend()
		n := 2 + rng.IntN(20)
		owes := seed%2 == 0 // for work outside of turns, some of the ports
		dearest := int64(0)
		price := make([]int64, n) // of each port's frames, very different ones
		for i := range price {
			price[i] = 500 << rng.IntN(9)
			dearest = max(dearest, 2*price[i])
		}
		fill := func() {
			for i, c := range price {
				for len(p.backlog[frame.PortID(i)]) < 600 {
					p.add(frame.PortID(i), c+rng.Int64N(c))
				}
			}
		}
		fill()
		p.glance()
		start := map[frame.PortID]int64{}
		for round := range 4000 {
			fill()
			p.pass()
			if round%8 == 0 {
				p.glance()
			}
			if owes {
				id, cost := frame.PortID(rng.IntN(n/2+1)), rng.Int64N(1000)
				p.s.owe(id, cost)
				p.spent[id] += cost
			}
			if round == 100 {
				for id, c := range p.spent {
					start[id] = c
				}
			}
		}
		least, most := int64(1<<62), int64(0)
		for i := range n {
			got := p.spent[frame.PortID(i)] - start[frame.PortID(i)]
			least, most = min(least, got), max(most, got)
		}
		if most-least > 2*(turnLimit+dearest) {
			t.Fatalf("seed %d: %d ports spent from %d to %d ns: that is more than a quantum apart", seed, n, least, most)
		}
		if p.most > max(turnLimit, dearest) {
			t.Fatalf("seed %d: a turn cost %d ns, want at most %d", seed, p.most, max(turnLimit, dearest))
		}
	}
}

// Random arrivals: no port waits for ever, and nothing is left when all is quiet.
func TestTurnsStarveNobody(t *testing.T) {
	for seed := range uint64(100) {
		rng := rand.New(rand.NewPCG(seed, 2))
		p := newPretend()
		n := 1 + rng.IntN(40)
		flooder := frame.PortID(rng.IntN(n))
		waits := map[frame.PortID]int64{} // since when a port has something
		for range 4000 {
			for len(p.backlog[flooder]) < 100 {
				p.add(flooder, 200_000)
			}
			if id := frame.PortID(rng.IntN(n)); rng.IntN(4) == 0 && id != flooder {
				p.add(id, 1000+rng.Int64N(3000))
				if _, ok := waits[id]; !ok {
					waits[id] = p.now
				}
			}
			p.pass()
			if rng.IntN(3) == 0 {
				p.glance()
			}
			for id, since := range waits {
				if len(p.backlog[id]) == 0 {
					delete(waits, id)
				} else if p.now-since > int64(n+20)*turnLimit {
					t.Fatalf("seed %d: port %d of %d waits for %d ns", seed, id, n, p.now-since)
				}
			}
		}
		p.backlog[flooder] = nil
		for range 1000 {
			p.glance()
			p.pass()
		}
		for id, q := range p.backlog {
			if len(q) > 0 {
				t.Errorf("seed %d: port %d has %d frames left", seed, id, len(q))
			}
		}
		if p.s.queue.length > 0 {
			t.Errorf("seed %d: %d ports queue for nothing", seed, p.s.queue.length)
		}
	}
}

// Between two turns of somebody who sends less than a share of the worker lies one turn of
// those who always have frames, however many they are.
func TestWhoSendsLittleWaitsForOneTurn(t *testing.T) {
	for _, attackers := range []int{1, 2, 5, 30} {
		t.Run(fmt.Sprint(attackers), func(t *testing.T) {
			p := newPretend()
			const victim = 50
			p.add(victim, 2000)
			p.glance()
			p.pass()
			for i := range attackers {
				for range 5000 {
					p.add(frame.PortID(i), 4000)
				}
			}
			p.glance()
			for range 200 {
				p.pass()
				p.add(victim, 2000)
				was := p.now
				for len(p.backlog[victim]) > 0 {
					p.pass()
				}
				if waited := p.now - was; waited > turnLimit+2000 {
					t.Fatalf("waited %d ns, want at most one turn of %d", waited, turnLimit)
				}
			}
		})
	}
}

// Many small frames and few large ones: the ports get the same time, not the same number.
func TestATurnSharesTimeNotFrames(t *testing.T) {
	p := newPretend()
	for range 20_000 {
		p.add(1, 2000)
		p.add(2, 60_000)
	}
	p.glance()
	for range 400 {
		p.pass()
	}
	if a, b := p.spent[1], p.spent[2]; a*10 < b*9 || b*10 < a*9 {
		t.Errorf("small frames got %d ns, large ones %d", a, b)
	}
}

// Those whose frames nobody answers get a quarter of the worker while others have frames,
// however many they are, and share it; they get all of it as soon as nobody else has any.
func TestNobodyAnswersThem(t *testing.T) {
	for _, attackers := range []int{1, 2, 5, 30} {
		t.Run(fmt.Sprint(attackers), func(t *testing.T) {
			p := newPretend()
			const victim = 50
			p.unheard = map[frame.PortID]bool{victim: true} // it only begins flows
			for i := range attackers {
				p.unheard[frame.PortID(i)] = true
				for range 5000 {
					p.add(frame.PortID(i), 20_000)
				}
			}
			p.glance()
			for range 20 * attackers { // until all have shown that
				p.pass()
			}
			begin, spent := p.now, func() (sum, least, most int64) {
				least = 1 << 62
				for i := range attackers {
					c := p.spent[frame.PortID(i)]
					sum, least, most = sum+c, min(least, c), max(most, c)
				}
				return sum, least, most
			}
			before, _, _ := spent()
			since := p.now
			for next := p.now; p.now < begin+20_000_000; p.pass() {
				if p.now >= next && len(p.backlog[victim]) == 0 { // a conversation: a frame each 30 us
					next, since = p.now+30_000, p.now
					p.add(victim, 2000)
				}
				p.glance()
				if len(p.backlog[victim]) > 0 && p.now-since > 2*turnLimit {
					t.Fatalf("the other waits for %d ns", p.now-since)
				}
			}
			after, least, most := spent()
			if part := float64(after-before) / float64(p.now-begin); part < 0.15 || part > 0.3 {
				t.Errorf("they got %.2f of the time beside somebody else", part)
			}
			if most-least > 2*turnLimit {
				t.Errorf("they got from %d to %d ns", least, most)
			}
			p.now += activeTime
			begin, before = p.now, after
			for p.now < begin+5_000_000 {
				p.pass()
			}
			if after, _, _ = spent(); float64(after-before) < 0.9*float64(p.now-begin) {
				t.Errorf("alone they got %d ns of %d", after-before, p.now-begin)
			}
		})
	}
}

// The first frame of a connection, which has spent what credit was left, is no flood.
func TestOneUnansweredFrameIsNoFlood(t *testing.T) {
	var s scheduler
	s.init()
	s.done(1, 0, 2000, 0, true, true)
	s.done(2, 0, turnLeast, 0, true, true)
	if a, b := s.ports[1].state, s.ports[2].state; a != portQueued || b != portLower {
		t.Errorf("one frame: state %d, a turn of them: %d", a, b)
	}
}

// A frame of somebody else waits equally long for unanswered ones in the mean, whatever their
// turns take: the rest grows with the square of that, and what a turn really took counts where
// it is more than its price.
func TestLongTurnsRestLonger(t *testing.T) {
	for _, took := range []int64{turnLeast, 60_000, 100_000, 140_000} {
		var s scheduler
		s.init()
		s.done(1, 1_000_000, turnLeast, took, true, true)
		cycle := s.resume - 1_000_000 + took
		if wait := took * took / 2 / cycle; wait > lowerWait {
			t.Errorf("after turns of %d ns others wait for %d ns in the mean, want %d at most", took, wait, lowerWait)
		}
		if cycle < (1+lowerRest)*took {
			t.Errorf("turns of %d ns come each %d ns: more than a quarter", took, cycle)
		}
	}
	if rest(turnLimit) != longRest {
		t.Errorf("a turn at its limit rests for %d ns", rest(turnLimit))
	}
}

// A port whose frames take a receiver milliseconds has one of them a turn and a quarter of the
// worker, as long as that goes on; one turn that was interrupted means nothing.
func TestDearFramesAreTakenOneByOne(t *testing.T) {
	var s scheduler
	s.init()
	now := int64(0)
	turn := func(took int64) {
		now += took
		s.weigh(1, took)
		s.done(1, now, 3000, took, false, true)
	}
	turn(5_000_000)
	if s.ports[1].state == portLower {
		t.Fatal("one turn that took long makes a port wait")
	}
	for range 20 {
		turn(5_000_000)
		if s.ports[1].state != portLower || s.limit(1) > 1 {
			t.Fatalf("state %d, it may spend %d", s.ports[1].state, s.limit(1))
		}
		if s.resume < now+lowerRest*5_000_000 {
			t.Fatalf("it rests for %d ns", s.resume-now)
		}
		now = s.resume
		if id := s.queued(now); id != 1 {
			t.Fatalf("port %d has the next turn", id)
		}
	}
	for range dearMost {
		turn(3000)
		if s.lower.length > 0 {
			now = s.resume
			s.queued(now)
		}
	}
	if s.ports[1].dear > 0 || s.ports[1].lower {
		t.Error("it is never forgiven")
	}
}
