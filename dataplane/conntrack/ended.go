package conntrack

import (
	"sync"
	"sync/atomic"
	"time"
)

// logRoom is how many flows a log has room for between two readings.
const logRoom = 8192

// tellAfter is how long after its last packet a closed flow is told of as ended: the last
// acknowledgment belongs to it. tellAnyway is when it is told though the kernel may not have
// counted all that it carried.
const (
	tellAfter  = int64(time.Second)
	tellAnyway = int64(5 * time.Second)
)

// Log keeps flows that have begun, or that have ended, until somebody reads them. Nobody
// waits for a reader: what does not fit is counted. While it is off a flow costs a load.
type Log struct {
	on   atomic.Bool
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

// tellClosed tells the end of a closed flow whose last packets have come, once.
func (t *Table) tellClosed(i uint32, now int64) {
	idle := now - t.conn(i).lastSeen.Load()
	if idle < tellAfter {
		return
	}
	t.live(i, func(c *Conn) {
		v := c.state.Load()
		carried := c.rows[0].Load() != 0 || c.rows[1].Load() != 0
		if v&told == 0 && connState(v&^stateFlags).closed() && (!carried || idle >= tellAnyway) && c.state.CompareAndSwap(v, v|told) {
			t.Ended.tracked(c, connState(v&^stateFlags))
		}
	})
}
