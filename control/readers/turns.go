package readers

import (
	"context"
	"slices"
	"sync"
)

// Turns gives one turn at a time, to the readers that wait for one in a circle: who asks a
// hundred times waits for his own. The zero value is ready, its methods are safe for
// concurrent use.
type Turns struct {
	mu   sync.Mutex
	busy bool
	ring []*line // the next first; each reader once, with at least one that waits
}

// line is who waits for one reader, the first first.
type line struct {
	who     Reader
	waiting []chan struct{} // closed as the turn comes
}

// Begin waits for a turn of the reader whose ctx it is. It returns ctx's error if that ends
// first; after nil, End has to follow.
func (t *Turns) Begin(ctx context.Context) error {
	who := From(ctx)
	t.mu.Lock()
	if !t.busy {
		t.busy = true
		t.mu.Unlock()
		return nil
	}
	turn := make(chan struct{})
	i := slices.IndexFunc(t.ring, func(l *line) bool { return l.who == who })
	if i < 0 {
		i = len(t.ring)
		t.ring = append(t.ring, &line{who: who})
	}
	t.ring[i].waiting = append(t.ring[i].waiting, turn)
	t.mu.Unlock()
	select {
	case <-turn:
		return nil
	case <-ctx.Done():
	}
	if !t.leave(who, turn) {
		t.End() // it came meanwhile
	}
	return ctx.Err()
}

// leave reports whether turn was still waited for.
func (t *Turns) leave(who Reader, turn chan struct{}) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	i := slices.IndexFunc(t.ring, func(l *line) bool { return l.who == who })
	if i < 0 {
		return false
	}
	l := t.ring[i]
	k := slices.Index(l.waiting, turn)
	if k < 0 {
		return false
	}
	if l.waiting = slices.Delete(l.waiting, k, k+1); len(l.waiting) == 0 {
		t.ring = slices.Delete(t.ring, i, i+1)
	}
	return true
}

// End gives the turn to the next reader.
func (t *Turns) End() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.ring) == 0 {
		t.busy = false
		return
	}
	l := t.ring[0]
	t.ring = slices.Delete(t.ring, 0, 1)
	close(l.waiting[0])
	if l.waiting = slices.Delete(l.waiting, 0, 1); len(l.waiting) > 0 {
		t.ring = append(t.ring, l)
	}
}
