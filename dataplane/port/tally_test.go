package port

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/vswitch/vswitch/dataplane/flowmap"
	"github.com/vswitch/vswitch/dataplane/frame"
)

// tallied is a queue with the program before it and the worker behind it.
type tallied struct {
	tallier
	tally   flowmap.Tally
	queue   int
	hand    int // of the worker
	now     time.Time
	dropped uint64
}

func newTallied(size int) *tallied {
	q := &tallied{now: time.Unix(1, 0)}
	q.tallier = tallier{shared: &q.tally, size: uint64(size)}
	return q
}

func (q *tallied) let(n int) {
	for range n {
		q.tally.In++
		if q.queue == int(q.size) {
			q.dropped++
			continue
		}
		q.queue++
	}
}

// take is the first half of a worker's turn: it takes up to n and knows that there was
// no more.
func (q *tallied) take(n int) {
	q.hand = min(n, q.queue)
	q.queue -= q.hand
	q.found = q.hand < n
}

func (q *tallied) turn(n int) {
	q.take(n)
	q.done()
}

func (q *tallied) done() {
	q.release(q.hand)
	q.hand = 0
}

func (q *tallied) ask() uint64 {
	q.now = q.now.Add(tallySettle)
	return q.settle(q.now)
}

// under is how many of the frames that were let through are not done with, as the
// program sees it.
func (q *tallied) under() int64 { return int64(q.tally.In - q.tally.Done()) }

func TestTallyKnowsWhatTheQueueLost(t *testing.T) {
	q := newTallied(10)
	q.let(10 + frame.BatchSize + 15)
	q.ask()
	if lost := q.ask(); lost != 15 || q.under() != 10+frame.BatchSize {
		t.Errorf("full: lost %d, %d under way, want 15 and what the worker may have beside the queue", lost, q.under())
	}
	for range 3 {
		q.turn(64)
		q.turn(64)
		q.ask()
	}
	if q.under() != 0 {
		t.Errorf("empty: %d under way", q.under())
	}
	// A loss that leaves the queue short of full shows once it has been empty.
	q.tally.In += 3
	q.let(2)
	if q.ask(); q.under() != 5 {
		t.Errorf("%d under way, want 5 as long as nobody looked", q.under())
	}
	for range 3 {
		q.turn(64)
		q.turn(64)
		q.ask()
	}
	if lost := q.ask(); lost != q.dropped+3 || q.under() != 0 {
		t.Errorf("lost %d, %d under way, want %d and 0", lost, q.under(), q.dropped+3)
	}
}

func TestTallyOfWhatNobodyCounted(t *testing.T) {
	q := newTallied(10)
	q.queue = 7 // from before the program
	q.turn(64)
	q.ask()
	q.let(2)
	if q.under() != 2 {
		t.Errorf("%d under way, want 2", q.under())
	}
}

// TestTallyNeverAhead: what is in the queue is never taken for done, whatever is
// lost; and at rest everything is.
func TestTallyNeverAhead(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		q := newTallied(1 + rng.IntN(50))
		for range 500 {
			switch rng.IntN(4) {
			case 0:
				q.let(rng.IntN(80))
			case 1:
				q.tally.In += uint64(rng.IntN(3)) // a queueing discipline had no room
			case 2:
				q.done()
				q.take(1 + rng.IntN(frame.BatchSize))
			case 3:
				q.ask()
			}
			if q.under() < int64(q.queue+q.hand) {
				t.Fatalf("%d frames in the queue, %d with the worker, %d under way", q.queue, q.hand, q.under())
			}
		}
		q.done()
		for range 10 {
			q.turn(64)
			q.turn(64)
			q.ask()
		}
		if q.under() != 0 {
			t.Fatalf("at rest %d under way", q.under())
		}
	}
}
