package dataplane

import (
	"github.com/vswitch/vswitch/dataplane/frame"
	"github.com/vswitch/vswitch/dataplane/header"
)

const (
	// floodChunks is the memory of a worker for frames whose flooding goes on, 2 MiB.
	floodChunks = 4096
	// lookCost is what it costs to see that a flooded frame is not for a port, in ns.
	lookCost = 20
)

// flooding holds copies of the frames that a worker has not sent to all ports yet which
// are to have them: into 500 ports one is a millisecond of work, so it goes on in the next
// turns of the port that it came from, and that port's later frames wait for it in their
// ring. A port may have as much of the memory as it leaves free, so that there is always
// some for the next one.
type flooding struct {
	mem    *chunks
	frames []floodedFrame // by their first chunk
	ports  [MaxPorts]floodPort
}

// floodPort is what of one port goes on, in order.
type floodPort struct {
	of          *portEntry // whose frames they are; a later port has the same ID
	first, last int32      // -1: none
	held        int        // chunks
}

// floodedFrame is a bridged frame without its bytes.
type floodedFrame struct {
	n       int // bytes, headroom included
	offload frame.Offload
	vlan    uint16
	out     frame.PortID
	to      []frame.PortID
	at      int
	reached bool
	next    int32
}

func (p *flooding) init() {
	p.mem, p.frames = newChunks(floodChunks), make([]floodedFrame, floodChunks)
	for i := range p.ports {
		p.ports[i].first, p.ports[i].last = -1, -1
	}
}

// forward sends a bridged frame to its port, or to all that may have it; it reports false
// when the turn has cost enough before the last of them.
func (w *worker) forward(b *bridged, s *Snapshot) bool {
	if b.out != frame.NoPort {
		w.put(s.ports[b.out], b.out, b.f)
		return true
	}
	for in := s.ports[b.f.In]; b.at < len(b.to); b.at++ {
		if w.left <= 0 {
			return false
		}
		w.left -= lookCost
		if id := b.to[b.at]; id != b.f.In && s.floods(in, s.ports[id], b.f, w.lists) {
			w.put(s.ports[id], id, b.f)
			b.reached = true
		}
	}
	if !b.reached {
		w.drop(b.f, DropNobody)
	}
	return true
}

// postpone keeps a bridged frame, as far as it was not sent, for the next turns of its
// port. It reports false when there is no room.
func (w *worker) postpone(b *bridged, s *Snapshot) bool {
	p := &w.flooding
	q, need := &p.ports[b.f.In], chunksOf(len(b.f.Buf))
	if q.held+need > p.mem.left-need {
		return false
	}
	i := p.mem.keep(b.f.Buf)
	if i < 0 {
		return false
	}
	p.frames[i] = floodedFrame{
		n: len(b.f.Buf), offload: b.f.Offload, vlan: b.f.VLAN,
		out: b.out, to: b.to, at: b.at, reached: b.reached, next: -1,
	}
	if q.first < 0 {
		q.first, q.of = i, w.sw.ports[b.f.In].Load()
	} else {
		p.frames[q.last].next = i
	}
	q.last = i
	q.held += need
	if w.mirror.on() { // its story ends with this turn
		for _, id := range b.to[b.at:] {
			if id != b.f.In && s.floods(s.ports[b.f.In], s.ports[id], b.f, w.lists) {
				w.mirror.sentTo(b.f, id)
			}
		}
	}
	return true
}

// finished forgets the first frame of a port.
func (p *flooding) finished(q *floodPort) {
	i := q.first
	f := &p.frames[i]
	q.held -= chunksOf(f.n)
	if q.first = f.next; q.first < 0 {
		q.last, q.of = -1, nil
	}
	f.to = nil
	p.mem.release(i)
}

// abandon forgets what a port that was removed has flooded.
func (p *flooding) abandon(id frame.PortID) {
	for q := &p.ports[id]; q.first >= 0; {
		p.finished(q)
	}
}

// resume goes on with what a port has flooded, and returns how many frames it was about.
// Who may have a frame the snapshot of this turn says.
func (w *worker) resume(id frame.PortID, e *portEntry) int {
	p, s := &w.flooding, w.sw.snapshot.Load()
	q, n := &p.ports[id], 0
	w.now, w.lists = w.sw.now(), w.sw.lists.Load()
	w.tags.reset()
	w.spare.reset()
	w.watch()
	w.mirror.decided = s
	for ; q.first >= 0 && w.left > 0 && n < frame.BatchSize; n++ {
		kept := &p.frames[q.first]
		if q.of != e || s.ports[id] == nil {
			w.count(id, DropPortGone)
			p.finished(q)
			continue
		}
		f := &w.batch.Frames[n]
		*f = frame.Frame{Buf: w.arena.Alloc(kept.n - frame.Headroom), In: id, VLAN: kept.vlan, Offload: kept.offload}
		p.mem.read(q.first, f.Buf)
		header.Parse(f.Data(), &f.Layers) // as it did when it came
		b := bridged{f: f, out: kept.out, to: kept.to, at: kept.at, reached: kept.reached}
		switch {
		case b.out != frame.NoPort && !s.floods(s.ports[id], s.ports[b.out], f, w.lists):
			w.drop(f, DropPortGone)
		case !w.forward(&b, s):
			kept.at, kept.reached = b.at, b.reached
			n++
			w.flush()
			w.settle()
			return n
		}
		p.finished(q)
	}
	w.flush()
	w.settle()
	return n
}
