package relay

import (
	"slices"
	"sync"
	"time"
)

const (
	// openTurns is how many connections are led to their containers at a time, and openTime how
	// long one of them counts: a container may not answer at all.
	openTurns = 2
	openTime  = 5 * time.Millisecond
	// openRests is how many times as long as an opening took its user rests who has more of
	// them waiting, if others came within lately.
	openRests = 3
	lately    = 100 * time.Millisecond
)

// seen is when users came last: the newest, and the newest of the others.
type seen [2]struct {
	who User
	at  time.Time
}

func (s *seen) note(who User, now time.Time) {
	if s[0].who != who {
		s[1] = s[0]
	}
	s[0].who, s[0].at = who, now
}

// others reports whether another user came lately.
func (s *seen) others(who User, now time.Time) bool {
	o := s[0]
	if o.who == who {
		o = s[1]
	}
	return !o.at.IsZero() && now.Sub(o.at) < lately
}

// openings lets users take turns in what it costs to lead their connections to containers.
// Somebody who opens one after the other never waits; of many at once that one user opens the
// next waits for others', and for a while after each.
type openings struct {
	after func(time.Duration, func()) // time.AfterFunc

	mu    sync.Mutex // guards what follows
	free  int
	lines []*opener // who has the next turn first
	seen  seen
}

// opener is a user, with what of his waits.
type opener struct {
	who     User
	waiting []*opening
	gone    int       // of these want no turn any more
	turns   int       // that he has now
	rest    time.Time // until when he has no turn
}

// opening is a connection that waits for its turn, or has it.
type opening struct {
	of    *opener
	ready chan struct{}
	began time.Time
	over  bool
}

func newOpenings() *openings {
	return &openings{free: openTurns, after: func(d time.Duration, f func()) { time.AfterFunc(d, f) }}
}

// ask asks for a turn, which ready tells of.
func (o *openings) ask(who User, now time.Time) *opening {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.seen.note(who, now)
	var of *opener
	for _, l := range o.lines {
		if l.who == who {
			of = l
		}
	}
	if of == nil {
		of = &opener{who: who}
		o.lines = append(o.lines, of)
	}
	t := &opening{of: of, ready: make(chan struct{})}
	of.waiting = append(of.waiting, t)
	o.nextLocked(now)
	return t
}

// done ends a turn, or the wait for it.
func (o *openings) done(t *opening, now time.Time) {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case t.over:
		return
	case t.began.IsZero():
		t.of.gone++ // nextLocked takes it out
	default:
		o.free++
		t.of.turns--
		if len(t.of.waiting) > t.of.gone && o.seen.others(t.of.who, now) {
			t.of.rest = now.Add(openRests * min(now.Sub(t.began), openTime))
			o.after(t.of.rest.Sub(now), o.wake)
		}
	}
	t.over = true
	o.nextLocked(now)
}

func (o *openings) wake() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.nextLocked(time.Now())
}

// prune takes those out in front who want no turn any more, and all when they are most: who
// leaves costs the same however many wait.
func (l *opener) prune() {
	for len(l.waiting) > 0 && l.waiting[0].over {
		l.waiting[0] = nil
		l.waiting = l.waiting[1:]
		l.gone--
	}
	if 2*l.gone > len(l.waiting) {
		l.waiting = slices.DeleteFunc(l.waiting, func(t *opening) bool { return t.over })
		l.gone = 0
	}
}

// nextLocked gives turns as long as there are any, and forgets who has nothing here and no
// rest.
func (o *openings) nextLocked(now time.Time) {
	for i := 0; i < len(o.lines); {
		l := o.lines[i]
		l.prune()
		rests := l.rest.After(now)
		switch {
		case len(l.waiting) == 0 && !rests && l.turns == 0:
			o.lines = append(o.lines[:i], o.lines[i+1:]...)
		case len(l.waiting) == 0 || rests || o.free == 0:
			i++
		default:
			t := l.waiting[0]
			l.waiting = l.waiting[1:]
			o.free--
			l.turns++
			t.began = now
			close(t.ready)
			o.after(openTime, func() { o.done(t, time.Now()) })
			o.lines = append(append(o.lines[:i], o.lines[i+1:]...), l) // behind all others
			i = 0
		}
	}
}
