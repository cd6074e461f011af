package control

import (
	"context"
	"slices"
	"sync"
)

// journal keeps the last entries of a stream. Writers never wait: a reader that
// is slower than the ring is long loses entries and is told how many.
type journal[T any] struct {
	mu      sync.Mutex
	ring    []T // entry n lies at n % len
	first   uint64
	next    uint64        // number of the next entry
	changed chan struct{} // closed with the next entry
}

// newJournal holds so many entries; the first one is given a number.
func newJournal[T any](size int, first uint64) *journal[T] {
	return &journal[T]{ring: make([]T, size), first: first, next: first, changed: make(chan struct{})}
}

// add enters what fill returns for its number.
func (j *journal[T]) add(fill func(n uint64) T) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.ring[j.next%uint64(len(j.ring))] = fill(j.next)
	j.next++
	close(j.changed)
	j.changed = make(chan struct{})
}

// cursor is one reader's place.
type cursor[T any] struct {
	j  *journal[T]
	at uint64 // next entry to read
}

// tail reads what comes from now on.
func (j *journal[T]) tail() *cursor[T] {
	j.mu.Lock()
	defer j.mu.Unlock()
	return &cursor[T]{j, j.next}
}

// from reads from an entry on; one that is not there yet means the first of all
// that are: it was numbered by another.
func (j *journal[T]) from(n uint64) *cursor[T] {
	j.mu.Lock()
	defer j.mu.Unlock()
	if n > j.next {
		n = j.first
	}
	return &cursor[T]{j, max(n, j.first)}
}

// after reads from the first entry on that old does not hold for.
func (j *journal[T]) after(old func(T) bool) *cursor[T] {
	j.mu.Lock()
	defer j.mu.Unlock()
	at := max(j.first, j.next-min(j.next, uint64(len(j.ring))))
	for at < j.next && old(j.ring[at%uint64(len(j.ring))]) {
		at++
	}
	return &cursor[T]{j, at}
}

// read returns the entries behind the cursor, at least one, and how many were
// lost before them. Without wait it returns none when there are none.
func (c *cursor[T]) read(ctx context.Context, wait bool) (list []T, lost uint64, err error) {
	for {
		j := c.j
		j.mu.Lock()
		size := uint64(len(j.ring))
		if oldest := j.next - min(j.next, size); c.at < oldest {
			lost, c.at = oldest-c.at, oldest
		}
		for ; c.at < j.next; c.at++ {
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
