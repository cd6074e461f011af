package dataplane

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vswitch/vswitch/dataplane/frame"
	"github.com/vswitch/vswitch/dataplane/port/porttest"
)

func TestLoadCountsTurnsByBatch(t *testing.T) {
	var l workerLoad
	for _, n := range []int{1, 1, 2, 3, 4, 5, 33, frame.BatchSize} {
		l.took(n)
	}
	st := l.stats(func() int64 { return 0 })
	if want := [batchClasses]uint64{2, 1, 2, 1, 0, 0, 2}; st.Batches != want || st.Turns != 8 || st.Frames != 113 {
		t.Errorf("got %d turns, %d frames, by size %v; want 8, 113, %v", st.Turns, st.Frames, st.Batches, want)
	}
	if s := BatchSizes(); s[0] != 1 || s[len(s)-1] != frame.BatchSize {
		t.Errorf("classes %v, want 1 to %d", s, frame.BatchSize)
	}
}

func TestLoadSharesTimeByState(t *testing.T) {
	var l workerLoad
	now := int64(100)
	clock := func() int64 { return now }
	if st := l.stats(clock); st.Busy+st.Polling+st.Asleep != 0 {
		t.Errorf("a worker that has not begun spent %+v", st)
	}
	l.begin(100)
	for _, step := range []struct {
		at    int64
		state workerState
	}{{110, workerBusy}, {130, workerPolling}, {150, workerPolling}, {170, workerAsleep}, {1170, workerBusy}} {
		now = step.at
		l.enter(step.state, now)
	}
	now = 1175
	st := l.stats(clock)
	if st.Busy != 35 || st.Polling != 40 || st.Asleep != 1000 {
		t.Errorf("got busy %d, polling %d, asleep %d ns; want 35, 40, 1000", st.Busy, st.Polling, st.Asleep)
	}
}

// Readers look while the worker changes its state: no time may be taken back, or a
// rate over it would jump.
func TestLoadNeverRunsBackwards(t *testing.T) {
	start := time.Now()
	clock := func() int64 { return int64(time.Since(start)) + 1 }
	var l workerLoad
	l.begin(clock())
	done := make(chan struct{})
	var changes atomic.Int64
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := workerState(0); ; i++ {
			changes.Store(int64(i))
			select {
			case <-done:
				return
			default:
				l.enter(i%numWorkerStates, clock())
			}
		}
	})
	var last WorkerStats
	// The writer may get a processor late.
	for n := 0; n < 20000 || changes.Load() < 20000; n++ {
		st := l.stats(clock)
		if st.Busy < last.Busy || st.Polling < last.Polling || st.Asleep < last.Asleep {
			t.Fatalf("%+v after %+v", st, last)
		}
		last = st
	}
	close(done)
	wg.Wait()
	// When it is quiet again every ns has its place but those told in advance.
	st, now := l.stats(clock), clock()
	if sum := int64(st.Busy + st.Polling + st.Asleep); sum < now/2 || sum > 2*now || st.Busy == 0 || st.Polling == 0 || st.Asleep == 0 {
		t.Errorf("%d of %d ns are accounted for: %+v", sum, now, st)
	}
}

// A running switch sleeps when nothing comes, and counts what does.
func TestLoadOfARunningWorker(t *testing.T) {
	sw, err := New(Config{Workers: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer sw.Close()
	p := porttest.New("a")
	if err := sw.AddPort(0, porttest.Describe(p)); err != nil {
		t.Fatal(err)
	}
	sw.Start()
	deadline := time.Now().Add(60 * time.Second)
	for sent := uint64(1); ; sent++ {
		p.Inject(make([]byte, 60), frame.Offload{})
		st := sw.Stats().Workers[0]
		for ; st.Frames < sent || st.Turns < sent || st.Batches[0] < sent; st = sw.Stats().Workers[0] {
			if time.Now().After(deadline) {
				t.Fatalf("got %+v of %d frames", st, sent)
			}
			time.Sleep(time.Millisecond)
		}
		if st.Frames != sent || st.Turns != sent || st.Batches[0] != sent {
			t.Fatalf("got %+v of %d frames", st, sent)
		}
		// A worker that loses its CPU after a frame finds the time for polling over.
		if st.Sleeps > 0 && st.Spins > 0 && st.Asleep > 0 && st.Polling > 0 {
			return
		}
	}
}
