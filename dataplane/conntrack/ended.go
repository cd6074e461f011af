package conntrack

import (
	"sync"
	"sync/atomic"
	"time"
)

// logRoom is how many flows a log has room for between two readings.
const logRoom = 8192

// tellAfter is how long after its last packet a closed flow is told of as ended: the last
// acknowledgment belongs to it, and no program counts for it any more.
const tellAfter = int64(time.Second)

// Log keeps flows that have begun, or that have ended, until somebody reads them. Nobody
// waits for a reader: what does not fit is counted. While it is off a flow costs a load.
type Log struct {
	on   atomic.Bool
	from atomic.Int64 // ns, since when
	now  func() int64
	mu   sync.Mutex
	ring []Info
	lost uint64
}

// Record begins or stops to remember flows.
func (q *Log) Record(on bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.ring, q.lost = nil, 0
	if on {
		q.ring = make([]Info, 0, logRoom)
		q.from.Store(q.now())
	}
	q.on.Store(on)
}

// On reports whether flows are remembered.
func (q *Log) On() bool { return q.on.Load() }

// Take appends the flows that were put there since the last call to list and says how
// many more had no room. Their Age is that at the last packet.
func (q *Log) Take(list []Info) ([]Info, uint64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	list = append(list, q.ring...)
	lost := q.lost
	q.ring, q.lost = q.ring[:0], 0
	return list, lost
}

// Put takes a flow as it was then. The Age in the log is that at the last packet.
func (q *Log) Put(i *Info) {
	i.Age -= i.Idle
	q.mu.Lock()
	defer q.mu.Unlock()
	switch {
	case !q.on.Load():
	case len(q.ring) == cap(q.ring):
		q.lost++
	default:
		q.ring = append(q.ring, *i)
	}
}

// tracked takes a flow that was in a state when it was removed.
func (q *Log) tracked(c *Conn, st connState) {
	if !q.on.Load() {
		return
	}
	i := c.info(q.now(), &Limits{})
	i.State, i.Closed = stateNames[st], st.closed()
	q.Put(&i)
}

// begun takes a flow whose first packet has come.
func (q *Log) begun(c *Conn) {
	if q.on.Load() {
		i := c.info(q.now(), &Limits{})
		q.Put(&i)
	}
}

// tellClosed tells the end of a closed flow whose last packets have come, once. A flow that closed before
// anybody read is no news.
func (t *Table) tellClosed(i uint32, now int64) {
	if seen := t.conn(i).lastSeen.Load(); !t.Ended.on.Load() || seen < t.Ended.from.Load() || now-seen < tellAfter {
		return
	}
	t.live(i, func(c *Conn) {
		t.catchUp(c, Ref(i)<<1, now)
		v := c.state.Load()
		if v&told != 0 || !connState(v&^stateFlags).closed() || now-c.lastSeen.Load() < tellAfter {
			return
		}
		lock := t.lock(c) // a row's number is another flow's once it was taken back
		lock.Lock()
		for dir := range c.rows {
			if n := c.rows[dir].Load(); n != 0 {
				c.count(&t.rows[n-1], dir)
			}
		}
		lock.Unlock()
		if c.state.CompareAndSwap(v, v|told) {
			t.Ended.tracked(c, connState(v&^stateFlags))
		}
	})
}
