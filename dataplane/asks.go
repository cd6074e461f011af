package dataplane

import (
	"sync/atomic"

	"github.com/vswitch/vswitch/dataplane/frame"
)

// asksRoom is how many next hops the kernel may be asked for within waitingTime, in which an
// entry without an answer takes one of its places. One port may ask for as many as it leaves
// free (Choudhury and Hahne 1998): however many scan, who asks for little is heard.
const asksRoom = 512

// asks are the questions to the kernel of the last waitingTime.
type asks struct {
	ring [asksRoom]ask
	next uint32 // question ever; the last n lie before it
	n    uint32
	of   [MaxPorts]atomic.Int32 // how many are whose
}

type ask struct {
	at int64 // ns
	in frame.PortID
}

// take notes a question of a port, if it may have one more.
func (a *asks) take(in frame.PortID, now int64) bool {
	a.age(now)
	if uint32(a.of[in].Load()) >= asksRoom-a.n {
		return false
	}
	a.ring[a.next%asksRoom] = ask{now, in}
	a.next++
	a.n++
	a.of[in].Add(1)
	return true
}

// age forgets the questions that are over.
func (a *asks) age(now int64) {
	for a.n > 0 {
		q := &a.ring[(a.next-a.n)%asksRoom]
		if now-q.at <= int64(waitingTime) {
			return
		}
		a.of[q.in].Add(-1)
		a.n--
	}
}

// askLocked has the kernel asked for a next hop, if that is due and may be.
func (room *waitingRoom) askLocked(s *Switch, h *waitingHop, in frame.PortID, now int64) {
	if h.asked && now-h.since < int64(resolveAgain) {
		return
	}
	e := s.ports[in].Load()
	if e == nil {
		return
	}
	if h.key.way != (WayKey{}) {
		select {
		case s.ways.wanted <- h.key.way:
			h.asked, h.since = true, now
		default:
		}
		return
	}
	if !room.asks.take(in, now) {
		e.unasked.Add(1)
		return // the next frame asks, or the next tick
	}
	select {
	case s.notices.wanted <- h.key.hop:
		h.asked, h.since = true, now
	default: // control is late
	}
}
