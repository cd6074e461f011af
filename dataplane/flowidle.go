package dataplane

import (
	"sync/atomic"
	"time"

	"github.com/vswitch/vswitch/dataplane/flowmap"
)

// A row stays for as long as its flow may be idle, so that a connection that is quiet goes on
// while nobody is there. The programs see by the same time that a row is dead: that of
// conntrack for the state of the flow, and of one that is bridged that for its protocol.

// setTimeouts gives the rows the timeouts of the snapshot.
func (t *flowTable) setTimeouts(sw *Switch) {
	if t == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	limits := &sw.snapshot.Load().timeouts
	sw.conntrack.SetTimeouts(limits, t.maps.InJiffies)
	for _, r := range t.rows {
		if !r.routed {
			atomic.StoreUint32(&t.entry(r).Timeout, t.maps.InJiffies(limits.Lasting(r.flow.tuple.Proto)))
		}
	}
}

// idle is for how long an entry has carried nothing at a number of jiffies.
func (t *flowTable) idle(m *flowmap.Entry, now uint32, known bool) time.Duration {
	last := atomic.LoadUint64(&m.LastUse)
	if !known || last == 0 {
		return 0
	}
	return time.Duration(max(0, int32(now-uint32(last)))) * t.jiffy
}

// dead reports whether the programs take an entry for none, as neither direction was used.
func (t *flowTable) dead(n, now uint32) bool {
	m, o := &t.entries[n], &t.entries[n^1]
	if m.LastUse == 0 {
		return atomic.LoadUint32(&o.Ended) == 0 && timedOut(o, now)
	}
	return timedOut(m, now) && (atomic.LoadUint32(&o.Ended) != 0 || o.LastUse == 0 || timedOut(o, now))
}

func timedOut(m *flowmap.Entry, now uint32) bool {
	return m.Timeout != 0 && m.LastUse != 0 && int32(now-uint32(m.LastUse)) > int32(m.Timeout)
}

// seen is when one of the rows of a flow was last found changed.
func (t *flowTable) seen(r *flowRow) int64 {
	if o := t.places[r.number^1].row; o != nil {
		return max(r.seen, o.seen)
	}
	return r.seen
}

// over reports whether the flow of a row was idle for so long that it is none any more, or is a
// connection that nobody tracks and its ends have closed.
func (t *flowTable) over(r *flowRow, now int64) bool {
	idle := now - t.seen(r)
	if idle <= int64(flowIdle) {
		return false
	}
	limit := atomic.LoadUint32(&t.entry(r).Timeout)
	return limit != 0 && idle > int64(limit)*int64(t.jiffy) || !r.routed && t.closed(r)
}

// closed reports whether both sides of a bridged connection have ended it, or one has reset it.
func (t *flowTable) closed(r *flowRow) bool {
	is := atomic.LoadUint32(&t.entry(r).Half.Ended)
	other := is // its frames come to the switch
	if o := t.places[r.number^1].row; o != nil {
		other = atomic.LoadUint32(&t.entry(o).Half.Ended)
	}
	return is == flowmap.HalfRST || other == flowmap.HalfRST || is != 0 && other != 0
}
