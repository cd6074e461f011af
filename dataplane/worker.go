package dataplane

import (
	"math/rand/v2"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/vswitch/vswitch/dataplane/frame"
	"github.com/vswitch/vswitch/dataplane/header"
	"github.com/vswitch/vswitch/dataplane/port"
)

const (
	// hotPorts is how many recently active ports a worker asks for frames
	// without the help of epoll.
	hotPorts = 8
	// glanceEvery is how many busy rounds of the hot ports go by before the
	// others are looked at.
	glanceEvery = 8
)

// worker is one forwarding thread. All its fields but seq, portCount and the
// poller's doors belong to the goroutine in loop.
type worker struct {
	sw *Switch
	id int

	// seq is odd during a turn, even between turns (see Switch.grace).
	seq       atomic.Uint64
	portCount int // guarded by Switch.mu
	poller    *port.Poller

	now      int64 // of this turn
	rng      *rand.Rand
	batch    frame.Batch
	arena    *port.Arena
	tx       *port.Tx
	live     []*frame.Frame // of the batch, compacted as stages drop
	bridge   []bridged
	routes   []routed
	quotes   [frame.BatchSize]header.Layers // packets quoted by ICMP errors
	learns   []learnt
	ans      answers
	tags     tagger
	spare    spares
	out      sendLists
	reply    replier
	accounts bridgedFlows
	mirror   mirror
	offers   flowCounter
	hot      [hotPorts]frame.PortID
	spin     time.Duration // how long polling has been worth it lately
	load     workerLoad    // its counters may be read by anybody
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
		rng:    rand.New(rand.NewChaCha8(seed())),
		arena:  port.NewArena(),
		tx:     port.NewTx(),
		live:   make([]*frame.Frame, 0, frame.BatchSize),
		bridge: make([]bridged, 0, 2*frame.BatchSize),
		routes: make([]routed, 0, frame.BatchSize+spareFrames),
		learns: make([]learnt, 0, frame.BatchSize),
		mirror: mirror{open: make([]ticket, 0, 4*frame.BatchSize)},
		spin:   max(s.cfg.Spin, 0),
	}
	w.out.init()
	w.reply.keys = s.ids.keys
	w.accounts.keys = s.ids.keys
	for i := range w.hot {
		w.hot[i] = frame.NoPort
	}
	return w, nil
}

// loop forwards until the switch is closed: turns of the ports that have
// frames, some polling after the last frame, then sleep. The thread is its own,
// so that no other goroutine waits for it.
func (w *worker) loop() {
	runtime.LockOSThread()
	last, round := w.sw.cfg.Now(), 0
	w.load.begin(last)
	for !w.sw.stopped.Load() {
		round++
		hot := w.pollHot()
		if hot > 0 {
			last = w.now
			w.load.enter(workerBusy, last)
			if round%glanceEvery != 0 {
				continue
			}
		}
		if w.pollEvents(false) > 0 {
			last = w.now
			w.load.enter(workerBusy, last)
			continue
		}
		now := w.sw.cfg.Now()
		if hot == 0 {
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
		now = w.sw.cfg.Now()
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

// step is one pass over all ports of the worker without sleep or epoll.
func (w *worker) step() int {
	n := w.turnWaiting()
	for id := range w.sw.ports {
		if e := w.sw.ports[id].Load(); e != nil && e.owner == w {
			n += w.turnPort(frame.PortID(id))
		}
	}
	return n
}

// pollHot asks the ports that were active lately.
func (w *worker) pollHot() int {
	n := 0
	for _, id := range w.hot {
		if id != frame.NoPort {
			n += w.turnPort(id)
		}
	}
	return n
}

// pollEvents asks the ports that epoll names.
func (w *worker) pollEvents(sleep bool) int {
	keys, woken := w.poller.Wait(sleep)
	n := 0
	if woken {
		n += w.turnWaiting()
	}
	for _, key := range keys {
		id := frame.PortID(key)
		if got := w.turnPort(id); got > 0 {
			n += got
			w.warm(id)
		} else {
			w.checkPort(id) // ready without a frame: an error
		}
	}
	return n
}

// warm puts a port in front of the hot ones; the last falls out.
func (w *worker) warm(id frame.PortID) {
	prev := id
	for i, h := range w.hot {
		w.hot[i] = prev
		if h == id {
			return
		}
		prev = h
	}
}

// Step runs one turn of every port on the calling goroutine and returns the
// number of frames that came in. It is for tests and simulations of a switch
// that was not started.
func (s *Switch) Step() int {
	n := 0
	for _, w := range s.workers {
		n += w.step()
	}
	return n
}
