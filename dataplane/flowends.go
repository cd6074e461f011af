package dataplane

import (
	"sync/atomic"
	"time"
)

// The programs follow a connection to its end and note that in memory that they share
// (flowmap.Ends). Nobody is woken by it: the switch looks, often where connections end all the time
// and at leisure where none does, and gives the rows of those that have ended back in batches. The
// sweep finds the rest. Whoever would refuse something because others have it looks first.

const (
	endsSoon   = 20 * time.Millisecond
	endsLater  = 100 * time.Millisecond
	endsInVain = 50 // looks that find nothing, before there is time
)

// learnEnds lets conntrack learn of the connections that have ended, whose rows are off from then
// on. It needs mu.
func (t *flowTable) learnEnds(sw *Switch) {
	rung := atomic.LoadUint64(&t.ends.Rung)
	if rung == t.rung.Load() {
		return
	}
	t.rung.Store(rung)
	now := sw.now()
	for pair := range t.ends.Pairs[:t.made/2] {
		if at := &t.ends.Pairs[pair]; atomic.LoadUint32(at) != 0 {
			atomic.StoreUint32(at, 0) // first: a note that comes meanwhile stays
			t.learnEnd(sw, uint32(pair), now)
		}
	}
}

func (t *flowTable) learnEnd(sw *Switch, pair uint32, now int64) {
	for n := 2 * pair; n < 2*pair+2; n++ {
		if r := t.places[n].row; r != nil && r.routed {
			sw.conntrack.Learn(&r.flow.tuple, n, now)
			t.off = append(t.off, n)
		}
	}
}

// hasEnded reports whether conntrack has learned of ends that it did not know of. It is for a worker
// that is about to refuse what somebody may have who has ended.
func (w *worker) hasEnded() bool {
	t := w.sw.flows
	if t == nil || atomic.LoadUint64(&t.ends.Rung) == t.rung.Load() || !t.mu.TryLock() {
		return false
	}
	defer t.mu.Unlock()
	t.learnEnds(w.sw)
	return true
}

// endOff ends the rows of connections that have ended. It needs mu.
func (t *flowTable) endOff() (ended []*flowRow) {
	for _, n := range t.off {
		if r := t.places[n].row; r != nil && t.isOff(r) {
			t.places[n].row = nil // it may be there twice
			ended = append(ended, r)
		}
	}
	t.off = t.off[:0]
	t.end(ended)
	return ended
}

// reap gives back the entries of connections that have ended, and of other rows that have. It
// reports whether there were some.
func (t *flowTable) reap(sw *Switch) bool {
	t.mu.Lock()
	t.learnEnds(sw)
	ended := append(t.resting, t.endOff()...)
	t.resting = nil
	t.mu.Unlock()
	if len(ended) == 0 {
		return false
	}
	t.maps.Wait()
	t.mu.Lock()
	defer t.mu.Unlock()
	t.settleEnded(sw, ended)
	return true
}

// lookForEnds reaps until done is closed. Without rows it sleeps.
func (t *flowTable) lookForEnds(sw *Switch, done <-chan struct{}) {
	tick := time.NewTicker(endsLater)
	defer tick.Stop()
	for vain := endsInVain; ; vain++ {
		if t.count.Load() == 0 && vain > endsInVain {
			select {
			case <-done:
				return
			case <-t.first:
			}
		}
		select {
		case <-done:
			return
		case <-tick.C:
		}
		switch found := t.reap(sw); {
		case found && vain >= endsInVain:
			tick.Reset(endsSoon)
			vain = 0
		case found:
			vain = 0
		case vain == endsInVain:
			tick.Reset(endsLater)
		}
	}
}
