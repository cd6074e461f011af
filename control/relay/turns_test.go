package relay

import (
	"testing"
	"time"
)

func given(t *opening) bool {
	select {
	case <-t.ready:
		return true
	default:
		return false
	}
}

// TestOpenings: somebody who comes while another opens as many as he can has the next turn, and
// the other rests after each of his; without anybody else he does not.
func TestOpenings(t *testing.T) {
	now, o := time.Unix(1, 0), newOpenings()
	o.after = func(time.Duration, func()) {} // the test has a time of its own
	many, few := User{1, true}, User{2, true}
	var all []*opening
	for range 50 {
		all = append(all, o.ask(many, now))
	}
	turns := func() (n int) {
		for _, a := range all {
			if given(a) && !a.over {
				n++
			}
		}
		return n
	}
	if n := turns(); n != openTurns {
		t.Fatalf("%d turns are given at once", n)
	}
	end := func() {
		for _, a := range all {
			if given(a) && !a.over {
				o.done(a, now)
				return
			}
		}
	}
	now = now.Add(time.Millisecond)
	end() // nobody else is there: the next begins
	if n := turns(); n != openTurns {
		t.Fatalf("%d turns are given after one has ended", n)
	}
	one := o.ask(few, now)
	if given(one) {
		t.Fatal("there was no turn left")
	}
	now = now.Add(time.Millisecond)
	end()
	if !given(one) {
		t.Fatal("the other's turn has not come")
	}
	o.done(one, now)
	for turns() > 0 {
		end() // each ends while others were there lately: he rests
	}
	two := o.ask(few, now)
	if !given(two) {
		t.Fatal("the other waits although nobody has a turn")
	}
	o.done(two, now)
	now = now.Add(openRests*openTime + time.Millisecond)
	three := o.ask(few, now) // looks at all lines
	if !given(three) || turns() != openTurns-1 {
		t.Fatalf("after his rest %d turns are given", turns())
	}
	o.done(three, now)
	for _, a := range all {
		o.done(a, now)
	}
	now = now.Add(time.Minute)
	o.done(o.ask(few, now), now)
	if o.mu.Lock(); o.free != openTurns || len(o.lines) != 0 {
		t.Errorf("%d turns are free, %d users known", o.free, len(o.lines))
	}
	o.mu.Unlock()
}

// TestOpeningsGoOn: a turn ends by itself, and a rest, too.
func TestOpeningsGoOn(t *testing.T) {
	o := newOpenings()
	var all []*opening
	for range 20 {
		all = append(all, o.ask(User{1, true}, time.Now()))
		o.ask(User{2, true}, time.Now())
	}
	for i, a := range all {
		select {
		case <-a.ready:
		case <-time.After(30 * time.Second):
			t.Fatalf("turn %d does not come", i)
		}
	}
}

// TestOpeningsThatLeave: who waits in vain and leaves is in nobody's way, wherever in the line.
func TestOpeningsThatLeave(t *testing.T) {
	now, o := time.Unix(1, 0), newOpenings()
	o.after = func(time.Duration, func()) {}
	who := User{1, true}
	var all []*opening
	for range 100 {
		all = append(all, o.ask(who, now))
	}
	wait := len(all) - openTurns
	for i, a := range all[openTurns:] {
		if i%7 != 3 {
			o.done(a, now)
			wait--
		}
		if n := len(o.lines[0].waiting); n > 2*wait {
			t.Fatalf("%d wait in line, of which %d have not left", n, wait)
		}
	}
	stay := 0
	for _, a := range all {
		if a.over {
			continue
		}
		if !given(a) {
			t.Fatal("a turn is not given")
		}
		stay++
		o.done(a, now)
	}
	if o.free != openTurns || len(o.lines) != 0 || stay < 10 {
		t.Errorf("%d turns are free, %d users known, %d had a turn", o.free, len(o.lines), stay)
	}
}
