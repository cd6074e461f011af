package dataplane

import (
	"math/rand/v2"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/vswitch/vswitch/dataplane/conntrack"
	"github.com/vswitch/vswitch/dataplane/frame"
	"github.com/vswitch/vswitch/dataplane/header"
	"github.com/vswitch/vswitch/dataplane/port"
)

// glanceEvery is how many busy passes over the hot ports go by before the others are
// looked at, if no more than one turn's cost has.
const glanceEvery = 8

// worker is one forwarding thread. All its fields but seq, portCount and the
// poller's doors belong to the goroutine in loop.
type worker struct {
	sw *Switch
	id int

	// seq is odd during a turn, even between turns (see Switch.grace).
	seq       atomic.Uint64
	portCount int // guarded by Switch.mu
	poller    *port.Poller

	now       int64 // of this turn
	left      int64 // ns of cost that this turn has left, negative: it cost more than it should
	heard     int64 // ns of cost of what this turn sent of flows whose other side speaks, too
	lists     *listTable
	ruled     RuleID // of the row that was found last, for explain
	rng       *rand.Rand
	batch     frame.Batch
	arena     *port.Arena
	tx        *port.Tx
	live      []*frame.Frame // of the batch, compacted as stages drop
	bridge    []bridged
	routes    []routed
	quotes    [frame.BatchSize]header.Layers // packets quoted by ICMP errors
	learns    []learnt
	lies      []*frame.Frame // that learn drops
	ans       answers
	tags      tagger
	spare     spares
	flooding  flooding
	newcomers newcomers
	ways      wayCache
	out       sendLists
	reply     replier
	accounts  bridgedFlows
	mirror    mirror
	offers    flowCounter
	sched     scheduler
	passes    int           // since the last glance
	spent     int64         // ns of cost since the last glance
	spin      time.Duration // how long polling has been worth it lately
	load      workerLoad    // its counters may be read by anybody
}

func newWorker(s *Switch, id int) (*worker, error) {
	poller, err := port.NewPoller()
	if err != nil {
		return nil, err
	}
	w := &worker{
		sw:     s,
		id:     id,
		poller: poller,
		rng:    conntrack.NewRand(),
		lists:  s.lists.Load(),
		arena:  port.NewArena(),
		tx:     port.NewTx(),
		live:   make([]*frame.Frame, 0, frame.BatchSize),
		bridge: make([]bridged, 0, 2*frame.BatchSize),
		routes: make([]routed, 0, frame.BatchSize+spareFrames),
		learns: make([]learnt, 0, frame.BatchSize),
		mirror: mirror{unsettled: make([]ticket, 0, 4*frame.BatchSize)},
		spin:   max(s.cfg.Spin, 0),
	}
	w.out.init()
	w.reply.keys = s.keys
	w.accounts.keys = s.keys
	w.sched.init()
	w.flooding.init()
	w.newcomers.init()
	return w, nil
}

// loop forwards until the switch is closed: turns of the ports that have
// frames, some polling after the last frame, then sleep. The thread is its own,
// so that no other goroutine waits for it.
func (w *worker) loop() {
	runtime.LockOSThread()
	last := w.sw.now()
	w.load.begin(last)
	for !w.sw.stopped.Load() {
		n := w.pass()
		if n > 0 {
			last = w.now
			w.load.enter(workerBusy, last)
			if w.passes < glanceEvery && w.spent < turnLimit {
				continue
			}
		}
		if w.pollEvents(false) > 0 {
			last = w.now
			w.load.enter(workerBusy, last)
			continue
		}
		if w.sched.queue.length > 0 {
			continue // somebody pays for what a turn cost too much
		}
		now := w.sw.now()
		if w.sched.lower.length > 0 && w.sched.due(now) {
			w.now = now
			continue
		}
		if n == 0 {
			w.load.spins.Add(1)
			w.load.enter(workerPolling, now)
		}
		if now-last < int64(w.spin) {
			continue
		}
		// The poll above may have taken the wake-up of Close.
		if w.sw.stopped.Load() {
			return
		}
		w.load.sleeps.Add(1)
		w.load.enter(workerAsleep, now)
		w.pollEvents(true)
		now = w.sw.now()
		w.now = now // lower effort may be due
		w.load.enter(workerBusy, now)
		w.adapt(time.Duration(now - last))
		last = now
	}
}

// adapt makes polling as long as it pays: when a frame came shortly after the
// sleep began, a little more polling would have saved a wake-up, which is what
// a request and its answer cost most; when none came for long, the ports are
// idle and polling would only burn a core.
func (w *worker) adapt(gap time.Duration) {
	limit := max(w.sw.cfg.Spin, 0)
	if gap < 4*limit {
		w.spin = limit
	} else {
		w.spin = limit / 8
	}
}

// step is one turn of each port of the worker, in their order.
func (w *worker) step() int {
	n := w.turnWaiting()
	for id := range w.sw.ports {
		if e := w.sw.ports[id].Load(); e != nil && e.owner == w || w.newcomers.wait(frame.PortID(id)) {
			got, _, _ := w.turnPort(frame.PortID(id), turnLimit)
			n += got
		}
	}
	return n
}

// pass gives each hot port a turn, then the first of the queue. It returns the number of
// frames that were moved.
func (w *worker) pass() int {
	w.passes++
	n := w.pollHot()
	if id := w.sched.queued(w.now); id != frame.NoPort {
		n += w.serve(id)
	}
	return n
}

// pollHot gives each hot port a turn.
func (w *worker) pollHot() int {
	n := 0
	for _, id := range w.sched.hot {
		if id != frame.NoPort && w.sched.ports[id].state == portHot {
			n += w.serve(id)
		}
	}
	return n
}

// serve gives a port a turn for what credit it has.
func (w *worker) serve(id frame.PortID) int {
	if e := w.sw.ports[id].Load(); e != nil && e.owner == w && e.debt.Load() != 0 {
		w.sched.owe(id, e.debt.Swap(0))
	}
	limit := w.sched.limit(id)
	if limit <= 0 { // it owes for what others did for it
		w.sched.done(id, w.now, 0, 0, true, w.sched.ports[id].lower)
		w.listen(id)
		return 0
	}
	n, cost, more := w.turnPort(id, limit)
	now, unheard := w.now, 2*w.heard < cost && w.isContainer(id)
	if cost > 0 {
		if unheard {
			now = w.sw.now() // what a receiver makes of a frame no price knows
		}
		w.sched.weigh(id, now-w.now)
	}
	w.sched.done(id, now, cost, now-w.now, more, unheard)
	w.spent += cost
	w.listen(id)
	return n
}

// isContainer reports whether a port is a container's: an uplink has frames of many.
func (w *worker) isContainer(id frame.PortID) bool {
	p := w.sw.snapshot.Load().ports[id]
	return p != nil && p.Kind == PortContainer
}

// listen lets epoll name a port unless it queues for lower effort: it has frames all the
// time, and the worker would never sleep.
func (w *worker) listen(id frame.PortID) {
	deaf := w.sched.ports[id].state == portLower
	e := w.sw.ports[id].Load()
	if e == nil || e.owner != w {
		return
	}
	if deaf && w.sched.active(w.now) > 0 {
		e.yielded.Add(1)
	}
	if e.deaf != deaf {
		e.deaf = deaf
		w.poller.Mute(uint32(id), e.port.FD(), deaf)
	}
}

// pollEvents gives the ports that epoll names a turn.
func (w *worker) pollEvents(sleep bool) int {
	w.passes, w.spent = 0, 0
	keys, woken := w.poller.Wait(sleep, w.sched.lower.length > 0)
	n, polled := 0, int64(0)
	if woken {
		n += w.turnWaiting()
	}
	for _, key := range keys {
		id := frame.PortID(key)
		if !w.sched.wake(id) {
			continue // it is in the queue
		}
		if got := w.serve(id); got > 0 {
			n += got
			if w.sched.ports[id].state == portHot {
				w.sched.warm(id)
			}
		} else {
			w.checkPort(id) // ready without a frame: an error
		}
		if w.spent-polled >= turnLeast { // many have woken at once
			n += w.pollHot()
			polled = w.spent
		}
	}
	return n
}

// Step runs one turn of every port on the calling goroutine and returns the
// number of frames that were moved. It is for tests and simulations of a switch
// that was not started.
func (s *Switch) Step() int {
	n := 0
	for _, w := range s.workers {
		n += w.step()
	}
	return n
}
