package journal

import (
	"container/list"
	"context"
	"slices"
	"sync"

	"github.com/vswitch/vswitch/dataplane/share"
)

// Journal keeps the last entries of a stream, as many as there is room for. Those whom the
// entries are of share the room: when there is none, who has most gives the oldest, so that
// somebody who does a lot takes nobody else's. Writers never wait: a reader that is too slow
// loses entries and is told how many.
type Journal[T any] struct {
	of func(T) string // whose an entry is

	mu      sync.Mutex
	entries []entry[T] // by the numbers of shares
	free    []uint32
	tenants map[string]int
	spare   []int // numbers of tenants
	shares  *share.Table
	order   list.List // of *entry[T], the oldest first
	first   uint64
	next    uint64        // number of the next entry
	changed chan struct{} // closed with the next entry
}

// entry is one entry, or a place for one.
type entry[T any] struct {
	what   T
	n      uint64
	tenant int
	who    string
	place  *list.Element // in the order
	link   share.Link
}

// New holds so many entries; the first one is given a number. of says whose an entry is.
func New[T any](size int, first uint64, of func(T) string) *Journal[T] {
	j := &Journal[T]{
		of: of, entries: make([]entry[T], size), tenants: make(map[string]int), first: first, next: first, changed: make(chan struct{}),
	}
	for i := size; i > 0; i-- {
		j.free, j.spare = append(j.free, uint32(i)), append(j.spare, i-1)
	}
	j.shares = share.New(j, size, 0)
	return j
}

// Link and Seen implement share.Entries.
func (j *Journal[T]) Link(i uint32) *share.Link { return &j.entries[i-1].link }
func (j *Journal[T]) Seen(uint32) uint32        { return 0 }

// Add enters what fill returns for its number.
func (j *Journal[T]) Add(fill func(n uint64) T) {
	j.mu.Lock()
	defer j.mu.Unlock()
	what := fill(j.next)
	who := j.of(what)
	if len(j.free) == 0 {
		j.giveLocked(who)
	}
	tenant, known := j.tenants[who]
	if !known {
		tenant = j.spare[len(j.spare)-1]
		j.spare, j.tenants[who] = j.spare[:len(j.spare)-1], tenant
	}
	i := j.free[len(j.free)-1]
	j.free = j.free[:len(j.free)-1]
	e := &j.entries[i-1]
	*e = entry[T]{what: what, n: j.next, tenant: tenant, who: who, place: j.order.PushBack(e)}
	j.shares.Enter(i, tenant, 0, 1)
	j.next++
	close(j.changed)
	j.changed = make(chan struct{})
}

// giveLocked takes an entry out, so that there is room for one of somebody's.
func (j *Journal[T]) giveLocked(who string) {
	asker, known := j.tenants[who]
	if !known {
		asker = j.shares.Largest() // who has nothing takes from who has most
	}
	i, tenant := j.shares.Victim(asker)
	e := &j.entries[i-1]
	j.shares.Leave(i, tenant, 0, 1)
	if j.shares.Held(tenant) == 0 {
		delete(j.tenants, e.who)
		j.spare = append(j.spare, tenant)
	}
	j.order.Remove(e.place)
	*e = entry[T]{}
	j.free = append(j.free, i)
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
	for at := j.order.Front(); at != nil; at = at.Next() {
		if e := at.Value.(*entry[T]); !old(e.what) {
			return &Cursor[T]{j, e.n}
		}
	}
	return &Cursor[T]{j, j.next}
}

// mostRead is how many entries are read at once. A reader that was away for long would get
// all of them otherwise, and hold them while it passes them on.
const mostRead = 256

// Read returns the next entries from the cursor on, at least one, and how many were
// lost before or between them. Without wait it returns none when there are none.
func (c *Cursor[T]) Read(ctx context.Context, wait bool) (taken []T, lost uint64, err error) {
	for {
		c.j.mu.Lock()
		taken, lost = c.takeLocked()
		changed := c.j.changed
		c.j.mu.Unlock()
		if len(taken) > 0 || lost > 0 || !wait {
			return slices.Clip(taken), lost, nil
		}
		select {
		case <-ctx.Done():
			return nil, 0, ctx.Err()
		case <-changed:
		}
	}
}

// takeLocked reads on. Most readers are near the newest entry, so the search begins there.
func (c *Cursor[T]) takeLocked() (taken []T, lost uint64) {
	var from *list.Element
	for at := c.j.order.Back(); at != nil && at.Value.(*entry[T]).n >= c.at; at = at.Prev() {
		from = at
	}
	for ; from != nil && len(taken) < mostRead; from = from.Next() {
		e := from.Value.(*entry[T])
		lost += e.n - c.at
		taken, c.at = append(taken, e.what), e.n+1
	}
	return taken, lost
}
