package resolver

import (
	"sync"
	"time"

	"github.com/miekg/dns"

	"github.com/vswitch/vswitch/control/places"
)

const (
	cacheEntries = 8192
	// largest is the longest answer that is kept, in bytes.
	largest = 4096
	// An answer that is over is told for so long while nobody answers (RFC 8767), with a TTL of its own, and
	// for a moment nobody is asked again.
	staleFor = 24 * time.Hour
	staleTTL = 30
	restFor  = 5 * time.Second
)

// cache keeps answers from outside. Who asked first has the place of one.
type cache struct {
	mu      sync.Mutex
	places  *places.Places[string]
	entries map[key]*kept
	hits    uint64
}

type kept struct {
	key       key
	msg       *dns.Msg
	at, until time.Time
	rest      time.Time // nobody is asked before
	place     uint32
	used      uint32 // s
}

// Used implements places.Guest.
func (k *kept) Used() uint32 { return k.used }

func newCache(n int) *cache {
	return &cache{places: places.New[string](n), entries: make(map[key]*kept)}
}

// get is what is kept, and whether it is to be told: as long as it holds, and while it has gone stale
// and nobody answers. nil: nothing.
func (c *cache) get(q *query, now time.Time) (m *dns.Msg, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	k := c.entries[q.key()]
	if k == nil {
		return nil, false
	}
	k.used = uint32(now.Unix())
	switch {
	case now.Before(k.until):
		c.hits++
		return q.handOn(k.msg, now.Sub(k.at), 0), true
	case now.Sub(k.until) < staleFor:
		return q.handOn(k.msg, 0, staleTTL), now.Before(k.rest)
	}
	c.dropLocked(k)
	return nil, false
}

func (c *cache) dropLocked(k *kept) {
	c.places.Leave(k.place, k)
	delete(c.entries, k.key)
}

// put keeps an answer.
func (c *cache) put(q *query, m *dns.Msg, tenant string, now time.Time) {
	life := lifetime(m)
	if life == 0 || m.Len() > largest {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	k := &kept{key: q.key(), msg: m, at: now, until: now.Add(life), used: uint32(now.Unix())}
	if was := c.entries[k.key]; was != nil {
		c.dropLocked(was)
	}
	at, gave := c.places.Take(k, tenant, places.Open)
	if gave != nil {
		delete(c.entries, gave.(*kept).key)
	}
	k.place = at
	c.entries[k.key] = k
}

// failed has nobody asked for a moment for what is there though it is stale.
func (c *cache) failed(q *query, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if k := c.entries[q.key()]; k != nil {
		k.rest = now.Add(restFor)
	}
}

func (c *cache) stats() (entries int, hits uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.entries), c.hits
}
