package dataplane

import (
	"cmp"
	"errors"

	"github.com/vswitch/vswitch/dataplane/conntrack"
	"github.com/vswitch/vswitch/dataplane/frame"
	"github.com/vswitch/vswitch/dataplane/header"
	"github.com/vswitch/vswitch/dataplane/port"
)

// bridged is a frame that stays at layer 2, with its output port, or with
// frame.NoPort and the ports of which it reaches those that may have it.
type bridged struct {
	f       *frame.Frame
	out     frame.PortID
	to      []frame.PortID // borrowed, immutable
	flooded bool           // to all ports, not to members of a group: storm counts it
	heard   bool           // the other side of its flow has spoken
	// How far egress has come.
	at      int // of to: who comes next
	reached bool
}

// routed is a frame on its way through layer 3. The stages agree on to, the
// tuple it leaves with; postrouting writes it. Until then the bytes and
// f.Layers.Tuple are as they came, so that an ICMP error can quote them.
type routed struct {
	f    *frame.Frame
	hash uint32 // of the tuple it came with
	in   *portConfig
	to   header.Tuple
	kind conntrack.Kind // of a new flow
	rule *Rule          // by which a new flow may begin, nil: not asked yet
	// tracked says that conntrack knows the flow and to is decided.
	tracked bool
	heard   bool         // the other side of the flow has spoken
	asked   bool         // it answers a container, which has not shown that it hears the answers
	answers bool         // of a new flow: it is not from the side that began it
	turned  bool         // see conntrack.Conn
	begins  bool         // it is the first answer to the SYN of a TCP flow
	came    uint16       // see conntrack.Conn
	inside  frame.PortID // of a tracked flow: the container's
	// quoted is set for an ICMP error: the packet it quotes, and what that
	// packet's tuple becomes.
	quoted   *header.Layers
	quotedTo header.Tuple
	// Set by route.
	local    bool // to the host's stack, untouched
	route    *route
	out      frame.PortID
	dst, src header.MAC
	cut      int // MTU to cut the packet for, 0: it fits
	// Of a fragment: what its packet is identified by when its source is
	// translated, and that it was deferred and needs no second look.
	fragID   uint16
	gathered bool
	// The frames that it was cut into, in worker.spare.
	first, pieces int
}

// turnPort gives a port a turn that may cost so much: what it has flooded goes on, or a
// batch of its frames is carried through the stages. It returns how many frames were
// moved, what that cost, and whether the port has more.
func (w *worker) turnPort(id frame.PortID, limit int64) (n int, cost int64, more bool) {
	w.seq.Add(1)
	defer w.seq.Add(1)
	w.arena.Reset()
	e := w.sw.ports[id].Load()
	if w.newcomers.due(id, e != nil && e.owner == w) {
		w.left = limit
		w.batch.Begin(limit)
		n = w.admit(id, e)
		w.heard = limit - w.left // the container has not sent them
		return n, w.pay(e, limit), true
	}
	if e == nil || e.owner != w { // the ID may be another worker's port by now
		w.flooding.abandon(id)
		return 0, 0, false
	}
	w.left, w.heard = limit, 0
	w.batch.Begin(limit)
	if w.flooding.ports[id].first >= 0 {
		n = w.resume(id, e)
		return n, w.pay(e, limit), true
	}
	err := e.port.Receive(&w.batch, w.arena)
	if n = w.batch.N; n > 0 {
		w.now = w.sw.now()
		w.received(id, e, 0)
		others, failed := w.sift(id, e)
		n, err = n+others, cmp.Or(err, failed)
		w.turn()
	}
	w.left -= w.batch.Refused()
	e.port.Release()
	if err != nil && errors.Is(err, port.ErrGone) {
		w.reportGone(id, e)
	}
	more = w.batch.More() || w.flooding.ports[id].first >= 0
	return n, w.pay(e, limit), w.newcomers.after(id, more) || more
}

// pay counts what a turn has cost.
func (w *worker) pay(e *portEntry, limit int64) int64 {
	cost := limit - w.left
	if frame.Observed && cost > 0 && e != nil {
		e.counters[w.id].cost.Add(uint64(cost))
	}
	return cost
}

// checkPort clears a port's pending error and looks whether its device is there.
func (w *worker) checkPort(id frame.PortID) {
	w.seq.Add(1)
	defer w.seq.Add(1)
	if e := w.sw.ports[id].Load(); e != nil && errors.Is(e.port.Check(), port.ErrGone) {
		w.reportGone(id, e)
	}
}

// received marks, counts and mirrors what came in, from a frame of the batch on.
func (w *worker) received(id frame.PortID, e *portEntry, from int) {
	bytes := 0
	for i := from; i < w.batch.N; i++ {
		f := &w.batch.Frames[i]
		f.In = id
		bytes += f.Len()
		w.left -= frame.TakeCost(f.Len())
	}
	if !frame.Observed {
		return
	}
	c := &e.counters[w.id]
	c.rx.Add(uint64(w.batch.N - from))
	c.rxBytes.Add(uint64(bytes))
	w.load.took(w.batch.N - from)
	if from == 0 {
		w.watch()
		w.mirrorRx(id)
	}
}

// turn carries the batch through the stages, in the order of the picture in
// doc.go. After flush no frame of it may be referenced.
func (w *worker) turn() {
	s := w.sw.snapshot.Load() // once a turn: what is decided here is of one piece
	w.lists = w.sw.lists.Load()
	if w.mirror.on() {
		w.mirror.decided = s
	}
	w.tags.reset()
	w.spare.reset()
	w.parse(s)
	w.vlan(s)
	w.guard(s)
	w.learn(s)
	w.answer(s)
	w.classify(s)
	w.snoop(s)
	w.storm(s)
	w.prerouting(s)
	w.route(s)
	w.offer(s)
	w.postrouting(s)
	w.account(s)
	w.egress(s)
	w.flush()
	w.settle()
}

// reportGone tells control, once, that the device behind a port has vanished.
func (w *worker) reportGone(id frame.PortID, e *portEntry) {
	w.poller.Remove(e.port.FD()) // or its error would wake us for ever
	if e.gone.CompareAndSwap(false, true) {
		select {
		case w.sw.notices.gone <- id:
		default: // control also hears of it from the kernel
		}
	}
}

// drop counts the end of a frame that came in at a port.
func (w *worker) drop(f *frame.Frame, why DropReason) {
	if e := w.sw.ports[f.In].Load(); frame.Observed && e != nil {
		e.counters[w.id].drops[why].Add(1)
		e.last.note(f, why, w.now)
	}
	if w.mirror.on() {
		w.mirrorDrop(f, f.In, why)
	}
}

func (w *worker) count(id frame.PortID, why DropReason) {
	if e := w.sw.ports[id].Load(); frame.Observed && e != nil {
		e.counters[w.id].drops[why].Add(1)
	}
}
