package control

import (
	"context"
	"time"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/control/server"
)

// keptEvents is how many events a reader that comes back finds.
const keptEvents = 1024

// emit adds an event. It never waits for a reader.
func (c *Controller) emit(e api.Event) {
	e.Time = time.Now().UTC()
	c.events.add(func(n uint64) api.Event { e.Seq = n; return e })
}

// newEvents numbers the events from the time on, so that the numbers grow over a
// restart. Microseconds are exact in a float64 as JavaScript has it.
func newEvents(started time.Time) *journal[api.Event] {
	return newJournal[api.Event](keptEvents, uint64(started.UnixMicro()))
}

// Events begins to read the events.
func (c *Controller) Events(_ context.Context, q api.EventQuery) (server.Stream[api.Event], error) {
	s := &eventStream{once: q.Once, stop: c.ctx}
	switch {
	case q.Since != nil:
		s.at = c.events.from(*q.Since + 1)
	case !q.SinceTime.IsZero():
		s.at = c.events.after(func(e api.Event) bool { return !e.Time.After(q.SinceTime) })
	default:
		s.at = c.events.tail()
	}
	return s, nil
}

type eventStream struct {
	at   *cursor[api.Event]
	once bool
	stop context.Context // the daemon's
}

// Next implements server.Stream.
func (s *eventStream) Next(ctx context.Context) ([]api.Event, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(s.stop, cancel)()
	list, lost, err := s.at.read(ctx, !s.once)
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
func (s *eventStream) Close() {}
