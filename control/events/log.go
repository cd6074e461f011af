// Package events holds what has happened, for readers who may come late and leave early.
package events

import (
	"context"
	"time"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/control/journal"
	"github.com/vswitch/vswitch/control/server"
)

// kept is how many events a reader that comes back finds.
const kept = 1024

// Log has the newest events. Its methods are safe for concurrent use.
type Log struct {
	list *journal.Journal[api.Event]
	stop context.Context // of the daemon: its end is that of every reader
}

// New numbers the events from the time on, so that the numbers grow over a
// restart. Microseconds are exact in a float64 as JavaScript has it.
func New(stop context.Context, started time.Time) *Log {
	return &Log{journal.New(kept, uint64(started.UnixMicro()), func(e api.Event) string { return e.Container }), stop}
}

// Emit adds an event. It never waits for a reader.
func (l *Log) Emit(e api.Event) {
	e.Time = time.Now().UTC()
	l.list.Add(func(n uint64) api.Event { e.Seq = n; return e })
}

// Events begins to read the events.
func (l *Log) Events(_ context.Context, q api.EventQuery) (server.Stream[api.Event], error) {
	s := &stream{once: q.Once, stop: l.stop}
	switch {
	case q.Since != nil:
		s.at = l.list.From(*q.Since + 1)
	case !q.SinceTime.IsZero():
		s.at = l.list.After(func(e api.Event) bool { return !e.Time.After(q.SinceTime) })
	default:
		s.at = l.list.Tail()
	}
	return s, nil
}

type stream struct {
	at   *journal.Cursor[api.Event]
	once bool
	stop context.Context // the daemon's
}

// Next implements server.Stream.
func (s *stream) Next(ctx context.Context) ([]api.Event, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(s.stop, cancel)()
	list, lost, err := s.at.Read(ctx, !s.once)
	if lost > 0 {
		gap := api.Event{Type: api.EventLost, Lost: lost, Time: time.Now().UTC(), Message: "events were lost: the reader was too slow, or came back too late"}
		if len(list) > 0 {
			gap.Seq, gap.Time = list[0].Seq-1, list[0].Time
		}
		list = append([]api.Event{gap}, list...)
	}
	return list, err
}

// Close implements server.Stream.
func (s *stream) Close() {}
