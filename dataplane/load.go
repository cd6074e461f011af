package dataplane

import (
	"math/bits"
	"sync/atomic"
	"time"

	"github.com/vswitch/vswitch/dataplane/frame"
)

// workerState is what a worker does with its time.
type workerState uint64

const (
	workerBusy    workerState = iota // turns with frames, and what lies between two of them
	workerPolling                    // looking for frames in vain, to save a wake-up
	workerAsleep                     // in epoll_wait

	numWorkerStates
)

// batchClasses are the sizes of batches that are told apart: 1, 2, 4, up to
// frame.BatchSize, each with what lies between it and the one before.
const batchClasses = 7

// workerLoad is what one worker counts of its own work. One writer, any number
// of readers; the padding keeps it off the cache lines that others write.
type workerLoad struct {
	_ [64]byte

	frames  atomic.Uint64
	batches [batchClasses]atomic.Uint64 // turns with frames, by their number
	spins   atomic.Uint64               // rounds in which no port had a frame
	sleeps  atomic.Uint64

	// Time is counted where the state changes and not once a turn, so that a
	// worker under load never looks at the clock for it.
	spent [numWorkerStates]atomic.Uint64 // ns, without the state that is under way
	since atomic.Uint64                  // when that began, ns<<2 | state; loadChanging
	state workerState                    // the worker's own copy
	began int64                          // likewise

	_ [64]byte

	told [numWorkerStates]uint64 // by stats, whose callers take turns
}

// loadChanging stands in since while spent is written.
const loadChanging = ^uint64(0)

func (l *workerLoad) begin(now int64) {
	l.state, l.began = workerBusy, now
	l.since.Store(uint64(now)<<2 | uint64(workerBusy))
}

// enter changes the state. It costs nothing when it is the one under way.
func (l *workerLoad) enter(st workerState, now int64) {
	if !frame.Observed || st == l.state {
		return
	}
	spent := &l.spent[l.state]
	l.since.Store(loadChanging)
	spent.Store(spent.Load() + uint64(max(0, now-l.began)))
	l.state, l.began = st, now
	l.since.Store(uint64(now)<<2 | uint64(st))
}

// took counts a turn of n frames, at least one.
func (l *workerLoad) took(n int) {
	l.frames.Add(uint64(n))
	l.batches[bits.Len(uint(n-1))].Add(1)
}

// BatchSizes are the upper bounds of WorkerStats.Batches.
func BatchSizes() (list [batchClasses]int) {
	for i := range list {
		list[i] = 1 << i
	}
	return list
}

var _ = [1]struct{}{}[1<<(batchClasses-1)-frame.BatchSize] // the last class is a full batch

// WorkerStats are the counters of one worker since the switch was made.
type WorkerStats struct {
	Turns   uint64 // with frames
	Frames  uint64
	Batches [batchClasses]uint64 // turns by their number of frames, see BatchSizes; not cumulative
	Spins   uint64               // rounds over the active ports without a frame
	Sleeps  uint64
	// The worker's time: moving frames, looking for some, asleep.
	Busy, Polling, Asleep time.Duration
}

// stats reads the counters, for one caller at a time. Time under way counts. A
// worker looks at the clock before it says what it does now, so that some time may
// have been told of the state before: then that waits until it is true.
func (l *workerLoad) stats(clock func() int64) WorkerStats {
	st := WorkerStats{Frames: l.frames.Load(), Spins: l.spins.Load(), Sleeps: l.sleeps.Load()}
	for i := range l.batches {
		st.Batches[i] = l.batches[i].Load()
		st.Turns += st.Batches[i]
	}
	var spent [numWorkerStates]uint64
	for {
		since := l.since.Load()
		if since == loadChanging {
			continue // a few instructions long
		}
		for i := range spent {
			spent[i] = l.spent[i].Load()
		}
		now := clock()
		if l.since.Load() != since {
			continue
		}
		if since != 0 {
			spent[since&3] += uint64(max(0, now-int64(since>>2)))
		}
		break
	}
	for i := range spent {
		l.told[i] = max(l.told[i], spent[i])
	}
	st.Busy, st.Polling, st.Asleep = time.Duration(l.told[workerBusy]), time.Duration(l.told[workerPolling]), time.Duration(l.told[workerAsleep])
	return st
}
