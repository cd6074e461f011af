// Package events holds what has happened, for readers who may come late and leave early.
package events

import (
	"context"
	"errors"
	"time"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/control/directory"
	"github.com/vswitch/vswitch/control/journal"
	"github.com/vswitch/vswitch/control/server"
)

// kept is how many events a reader that comes back finds.
const kept = 1024

// Log has the newest events. Its methods are safe for concurrent use.
type Log struct {
	list  *journal.Journal[told]
	stop  context.Context // of the daemon: its end is that of every reader
	names *directory.Live
	held  held
}

// told is an event, and the container that it is about, as it was then; nil: none.
type told struct {
	api.Event
	of *directory.Container
}

// New numbers the events from the time on, so that the numbers grow over a
// restart. Microseconds are exact in a float64 as JavaScript has it.
func New(stop context.Context, started time.Time, names *directory.Live) *Log {
	return &Log{list: journal.New(kept, uint64(started.UnixMicro()), func(e told) string { return e.Container }), stop: stop, names: names}
}

// Emit adds an event. It never waits for a reader.
func (l *Log) Emit(e api.Event) { l.add(told{Event: e}) }

func (l *Log) add(e told) {
	e.Time = time.Now().UTC()
	l.list.Add(func(n uint64) told { e.Seq = n; return e })
}

// Events begins to read the events.
func (l *Log) Events(_ context.Context, q api.EventQuery) (server.Stream[api.Event], error) {
	s := &stream{once: q.Once, stop: l.stop}
	if q.Container != "" {
		if err := l.only(s, q.Container); err != nil {
			return nil, err
		}
	}
	switch {
	case q.Since != nil:
		s.at = l.list.From(*q.Since + 1)
	case !q.SinceTime.IsZero():
		s.at = l.list.After(func(e told) bool { return !e.Time.After(q.SinceTime) })
	default:
		s.at = l.list.Tail()
	}
	return s, nil
}

type stream struct {
	at   *journal.Cursor[told]
	once bool
	stop context.Context // the daemon's

	wanted func(*directory.Container) bool // nil: events of all and of none
}

// only leaves a stream the events of containers that a word means, or meant when they were: all
// of theirs, whatever they were called at the time.
func (l *Log) only(s *stream, text string) error {
	word, err := directory.ParseWord(text)
	if err != nil {
		return err
	}
	found, err := l.names.Now().Select(text)
	if err == nil {
		word = found.Word
	}
	ids := make(map[string]bool)
	for _, ct := range found.Containers {
		ids[ct.ID] = true
	}
	past, _, _ := l.list.From(0).Read(context.Background(), false)
	for _, e := range past {
		if e.of != nil && word.Fits(e.of) {
			ids[e.of.ID] = true
		}
	}
	s.wanted = func(ct *directory.Container) bool { return ct != nil && (ids[ct.ID] || word.Fits(ct)) }
	if len(ids) > 0 && errors.Is(err, api.ErrNotFound) {
		return nil // it has gone
	}
	return err
}

// Next implements server.Stream.
func (s *stream) Next(ctx context.Context) ([]api.Event, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(s.stop, cancel)()
	for {
		events, lost, err := s.at.Read(ctx, !s.once)
		var list []api.Event
		for _, e := range events {
			if s.wanted == nil || s.wanted(e.of) {
				list = append(list, e.Event)
			}
		}
		if lost > 0 {
			gap := api.Event{Type: api.EventLost, Lost: lost, Time: time.Now().UTC(), Message: "events were lost: the reader was too slow, or came back too late"}
			if len(events) > 0 {
				gap.Seq, gap.Time = events[0].Seq-1, events[0].Time
			}
			list = append([]api.Event{gap}, list...)
		}
		if len(list) > 0 || len(events) == 0 || err != nil {
			return list, err
		}
	}
}

// Close implements server.Stream.
func (s *stream) Close() {}
