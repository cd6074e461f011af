package dataplane

import (
	"time"

	"github.com/vswitch/vswitch/dataplane/frame"
)

// refreshEvery is how often the kernel is asked to confirm a next hop that
// is in use: it does not see our traffic and would never probe a stale one.
const refreshEvery = 20 * time.Second

// forgetLocked drops what waits for a next hop, and the hop.
func (room *waitingRoom) forgetLocked(w *worker, i int32) {
	for room.hops[i].first >= 0 {
		room.evictLocked(w, room.hops[i].first)
	}
	room.unlinkLocked(i)
	room.freeLocked(i)
}

// unlinkLocked lets a next hop be waited for no longer.
func (room *waitingRoom) unlinkLocked(i int32) {
	h := &room.hops[i]
	delete(room.index, h.key)
	room.owners.Leave(uint32(i+1), int(h.owner), 0, 1)
}

func (room *waitingRoom) freeLocked(i int32) { room.hops[i].next, room.free = room.free, i }

// release finds the frames that need wait no longer, and reports whether there are any.
func (room *waitingRoom) release(known func(*awaited) bool) bool {
	room.mu.Lock()
	defer room.mu.Unlock()
	for k, i := range room.index {
		if !known(&k) {
			continue
		}
		room.unlinkLocked(i)
		h := &room.hops[i]
		if h.first < 0 {
			room.freeLocked(i)
			continue
		}
		h.next = -1
		if room.ready < 0 {
			room.ready = i
		} else {
			room.hops[room.last].next = i
		}
		room.last = i
	}
	return room.ready >= 0
}

// expire drops frames that waited for too long; their sender has sent again. It asks for
// hops that nobody was asked for yet.
func (room *waitingRoom) expire(now int64, s *Switch) {
	room.mu.Lock()
	defer room.mu.Unlock()
	room.asks.age(now)
	for _, i := range room.index {
		h := &room.hops[i]
		for h.first >= 0 && now-room.frames[h.first].since > int64(waitingTime) {
			s.workers[0].count(room.frames[h.first].in, DropNoNeighbor)
			room.recordLocked(s, h.first, now)
			room.takeLocked(h.first)
		}
		switch {
		case h.first < 0 && now-h.since > int64(waitingTime):
			room.unlinkLocked(i)
			room.freeLocked(i)
		case !h.asked && h.first >= 0:
			room.askLocked(s, h, room.frames[h.first].in, now)
		}
	}
}

// turnWaiting carries the frames that need wait no longer through the stages. Their ports
// pay for it.
func (w *worker) turnWaiting() int {
	room := w.sw.waiting
	w.seq.Add(1)
	defer w.seq.Add(1)
	w.batch.Begin(turnLimit)
	w.left = turnLimit
	w.arena.Reset()
	room.mu.Lock()
	for room.ready >= 0 && !w.batch.Full() {
		i := room.ready
		h := &room.hops[i]
		if h.first >= 0 {
			w.collectLocked(room, h.first)
			continue
		}
		room.ready = h.next
		room.freeLocked(i)
	}
	if room.ready >= 0 {
		w.poller.Wake() // there is more
	}
	room.mu.Unlock()
	w.collectAnnounced()
	if w.batch.N > 0 {
		w.now = w.sw.now()
		w.watch() // what came in was captured when it came
		w.turn()
	}
	return w.batch.N
}

// collectLocked moves a frame that waits for a known hop into the batch.
func (w *worker) collectLocked(room *waitingRoom, i int32) {
	kept := &room.frames[i]
	f := w.batch.Next()
	f.Buf = w.arena.Alloc(kept.n - frame.Headroom)
	room.mem.read(i, f.Buf)
	f.In, f.Offload = kept.in, kept.offload
	frame.EncodeVnetHdr(f.Buf, f.Offload)
	w.batch.Charge(f.Len(), f.Buf)
	if e := w.sw.ports[f.In].Load(); e != nil {
		cost := frame.TakeCost(f.Len()) + f.Offload.SendCost(f.Len())
		e.debt.Add(cost)
		if frame.Observed {
			e.counters[w.id].cost.Add(uint64(cost))
		}
	}
	room.takeLocked(i)
}

// confirm asks control for the next hops that were used since the last time. It reports
// whether there was room for all.
func (s *Switch) confirm() bool {
	for k, n := range s.neigh.Load().macs {
		if !n.used.Load() {
			continue
		}
		select {
		case s.notices.wanted <- k:
			n.used.Store(false)
		default:
			return false
		}
	}
	return true
}
