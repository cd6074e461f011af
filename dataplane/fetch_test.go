package dataplane

import (
	"sync"
	"testing"

	"github.com/vswitch/vswitch/dataplane/frame"
)

// While other workers open and end flows, so that indexes grow and conns are reused, a
// batch finds those that were there all the time. The race detector looks on.
func TestConntrackFetchesBesideWriters(t *testing.T) {
	const kept, more = 2 * fetchFrom, 20_000
	ct := fill(t, 4*fetchFrom)
	ct.max = 4*fetchFrom + more
	ct.chunks = append(ct.chunks, newConntrack(more, nil, nil).chunks...)
	always := func(*conn) bool { return true }
	var writers sync.WaitGroup
	writers.Go(func() {
		for i := range connRef(2 * fetchFrom) {
			ct.remove((kept+1+i)<<1, nil, always)
		}
		for i := range more {
			r := ct.alloc(nil)
			c := ct.at(r)
			c.orig, c.reply = flow(4*fetchFrom + i)
			c.owner, c.hasNAT = frame.NoPort, false
			if r == 0 || !ct.insert(r) {
				t.Errorf("flow %d: not inserted", i)
				return
			}
		}
	})
	var frames [frame.BatchSize]frame.Frame
	routes := make([]routed, len(frames))
	for at := 0; at < 20*kept; {
		for i := range routes {
			routes[i].f = &frames[i]
			frames[i].Layers.Tuple, _ = flow(at % (4 * fetchFrom)) // half of them end meanwhile
			at++
		}
		ct.fetch(routes)
		for i := range routes {
			r, sh := ct.lookupHashed(routes[i].hash, &frames[i].Layers.Tuple)
			if sh != nil {
				sh.mu.RUnlock()
			}
			if n := (at - len(routes) + i) % (4 * fetchFrom); r == 0 && n < kept {
				t.Fatalf("flow %d is not found", n)
			}
		}
	}
	writers.Wait()
}
