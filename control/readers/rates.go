package readers

import (
	"sync"
	"time"
)

const (
	// A reader of the page makes so many requests at once, and one more in each pause.
	requestBurst = 200
	requestPause = 10 * time.Millisecond
	longestWait  = 2 * time.Second
	// A reader connects so often at once, and once more in each pause: twice as often as it may
	// ask, so that who connects for each request waits there. A connection that is ended at once
	// costs next to nothing, any other a thread's work and a place.
	connectBurst = 400
	connectPause = 5 * time.Millisecond
)

// mostRates is how many readers are remembered before those who come seldom are forgotten.
const mostRates = 1024

// rates are how often readers come.
type rates struct {
	burst int
	pause time.Duration

	mu   sync.Mutex
	free map[Reader]time.Time // from when on a reader has not come too often
}

func newRates(burst int, pause time.Duration) *rates {
	return &rates{burst: burst, pause: pause, free: make(map[Reader]time.Time)}
}

// wait is how long a reader who comes has to wait, unless that is longer than the longest wait:
// then he is refused, and that he came counts for nothing.
func (r *rates) wait(who Reader, now time.Time, longest time.Duration) (wait time.Duration, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.free) >= mostRates {
		for k, t := range r.free {
			if !t.After(now) {
				delete(r.free, k)
			}
		}
	}
	t := r.free[who]
	if t.Before(now) {
		t = now
	}
	t = t.Add(r.pause)
	wait = max(0, t.Sub(now)-time.Duration(r.burst)*r.pause)
	if wait > longest {
		return 0, false
	}
	r.free[who] = t
	return wait, true
}

// refund takes back a request that nobody waits for any more.
func (r *rates) refund(who Reader) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if t, ok := r.free[who]; ok {
		r.free[who] = t.Add(-r.pause)
	}
}
