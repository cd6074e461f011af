package journal

import (
	"context"
	"slices"
	"sync"
)

// Journal keeps the last entries of a stream. Writers never wait: a reader that
// is slower than the ring is long loses entries and is told how many.
type Journal[T any] struct {
	mu      sync.Mutex
	ring    []T // entry n lies at n % len
	first   uint64
	next    uint64        // number of the next entry
	changed chan struct{} // closed with the next entry
}

// New holds so many entries; the first one is given a number.
func New[T any](size int, first uint64) *Journal[T] {
	return &Journal[T]{ring: make([]T, size), first: first, next: first, changed: make(chan struct{})}
}

// Add enters what fill returns for its number.
func (j *Journal[T]) Add(fill func(n uint64) T) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.ring[j.next%uint64(len(j.ring))] = fill(j.next)
	j.next++
	close(j.changed)
	j.changed = make(chan struct{})
}

// Cursor is one reader's place.
type Cursor[T any] struct {
	j  *Journal[T]
	at uint64 // next entry to read
}

// Tail reads what comes from now on.
func (j *Journal[T]) Tail() *Cursor[T] {
	j.mu.Lock()
	defer j.mu.Unlock()
	return &Cursor[T]{j, j.next}
}

// From reads from an entry on; one that is not there yet means the first of all
// that are: it was numbered by another.
func (j *Journal[T]) From(n uint64) *Cursor[T] {
	j.mu.Lock()
	defer j.mu.Unlock()
	if n > j.next {
		n = j.first
	}
	return &Cursor[T]{j, max(n, j.first)}
}

// After reads from the first entry on that old does not hold for.
func (j *Journal[T]) After(old func(T) bool) *Cursor[T] {
	j.mu.Lock()
	defer j.mu.Unlock()
	at := max(j.first, j.next-min(j.next, uint64(len(j.ring))))
	for at < j.next && old(j.ring[at%uint64(len(j.ring))]) {
		at++
	}
	return &Cursor[T]{j, at}
}

// mostRead is how many entries are read at once. A reader that was away for long would get
// all of them otherwise, and hold them while it passes them on.
const mostRead = 256

// Read returns the next entries from the cursor on, at least one, and how many were
// lost before them. Without wait it returns none when there are none.
func (c *Cursor[T]) Read(ctx context.Context, wait bool) (list []T, lost uint64, err error) {
	for {
		j := c.j
		j.mu.Lock()
		size := uint64(len(j.ring))
		if oldest := j.next - min(j.next, size); c.at < oldest {
			lost, c.at = oldest-c.at, oldest
		}
		for ; c.at < j.next && len(list) < mostRead; c.at++ {
			list = append(list, j.ring[c.at%size])
		}
		changed := j.changed
		j.mu.Unlock()
		if len(list) > 0 || lost > 0 || !wait {
			return slices.Clip(list), lost, nil
		}
		select {
		case <-ctx.Done():
			return nil, 0, ctx.Err()
		case <-changed:
		}
	}
}
