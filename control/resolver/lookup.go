package resolver

import (
	"context"
	"sync"
	"time"

	"github.com/miekg/dns"

	"github.com/vswitch/vswitch/control/places"
)

// lookups are the names that are being asked outside. Who asks for the same as another waits with
// that one.
type lookups struct {
	up    *upstream
	cache *cache

	mu      sync.Mutex
	places  *places.Places[string]
	flights map[key]*flight
	writing map[string]int // of the names that are under way, as nobody else writes them
	looped  uint64
	failed  uint64
}

// flight is a name that is being asked for.
type flight struct {
	waiting int
	cancel  context.CancelFunc
	done    chan struct{}
	msg     *dns.Msg // nil: nobody answered
}

// waiter is one that waits for a flight.
type waiter struct {
	since uint32
	gave  chan struct{}
}

// Used implements places.Guest: who waits longest gives first.
func (w *waiter) Used() uint32 { return w.since }

func newLookups(up *upstream, n int) *lookups {
	return &lookups{
		up: up, cache: newCache(cacheEntries), places: places.New[string](n),
		flights: make(map[key]*flight), writing: make(map[string]int),
	}
}

// known is the answer that is there already, nil: none.
func (l *lookups) known(q *query, now time.Time) *dns.Msg {
	if m, ok := l.cache.get(q, now); ok {
		return m
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.writing[q.Question[0].Name] > 0 {
		// It is ours: a name server of the host, or one that it asks, asks a container that asks us.
		l.looped++
		return q.reply(dns.RcodeRefused)
	}
	return nil
}

// find asks outside, and waits for the answer. nil: others took the place.
func (l *lookups) find(q *query, tenant string) *dns.Msg {
	w := &waiter{since: uint32(time.Now().UnixMilli()), gave: make(chan struct{})}
	l.mu.Lock()
	at, gave := l.places.Take(w, tenant, places.Open)
	if gave != nil {
		close(gave.(*waiter).gave)
	}
	k := q.key()
	f := l.flights[k]
	if f == nil {
		f = l.beginLocked(k, q, tenant)
	}
	f.waiting++
	l.mu.Unlock()
	select {
	case <-f.done:
	case <-w.gave:
	}
	l.mu.Lock()
	l.places.Leave(at, w)
	if f.waiting--; f.waiting == 0 {
		f.cancel()
		if l.flights[k] == f {
			delete(l.flights, k) // nobody joins what was given up
		}
	}
	l.mu.Unlock()
	select {
	case <-w.gave:
		return nil
	default:
	}
	if f.msg == nil || f.msg.Rcode == dns.RcodeServerFailure {
		if m, _ := l.cache.get(q, time.Now()); m != nil {
			return m // stale
		}
	}
	if f.msg != nil {
		return q.handOn(f.msg, 0, 0)
	}
	return q.reply(dns.RcodeServerFailure)
}

// beginLocked asks for a name.
func (l *lookups) beginLocked(k key, q *query, tenant string) *flight {
	ctx, cancel := context.WithCancel(context.Background())
	f := &flight{cancel: cancel, done: make(chan struct{})}
	l.flights[k] = f
	m := q.outward()
	written := m.Question[0].Name
	if written == q.Question[0].Name {
		written = "" // too short to be told from others'
	} else {
		l.writing[written]++
	}
	go func() {
		r, err := l.up.ask(ctx, m, q.servers)
		now := time.Now()
		if err == nil {
			f.msg = r
			l.cache.put(q, r, tenant, now)
		}
		if ctx.Err() == nil && (err != nil || r.Rcode == dns.RcodeServerFailure) {
			l.cache.failed(q, now)
		}
		l.mu.Lock()
		if err != nil {
			l.failed++
		}
		if l.flights[k] == f {
			delete(l.flights, k)
		}
		if l.writing[written]--; l.writing[written] <= 0 {
			delete(l.writing, written)
		}
		l.mu.Unlock()
		close(f.done)
		cancel()
	}()
	return f
}
