package dataplane

import (
	"sync/atomic"

	"github.com/vswitch/vswitch/dataplane/frame"
	"github.com/vswitch/vswitch/dataplane/header"
)

const (
	// newcomerChunks is the memory of a worker for newcomers that wait, 1 MiB; most take one chunk.
	newcomerChunks = 2048
	// newcomerRounds is how often a turn of an uplink fills its batch anew in place of newcomers
	// that were put off.
	newcomerRounds = 8
	// ownTurns is how many turns of a container's own frames come before one of its newcomers, as
	// long as it has some: what answers newcomers must not be lost for more of them.
	ownTurns = 8
	// putOffCost is what it costs to look at a newcomer and to keep or to drop it, in ns.
	putOffCost = 300
)

// newcomers are SYNs for published ports, as an uplink's turn found
// more than it could take. They are dear: each makes a flow, wakes a container and is answered.
// So they wait for turns of the container that they are for, and the uplink's ring is free for
// what others wait for: a flood of one published port is paid for by its container. A container
// may have as much of the memory as it leaves free (Choudhury and Hahne 1998), half of that for
// strangers. Its guests wait apart, and have every second place of its turns.
type newcomers struct {
	mem    *chunks
	frames []newcomer // by their first chunk
	ports  [MaxPorts]newcomerQueue
}

// newcomerQueue is what waits for one container's port.
type newcomerQueue struct {
	of   [2]newcomerList // strangers, guests
	held int             // chunks
	own  uint8           // turns of the port's own frames that still come first
	next uint8           // whose turn it is
}

// newcomerList is in order. It is empty while its chunks are.
type newcomerList struct{ first, last, held int32 }

// newcomer is a frame without its bytes.
type newcomer struct {
	n       int // bytes, headroom included
	offload frame.Offload
	in      frame.PortID
	of      *portEntry // the uplink; a later port has the same ID
	next    int32
}

// newcomerUse is what a port has of the memory of all workers.
type newcomerUse struct {
	held    atomic.Int64  // chunks
	refused atomic.Uint64 // frames
}

func (p *newcomers) init() {
	p.mem, p.frames = newChunks(newcomerChunks), make([]newcomer, newcomerChunks)
}

// wait reports whether newcomers wait for a port.
func (p *newcomers) wait(id frame.PortID) bool { return p.ports[id].held > 0 }

// due reports whether the next turn of a port is that of its newcomers. own says that it may
// have frames of its own.
func (p *newcomers) due(id frame.PortID, own bool) bool {
	q := &p.ports[id]
	if q.held == 0 || own && q.own > 0 {
		return false
	}
	q.own = ownTurns
	return true
}

// after hears of the end of a turn of a port's own frames, of which there may be more. It
// reports whether newcomers wait.
func (p *newcomers) after(id frame.PortID, more bool) bool {
	q := &p.ports[id]
	if q.held == 0 {
		return false
	}
	if q.own = max(q.own, 1) - 1; !more {
		q.own = 0
	}
	return true
}

// sift puts the newcomers of an uplink's batch off, if there are more frames than the turn can
// take, and takes others in their place. It returns how many those are.
func (w *worker) sift(id frame.PortID, e *portEntry) (n int, err error) {
	s := w.sw.snapshot.Load()
	if p := s.ports[id]; p == nil || p.Kind != PortUplink || !w.batch.More() && w.newcomers.mem.left == newcomerChunks {
		return 0, nil
	}
	if w.mirror.on() {
		w.mirror.decided = s
	}
	for from, rounds := 0, 0; ; rounds++ {
		// A frame that is captured has its story by its place in the batch.
		if !w.putOff(s, e, from) || rounds == newcomerRounds || !w.batch.More() || w.mirror.on() {
			return n, err
		}
		from = w.batch.N
		w.batch.Again()
		if err = e.port.Receive(&w.batch, w.arena); w.batch.N == from {
			return n, err
		}
		n += w.batch.N - from
		w.received(id, e, from)
	}
}

// putOff takes the newcomers out of the batch, from a frame on, and reports whether there
// were any.
func (w *worker) putOff(s *Snapshot, e *portEntry, from int) bool {
	b, kept := &w.batch, from
	more := b.More()
	for i := from; i < b.N; i++ {
		f := &b.Frames[i]
		id := s.newcomer(f)
		if id == frame.NoPort || !more && !w.newcomers.wait(id) {
			if kept != i {
				b.Frames[kept] = *f
			}
			kept++
			continue
		}
		b.Return(f)
		w.left += frame.TakeCost(f.Len()) - putOffCost
		w.keep(f, id, e)
	}
	found := kept < b.N
	b.N = kept
	return found
}

// newcomer is the port of the container that a frame from an uplink may begin a flow with, by
// a published port, or frame.NoPort.
func (s *Snapshot) newcomer(f *frame.Frame) frame.PortID {
	l := &f.Layers
	if !header.Parse(f.Data(), l) || l.Kind != header.KindL4 || l.Flags&header.FlagICMPError != 0 {
		return frame.NoPort
	}
	// Datagrams do not wait: a flow that the kernel begins to carry meanwhile would overtake them.
	if l.Tuple.Proto != header.ProtoTCP || l.TCPFlags&(header.TCPSYN|header.TCPACK) != header.TCPSYN {
		return frame.NoPort
	}
	iv := s.published(l.Tuple.Proto, l.Tuple.Dst, l.Tuple.DstPort)
	if iv == nil {
		return frame.NoPort
	}
	if h := s.stations[iv.ContainerAddr]; h != nil {
		return h.port
	}
	return frame.NoPort
}

// keep lets a newcomer wait for the turn of a port, or drops it.
func (w *worker) keep(f *frame.Frame, id frame.PortID, e *portEntry) {
	p := &w.newcomers
	q, need, room, who := &p.ports[id], chunksOf(len(f.Buf)), p.mem.left, 1
	if !w.sw.guests.has(&f.Layers.Tuple.Src) {
		who, room = 0, room/2
	}
	to := w.sw.ports[id].Load()
	if q.held+need > room-need {
		if to != nil {
			to.newcomers.refused.Add(1)
		}
		w.drop(f, DropNewcomer)
		return
	}
	i := p.mem.keep(f.Buf)
	p.frames[i] = newcomer{n: len(f.Buf), offload: f.Offload, in: f.In, of: e}
	if q.held == 0 {
		w.sched.wait(id)
	}
	l := &q.of[who]
	if l.held == 0 {
		l.first = i
	} else {
		p.frames[l.last].next = i
	}
	l.last = i
	l.held += int32(need)
	q.held += need
	if to != nil {
		to.newcomers.held.Add(int64(need))
	}
}

// take takes the next newcomer from a queue that has some.
func (q *newcomerQueue) take(p *newcomers) (i int32, need int) {
	l := &q.of[q.next]
	q.next ^= 1
	if l.held == 0 {
		l = &q.of[q.next]
	}
	i = l.first
	need = chunksOf(p.frames[i].n)
	l.first = p.frames[i].next
	l.held -= int32(need)
	q.held -= need
	return i, need
}

// admit carries newcomers that wait for a port through the stages, and returns how many.
func (w *worker) admit(id frame.PortID, to *portEntry) int {
	p, n := &w.newcomers, 0
	for q := &p.ports[id]; q.held > 0 && !w.batch.Full(); n++ {
		i, need := q.take(p)
		kept := &p.frames[i]
		if w.sw.ports[kept.in].Load() == kept.of {
			f := w.batch.Next()
			f.Buf = w.arena.Alloc(kept.n - frame.Headroom)
			p.mem.read(i, f.Buf)
			f.In, f.Offload = kept.in, kept.offload
			w.batch.Charge(f.Len(), f.Buf)
			w.left -= frame.TakeCost(f.Len())
		} else {
			w.count(kept.in, DropPortGone)
		}
		kept.of = nil
		if to != nil {
			to.newcomers.held.Add(-int64(need))
		}
		p.mem.release(i)
	}
	if w.batch.N > 0 {
		w.now = w.sw.now()
		w.watch() // what came in was captured when it came
		w.turn()
	}
	return n
}
