package relay

import (
	"sync"
	"time"

	"github.com/vswitch/vswitch/control/anyport"
)

// Bounds and costs of a backlog. The costs are the time in ns in which the kernel sends a
// datagram to a container, or makes a session; each byte adds about one.
const (
	backlogBytes = 4 << 20
	ownBytes     = 256 // of a datagram that waits, beside its payload
	sendCost     = 8 << 10
	openCost     = 32 << 10
	turnCost     = 128 << 10
	// After a turn a user rests this many times as long as it took, the second number when
	// others came lately, but not longer than longestRest: the switch and the container have work
	// with what was carried, too.
	rests       = 2
	restsBeside = 10
	longestRest = 20 * time.Millisecond
	// So many users are remembered who have nothing waiting and still owe or rest.
	mostOwing = 256
)

// datagram waits to be carried to a container.
type datagram struct {
	flow    flow
	who     User
	payload []byte
	out     *anyport.Sender // of its answers
}

func (d *datagram) bytes() int { return ownBytes + len(d.payload) }

// backlog is the datagrams that wait, apart for each user. A user may fill as much as is
// still free, and one who has nothing there has room in any case: the user with the most gives.
// Users take turns by what it costs to carry theirs. A user for whom one turn is not enough
// rests after each, so a flood keeps nobody waiting but its sender; what he owes and how long
// he rests outlasts his last datagram. Only next is called by one goroutine alone.
type backlog struct {
	more chan struct{} // told that next may find something, or that it has closed

	mu     sync.Mutex // guards what follows
	closed bool
	free   int
	lines  map[User]*line
	ring   []*line // the next first
	owing  int     // of these have no datagram
	seen   seen
	served *line // whose datagram is being carried, since at; nil: nobody's
	at     time.Time
	lost   uint64
}

// line is what waits for one user, the first first.
type line struct {
	who     User
	waiting []datagram
	bytes   int
	credit  int
	took    time.Duration // of its turn so far
	rest    time.Time     // until when it has no turn
}

func newBacklog(bytes int) *backlog {
	return &backlog{free: bytes, lines: make(map[User]*line), more: make(chan struct{}, 1)}
}

// put lets a datagram wait, with its payload copied, unless its user has what he may.
func (b *backlog) put(d datagram) {
	n := d.bytes()
	b.mu.Lock()
	defer b.mu.Unlock()
	l, known := b.lines[d.who]
	if !known {
		l = &line{who: d.who}
	}
	if b.closed || l.bytes+n > b.free && (len(l.waiting) > 0 || !b.makeRoomLocked(n)) {
		b.lost++
		return
	}
	d.payload = append([]byte(nil), d.payload...)
	switch {
	case !known:
		b.lines[d.who] = l
		b.ring = append(b.ring, l)
		b.tell()
	case len(l.waiting) == 0:
		b.owing--
		b.tell()
	}
	l.waiting = append(l.waiting, d)
	l.bytes += n
	b.free -= n
}

// makeRoomLocked takes what came last of the user who has most.
func (b *backlog) makeRoomLocked(n int) bool {
	for n > b.free {
		most := &line{bytes: n}
		for _, l := range b.ring {
			if l.bytes > most.bytes {
				most = l
			}
		}
		last := len(most.waiting) - 1
		if last < 1 {
			return false
		}
		gives := most.waiting[last].bytes()
		most.waiting[last] = datagram{}
		most.waiting = most.waiting[:last]
		most.bytes -= gives
		b.free += gives
		b.lost++
	}
	return true
}

// next waits for the datagram whose turn it is. It is not ok after close.
func (b *backlog) next() (d datagram, ok bool) {
	for {
		d, wait, closed := b.take(time.Now())
		switch {
		case closed:
			return d, false
		case d.out != nil:
			return d, true
		case wait == 0:
			<-b.more
			continue
		}
		timer := time.NewTimer(wait)
		select {
		case <-b.more:
		case <-timer.C:
		}
		timer.Stop()
	}
}

// take takes the datagram whose turn it is. If none is there, its out is nil, and wait says
// when there will be one; 0: nobody knows.
func (b *backlog) take(now time.Time) (d datagram, wait time.Duration, closed bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return d, 0, true
	}
	b.carriedLocked(now)
	for i := 0; i < len(b.ring); i++ {
		l := b.ring[i]
		if rest := l.rest.Sub(now); rest > 0 {
			if len(l.waiting) > 0 && (wait == 0 || rest < wait) {
				wait = rest
			}
			continue
		}
		if l.credit < 0 { // of what cost more than a turn
			l.credit += turnCost
			b.ring = append(append(b.ring[:i], b.ring[i+1:]...), l)
			i--
			continue
		}
		if len(l.waiting) == 0 {
			b.owing--
			b.removeLocked(i)
			i--
			continue
		}
		b.served, b.at = l, now
		b.seen.note(l.who, now)
		return b.popLocked(i), 0, false
	}
	return d, wait, false
}

// carriedLocked ends the turn of a user whose last datagram has cost the rest of it.
func (b *backlog) carriedLocked(now time.Time) {
	l := b.served
	if l == nil {
		return
	}
	b.served = nil
	l.took += now.Sub(b.at)
	if l.credit < 0 {
		n := time.Duration(rests)
		if b.seen.others(l.who, now) {
			n = restsBeside
		}
		l.rest, l.took = now.Add(min(n*l.took, longestRest)), 0
	}
}

func (b *backlog) popLocked(i int) datagram {
	l := b.ring[i]
	d := l.waiting[0]
	l.waiting[0] = datagram{}
	l.waiting = l.waiting[1:]
	l.credit -= sendCost + len(d.payload)
	l.bytes -= d.bytes()
	b.free += d.bytes()
	switch {
	case len(l.waiting) > 0:
	case b.owing < mostOwing:
		b.owing++ // take removes it
	default:
		b.removeLocked(i)
	}
	return d
}

func (b *backlog) removeLocked(i int) {
	delete(b.lines, b.ring[i].who)
	b.ring = append(b.ring[:i], b.ring[i+1:]...)
}

// charge has a user pay for a session, out of his next turns.
func (b *backlog) charge(who User, cost int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if l := b.lines[who]; l != nil {
		l.credit -= cost
	}
}

// dropped is how many datagrams found no room.
func (b *backlog) dropped() uint64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.lost
}

func (b *backlog) close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
	b.tell()
}

func (b *backlog) tell() {
	select {
	case b.more <- struct{}{}:
	default:
	}
}
