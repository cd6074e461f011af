package dataplane

import "sync/atomic"

// credit bounds how fast a port does something: what it spends comes back with time.
// It starts full. One worker takes from it, anybody may look.
type credit struct {
	spent atomic.Int64 // ns
	last  atomic.Int64 // when that was, ns
	_     [48]byte
}

// take spends cost, unless more than most would be spent then.
func (c *credit) take(now, cost, most int64) bool {
	spent := c.used(now)
	ok := spent+cost <= most
	if ok {
		spent += cost
	}
	c.spent.Store(spent)
	c.last.Store(now)
	return ok
}

// used is what has been spent and not come back yet.
func (c *credit) used(now int64) int64 { return max(0, c.spent.Load()-(now-c.last.Load())) }

// copyFrom takes over the most that a worker has spent.
func (c *credit) copyFrom(all []credit, now int64) {
	for i := range all {
		c.spent.Store(max(c.spent.Load(), all[i].used(now)))
	}
	c.last.Store(now)
}
