// Package shaping says when to look at what others have put on the cables of containers: queueing
// disciplines, which come with an event, and programs, which come without.
package shaping

import (
	"context"
	"time"
)

// Looks looks for changes.
type Looks struct {
	// Rows are the rows of the flow table, and how often a port got its first.
	Rows func() (rows int, firsts uint64)
	// Queues looks at queueing disciplines, Programs at programs of every cable and uplink, which costs
	// the kernel a question each. misses says that a chain keeps flows from having rows.
	Queues   func() error
	Programs func() (misses bool, err error)
	// Failed is told what went wrong. The next look goes on.
	Failed func(error)

	kicked chan struct{}
}

// New returns l, ready to be kicked.
func New(l Looks) *Looks {
	l.kicked = make(chan struct{}, 1)
	return &l
}

// Kick says that queueing disciplines have changed. It never waits.
func (l *Looks) Kick() {
	select {
	case l.kicked <- struct{}{}:
	default:
	}
}

// delay lets the changes that a plugin makes one after the other, of qdisc, filter
// and the device's qdisc, arrive before the kernel is asked.
const delay = 20 * time.Millisecond

// every is how often programs on cables are looked for, glance how often the
// flow table is asked whether a flow to another port is in it.
const (
	every  = time.Second
	glance = 50 * time.Millisecond
	// share bounds the look for programs to a twentieth of one CPU, however many
	// cables there are.
	share = 20
)

// Run looks until ctx ends: for programs when the first flow to a port gets a row of the flow
// table, a moment later, and once a second while there are rows, or a chain that keeps flows from
// having any; for queueing disciplines then, too, and after a kick.
func (l *Looks) Run(ctx context.Context) {
	tick := time.NewTicker(glance)
	defer tick.Stop()
	var last time.Time
	var seen uint64
	var took time.Duration
	misses := false
	for {
		programs := false
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			rows, firsts := l.Rows()
			if now.Sub(last) < share*took || firsts == seen && (rows == 0 && !misses || now.Sub(last) < every) {
				continue
			}
			programs, seen = true, firsts
		case <-l.kicked:
			select {
			case <-ctx.Done():
				return
			case <-time.After(delay):
			}
		}
		select {
		case <-l.kicked:
		default:
		}
		began := time.Now()
		if err := l.Queues(); err != nil {
			l.Failed(err)
		}
		if programs {
			var err error
			if misses, err = l.Programs(); err != nil {
				l.Failed(err)
			}
			last = time.Now()
			took = last.Sub(began)
		}
	}
}
