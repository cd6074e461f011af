package resolver

import (
	"sync"

	"github.com/vswitch/vswitch/control/anyport"
)

// Bounds of what waits to be read.
const (
	queueBytes = 4 << 20
	ownBytes   = 256 // of a question that waits, beside its bytes
)

// question is a datagram that waits.
type question struct {
	bytes  []byte
	way    *anyport.Way // of the answer
	family int          // of the socket
	from   asker
}

func (q *question) size() int { return ownBytes + len(q.bytes) }

// queue is the questions that wait, apart for each tenant. A tenant may fill as much as is still free,
// and one who has nothing there has room in any case: the one with the most gives. They
// take turns, a question each.
type queue struct {
	mu    sync.Mutex // guards what follows
	more  sync.Cond
	free  int
	lines map[string]*line
	ring  []*line // that have something, the next first
	lost  uint64
}

type line struct {
	tenant  string
	waiting []question
	bytes   int
}

func newQueue(bytes int) *queue {
	q := &queue{free: bytes, lines: make(map[string]*line)}
	q.more.L = &q.mu
	return q
}

// put lets a question wait, unless its tenant has what it may.
func (q *queue) put(tenant string, d question) {
	q.mu.Lock()
	defer q.mu.Unlock()
	n := d.size()
	l := q.lines[tenant]
	if n > q.free && (l != nil || !q.makeRoomLocked(n)) {
		q.lost++
		return
	}
	if l == nil {
		l = &line{tenant: tenant}
		q.lines[tenant] = l
		q.ring = append(q.ring, l)
		q.more.Signal()
	}
	l.waiting = append(l.waiting, d)
	l.bytes += n
	q.free -= n
}

// makeRoomLocked takes what came last of the tenant who has most.
func (q *queue) makeRoomLocked(n int) bool {
	for n > q.free {
		most := &line{bytes: n}
		for _, l := range q.ring {
			if l.bytes > most.bytes {
				most = l
			}
		}
		last := len(most.waiting) - 1
		if last < 1 {
			return false
		}
		gives := most.waiting[last].size()
		most.waiting[last] = question{}
		most.waiting = most.waiting[:last]
		most.bytes -= gives
		q.free += gives
		q.lost++
	}
	return true
}

// next waits for the question whose turn it is.
func (q *queue) next() question {
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(q.ring) == 0 {
		q.more.Wait()
	}
	l := q.ring[0]
	q.ring = q.ring[1:]
	d := l.waiting[0]
	l.waiting[0] = question{}
	l.waiting = l.waiting[1:]
	l.bytes -= d.size()
	q.free += d.size()
	if len(l.waiting) > 0 {
		q.ring = append(q.ring, l)
		q.more.Signal()
	} else {
		delete(q.lines, l.tenant)
	}
	return d
}

func (q *queue) dropped() uint64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.lost
}
