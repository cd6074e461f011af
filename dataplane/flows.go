package dataplane

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vswitch/vswitch/dataplane/header"
)

// meter measures the rate of a counter between two sweeps. It is the sweep's
// alone but for rate.
type meter struct {
	at   int64  // ns, 0: never looked
	seen uint64 // the counter then
	rate atomic.Uint64
}

// note looks at the counter of something that was created at a time.
func (m *meter) note(now, created int64, count uint64) {
	since := m.at
	if since < created {
		since, m.seen = created, 0 // another one's memory
	}
	if count < m.seen {
		return
	}
	// Of a flow that began a moment ago it is what that is of a whole second: short ones
	// would add up to more than any link carries.
	if took := max(now-since, int64(time.Second)); now > since {
		m.rate.Store(uint64(float64(count-m.seen) * float64(time.Second) / float64(took)))
		m.at, m.seen = now, count
	}
}

// Flows lists the tracked flows and the bridged ones of the last minute, in no
// particular order. Of those, the workers remember 4096 each; busy ones stay.
func (s *Switch) Flows() []ConnInfo {
	list := make([]ConnInfo, 0, s.conntrack.len())
	s.EachFlow(func(i *ConnInfo) { list = append(list, *i) })
	return list
}

// EachFlow calls fn for each flow that Flows lists. No lock is held meanwhile; what
// the pointer leads to is valid until fn returns.
func (s *Switch) EachFlow(fn func(*ConnInfo)) {
	s.EachConn(fn)
	var list []ConnInfo
	at := make(map[header.Tuple]int) // in list: two workers may each see one direction
	for _, p := range s.bridgedParts(nil) {
		if j, ok := at[p.Orig]; ok {
			list[j].merge(&p, 0)
			continue
		}
		if j, ok := at[p.Reply]; ok {
			list[j].merge(&p, 1)
			continue
		}
		at[p.Orig] = len(list)
		list = append(list, p)
	}
	for i := range list {
		fn(&list[i])
	}
}

// FlowParts is Flows as EndedFlows will tell of them: a bridged flow is there once
// for each worker that has seen it.
func (s *Switch) FlowParts() []ConnInfo { return s.bridgedParts(s.Conns()) }

func (s *Switch) bridgedParts(list []ConnInfo) []ConnInfo {
	now := s.cfg.Now()
	for _, w := range s.workers {
		w.accounts.each(func() {
			// Memory comes before the lock, which the worker would wait for.
			list = slices.Grow(list, accountChunk*accountWays)
		}, func(e *bridgedFlow) { list = append(list, e.info(now)) })
	}
	return list
}

func (e *bridgedFlow) info(now int64) ConnInfo {
	return ConnInfo{
		Orig: e.tuple, Reply: e.tuple.Reverse(), Kind: ConnBridged, Port: e.ports[0], Other: e.ports[1],
		State: e.state(), Packets: e.packets, Bytes: e.bytes, Rate: e.meter.rate.Load(),
		Created: e.created, Closed: e.flags&(tcpFIN|tcpRST) != 0,
		Age: time.Duration(now - e.created), Idle: time.Duration(now - e.seen),
	}
}

// merge adds what another worker counted of the same flow; turned says that it
// saw the other side first.
func (i *ConnInfo) merge(o *ConnInfo, turned int) {
	if turned == 1 && o.Age > i.Age { // the elder knows who began
		i.Orig, i.Reply, i.Port, i.Other, i.Created = o.Orig, o.Reply, o.Port, o.Other, o.Created
		i.Packets[0], i.Packets[1] = i.Packets[1], i.Packets[0]
		i.Bytes[0], i.Bytes[1] = i.Bytes[1], i.Bytes[0]
		turned = 0
	}
	for d := range 2 {
		i.Packets[d] += o.Packets[d^turned]
		i.Bytes[d] += o.Bytes[d^turned]
	}
	i.Rate += o.Rate
	i.Age, i.Idle = max(i.Age, o.Age), min(i.Idle, o.Idle)
	// Each has seen one direction alone: together they have seen both.
	switch {
	case i.Packets[0] == 0 || i.Packets[1] == 0:
	case i.State == stateNames[stateInit]:
		i.State = stateNames[stateEstablished]
	case i.State == stateNames[stateUDPOnce]:
		i.State = stateNames[stateUDP]
	}
}

// endedRoom is how many flows can end between two readings of the log.
const endedRoom = 8192

// endedFlows keeps the flows that have ended until somebody reads them. Nobody
// waits for a reader: what does not fit is counted. While it is off a flow's end
// costs a load.
type endedFlows struct {
	on   atomic.Bool
	now  func() int64
	mu   sync.Mutex
	ring []ConnInfo
	lost uint64
}

// RecordFlows begins or stops to remember flows that have ended, for EndedFlows.
func (s *Switch) RecordFlows(on bool) {
	q := &s.ended
	q.mu.Lock()
	defer q.mu.Unlock()
	q.ring, q.lost = nil, 0
	if on {
		q.ring = make([]ConnInfo, 0, endedRoom)
	}
	q.on.Store(on)
}

// EndedFlows appends the flows that have ended since the last call to list and
// says how many more had no room. Their Age is that at the last packet.
func (s *Switch) EndedFlows(list []ConnInfo) ([]ConnInfo, uint64) {
	q := &s.ended
	q.mu.Lock()
	defer q.mu.Unlock()
	list = append(list, q.ring...)
	lost := q.lost
	q.ring, q.lost = q.ring[:0], 0
	return list, lost
}

func (q *endedFlows) put(i *ConnInfo) {
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

// bridged takes a flow that gives way or was idle for too long.
func (q *endedFlows) bridged(e *bridgedFlow) {
	if !q.on.Load() || e.created == 0 {
		return
	}
	i := e.info(q.now())
	q.put(&i)
}

// tracked takes a flow that was in a state when it was removed.
func (q *endedFlows) tracked(c *conn, st connState) {
	if !q.on.Load() {
		return
	}
	i := c.info(q.now(), &timeouts{})
	i.State, i.Closed = stateNames[st], st.closed()
	q.put(&i)
}
