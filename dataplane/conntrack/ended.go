package conntrack

import (
	"sync"
	"sync/atomic"
)

// endedRoom is how many flows can end between two readings of the log.
const endedRoom = 8192

// Ended keeps the flows that have ended until somebody reads them. Nobody
// waits for a reader: what does not fit is counted. While it is off a flow's end
// costs a load.
type Ended struct {
	on   atomic.Bool
	now  func() int64
	mu   sync.Mutex
	ring []Info
	lost uint64
}

// Record begins or stops to remember flows.
func (q *Ended) Record(on bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.ring, q.lost = nil, 0
	if on {
		q.ring = make([]Info, 0, endedRoom)
	}
	q.on.Store(on)
}

// On reports whether flows are remembered.
func (q *Ended) On() bool { return q.on.Load() }

// Take appends the flows that have ended since the last call to list and says how
// many more had no room. Their Age is that at the last packet.
func (q *Ended) Take(list []Info) ([]Info, uint64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	list = append(list, q.ring...)
	lost := q.lost
	q.ring, q.lost = q.ring[:0], 0
	return list, lost
}

// Put takes a flow as it was when it ended.
func (q *Ended) Put(i *Info) {
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
func (q *Ended) tracked(c *Conn, st connState) {
	if !q.on.Load() {
		return
	}
	i := c.info(q.now(), &Limits{})
	i.State, i.Closed = stateNames[st], st.closed()
	q.Put(&i)
}
