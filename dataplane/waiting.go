package dataplane

import (
	"sync"
	"time"

	"github.com/vswitch/vswitch/dataplane/frame"
	"github.com/vswitch/vswitch/dataplane/header"
)

const (
	waitingFrames = 128 // in all
	waitingEach   = 8   // for one next hop
	waitingSize   = frame.Headroom + 2048
	waitingTime   = 3 * time.Second
	resolveAgain  = time.Second
	// refreshEvery is how often the kernel is asked to confirm a next hop that
	// is in use: it does not see our traffic and would never probe a stale one.
	refreshEvery = 20 * time.Second
)

// waitingRoom holds copies of frames whose next hop's MAC address is not known
// yet. They run through the stages again when it is.
type waitingRoom struct {
	mu     sync.Mutex
	frames [waitingFrames]waitingFrame
	asked  map[NeighborKey]int64 // when the resolver was last asked, ns
	ready  bool                  // some frame may go on
	seq    uint64                // of the frame that came last
	want   chan NeighborKey
}

type waitingFrame struct {
	buf     [waitingSize]byte // owned
	n       int               // bytes of buf, 0: free
	in      frame.PortID
	offload frame.Offload
	next    NeighborKey
	since   int64 // ns
	seq     uint64
	ready   bool
}

func newWaitingRoom() *waitingRoom {
	return &waitingRoom{asked: make(map[NeighborKey]int64), want: make(chan NeighborKey, 64)}
}

// wait copies a frame into the waiting room and asks for its next hop. The
// frame itself leaves the turn; it is not counted as dropped when it waits.
func (w *worker) wait(r *routed, next header.Addr) DropReason {
	room, key := w.sw.waiting, NeighborKey{r.route.Uplink, next}
	room.mu.Lock()
	defer room.mu.Unlock()
	if at, ok := room.asked[key]; !ok || w.now-at >= int64(resolveAgain) {
		select {
		case room.want <- key:
			room.asked[key] = w.now
		default: // the resolver is behind; the next frame asks again
		}
	}
	if len(r.f.Buf) > waitingSize {
		return DropNoNeighbor
	}
	var slot *waitingFrame
	waiting := 0
	for i := range room.frames {
		f := &room.frames[i]
		switch {
		case f.n == 0:
			slot = f
		case f.next == key:
			waiting++
		}
	}
	if slot == nil || waiting >= waitingEach {
		return DropNoNeighbor
	}
	room.seq++
	slot.seq = room.seq
	slot.n = copy(slot.buf[:], r.f.Buf)
	slot.in, slot.offload, slot.next, slot.since, slot.ready = r.f.In, r.f.Offload, key, w.now, false
	return deferred
}

// deferred is not a reason: the frame waits and is neither sent nor dropped.
const deferred DropReason = 0xff

// release marks the frames whose next hop is known now.
func (room *waitingRoom) release(t *neighborTable) bool {
	room.mu.Lock()
	defer room.mu.Unlock()
	for i := range room.frames {
		f := &room.frames[i]
		if f.n > 0 && t.macs[f.next] != nil {
			f.ready, room.ready = true, true
		}
	}
	for k := range room.asked {
		if t.macs[k] != nil {
			delete(room.asked, k)
		}
	}
	return room.ready
}

// expire drops frames that waited for too long; their sender has sent again.
func (room *waitingRoom) expire(now int64, s *Switch) {
	room.mu.Lock()
	defer room.mu.Unlock()
	for i := range room.frames {
		if f := &room.frames[i]; f.n > 0 && now-f.since > int64(waitingTime) {
			s.workers[0].count(f.in, DropNoNeighbor)
			s.recordEnd(f.buf[:f.n], f.offload, f.in, DropNoNeighbor, now)
			f.n = 0
		}
	}
	for k, at := range room.asked {
		if now-at > int64(waitingTime) {
			delete(room.asked, k)
		}
	}
}

// turnWaiting carries the frames that need wait no longer through the stages.
func (w *worker) turnWaiting() int {
	room := w.sw.waiting
	w.seq.Add(1)
	defer w.seq.Add(1)
	room.mu.Lock()
	w.batch.N = 0
	w.arena.Reset()
	if room.ready {
		// In the order in which they came.
		for w.batch.N < frame.BatchSize && w.collectOldest(room) {
		}
		if room.ready = w.batch.N == frame.BatchSize; room.ready {
			w.poller.Wake() // there may be more
		}
	}
	room.mu.Unlock()
	if w.batch.N > 0 {
		w.now = w.sw.cfg.Now()
		w.watch() // what came in was captured when it came
		w.turn()
	}
	return w.batch.N
}

// collectOldest moves the ready frame that waited longest into the batch.
func (w *worker) collectOldest(room *waitingRoom) bool {
	var oldest *waitingFrame
	for i := range room.frames {
		if f := &room.frames[i]; f.n > 0 && f.ready && (oldest == nil || f.seq < oldest.seq) {
			oldest = f
		}
	}
	if oldest == nil {
		return false
	}
	f := w.batch.Next()
	f.Buf = w.arena.Alloc(oldest.n - frame.Headroom)
	copy(f.Buf, oldest.buf[:oldest.n])
	f.In, f.Offload = oldest.in, oldest.offload
	oldest.n = 0
	return true
}

// resolver asks control for next hops: those that frames wait for, and now and
// then those in use.
func (s *Switch) resolver() {
	refresh := time.NewTicker(refreshEvery)
	defer refresh.Stop()
	for {
		select {
		case <-s.done:
			return
		case k := <-s.waiting.want:
			if s.cfg.Resolve != nil {
				s.cfg.Resolve(k.Uplink, k.Addr.NetIP())
			}
		case <-refresh.C:
			for k, n := range s.neigh.Load().macs {
				if n.used.Swap(false) && s.cfg.Resolve != nil {
					s.cfg.Resolve(k.Uplink, k.Addr.NetIP())
				}
			}
		}
	}
}
