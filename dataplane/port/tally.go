package port

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/vswitch/vswitch/dataplane/flowmap"
	"github.com/vswitch/vswitch/dataplane/frame"
)

// tallySettle is longer than a frame takes from the program that counts it into the
// queue, unless a queueing discipline holds it.
const tallySettle = time.Millisecond

// tallier keeps the tally of a queue that does not say cheaply what it lost (a TAP's:
// it is among the counters of all devices, or behind the kernel's RTNL lock). What was
// let through and never came is lost when the queue has been empty since; and what was
// let through beyond its size and a batch, which the worker may have in hand, is lost
// before that. Taken is written by release, Lost by
// settle.
type tallier struct {
	shared *flowmap.Tally // nil: nobody counts
	size   uint64         // of the queue, in frames

	taken uint64 // of the worker, as in the tally
	found bool   // of the worker: Receive found the queue empty
	empty atomic.Uint64

	mu sync.Mutex // guards what follows
	// lost is what never came. extra came though nothing let it through: before the
	// program was there, or in parts.
	lost, extra uint64
	// Of earlier calls at least tallySettle apart: In at the last two of them, and
	// how often the queue had been found empty at the last.
	in    [2]uint64
	seen  uint64
	since time.Time
}

// release is for Release: n frames are done with.
func (t *tallier) release(n int) {
	if t.shared == nil {
		return
	}
	if n > 0 {
		t.taken += uint64(n)
		atomic.StoreUint64(&t.shared.Taken, t.taken)
	}
	if t.found { // after Taken: whoever sees this sees that
		t.found = false
		t.empty.Add(1)
	}
}

// settle brings Lost up to date and returns what was lost.
func (t *tallier) settle(now time.Time) uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	a := t.shared
	empty := t.empty.Load()
	done := a.Done()
	in := atomic.LoadUint64(&a.In)
	if over := int64(done - in); over > 0 {
		t.extra += uint64(over)
		done = in
	}
	if now.Sub(t.since) >= tallySettle {
		// The first time may have been before seen was read.
		drained := empty-t.seen >= 2
		if missing := int64(t.in[1] - done); drained && missing > 0 {
			t.lost += uint64(missing)
		} else if beyond := int64(t.in[0] - done - t.size - frame.BatchSize); beyond > 0 {
			t.lost += uint64(beyond)
		}
		t.in = [2]uint64{in, t.in[0]}
		t.seen, t.since = empty, now
	}
	atomic.StoreUint64(&a.Lost, t.lost-t.extra)
	return t.lost
}
