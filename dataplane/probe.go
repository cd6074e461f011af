package dataplane

import (
	"fmt"
	"time"
)

// probeEvery is how often Probe looks at a worker that has not answered.
const probeEvery = time.Millisecond

// Probe wakes every worker and returns nil when each has made a turn since. The
// error names the first that has not within limit. It takes no lock, since a
// worker that is stuck in a turn keeps the doors that wait for it, and their
// lock, for ever (see grace). Call it between Start and Close only.
func (s *Switch) Probe(limit time.Duration) error {
	before := make([]uint64, len(s.workers))
	for i, w := range s.workers {
		before[i] = w.seq.Load()
		w.poller.Wake() // a woken worker looks into the waiting room, which is a turn
	}
	late, look := time.After(limit), time.NewTicker(probeEvery)
	defer look.Stop()
	for i, w := range s.workers {
		for w.seq.Load() == before[i] {
			select {
			case <-look.C:
			case <-late:
				if before[i]&1 == 1 {
					return fmt.Errorf("switch: worker %d is stuck in a turn for %v", i, limit)
				}
				return fmt.Errorf("switch: worker %d has made no turn for %v", i, limit)
			}
		}
	}
	return nil
}
