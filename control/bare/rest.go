package bare

import "time"

const (
	// restPause is how long a process has to live for another to begin at once when it ends.
	restPause   = time.Second
	longestRest = time.Minute
)

// Rest is how long there is none between a process that ends and the next one: twice as long each time, until
// one has lived for longer than the longest rest. It is for one goroutine.
type Rest struct {
	born  time.Time
	pause time.Duration
}

// NewRest is that of a process which has just begun.
func NewRest() *Rest { return &Rest{time.Now(), restPause} }

// Wait waits until another may begin, and takes it for begun. false: stop was closed.
func (r *Rest) Wait(stop <-chan struct{}) bool {
	lived := time.Since(r.born)
	if lived > longestRest {
		r.pause = restPause
	}
	select {
	case <-stop:
		return false
	case <-time.After(r.pause - lived):
	}
	r.pause, r.born = min(2*r.pause, longestRest), time.Now()
	return true
}
