package conntrack

import (
	"sync/atomic"
	"time"
)

// Meter measures the rate of a counter between two sweeps. Only rate is read by others
// than the sweep.
type Meter struct {
	at   int64  // ns, 0: never looked
	seen uint64 // the counter then
	rate atomic.Uint64
}

// Note looks at the counter of something that was created at a time.
func (m *Meter) Note(now, created int64, count uint64) {
	since := m.at
	if since < created {
		since, m.seen = created, 0 // another one's memory
	}
	if count < m.seen {
		return
	}
	// Treat a flow younger than a second as one second old: short ones would add up to
	// more than any link carries.
	if took := max(now-since, int64(time.Second)); now > since {
		m.rate.Store(uint64(float64(count-m.seen) * float64(time.Second) / float64(took)))
		m.at, m.seen = now, count
	}
}

// Rate is what Note has measured last, of the counter's unit a second.
func (m *Meter) Rate() uint64 { return m.rate.Load() }
