package dataplane_test

import (
	"testing"
	"time"

	"github.com/vswitch/vswitch/dataplane"
	"github.com/vswitch/vswitch/dataplane/header"
	. "github.com/vswitch/vswitch/dataplane/switchtest"
)

// Nobody waits for a reader of notices: a next hop that a port may not ask for yet is asked for with a later
// frame, events are counted, and what was refused is summed.
func TestNoticesWithoutAReader(t *testing.T) {
	l := New(t)
	wide(l)
	gone := l.Switch.Next(0)
	if gone.Kind != dataplane.NoticeNone {
		t.Fatalf("a notice of nothing: %+v", gone)
	}
	const hops = 300 // more than a port may ask for at once
	for i := range hops {
		l.Send("c1", toHop("c1", i, 1))
	}
	if n := len(asked(l)); n != 256 {
		t.Errorf("%d next hops are wanted, want as many as a port may ask for at once, 256", n)
	}
	l.Tock(4 * time.Second)
	l.Send("c1", toHop("c1", hops-1, 1))
	if list := asked(l); len(list) != 1 || list[0] != l.NextHop(hop(hops-1)) {
		t.Errorf("%v are wanted four seconds later, want the last", list)
	}
}

// More events than there is room for are counted, and told with the next.
func TestNoticesCountLostEvents(t *testing.T) {
	l := New(t)
	const floods = 300
	for range floods {
		f := l2(MAC("c1"), header.MAC{1, 2, 3, 4, 5, 6}, "from a group")
		l.Send("c2", f)
		for range 11 { // more than the pause between two of a kind
			l.Tock(time.Second)
		}
	}
	told, lost := 0, uint64(0)
	for n := l.Switch.Next(0); n.Kind != dataplane.NoticeNone; n = l.Switch.Next(0) {
		if n.Kind == dataplane.NoticeEvent {
			told++
			lost += n.Lost
		}
	}
	if told == 0 || lost == 0 || told+int(lost) != floods {
		t.Errorf("%d events told and %d lost, want %d in all", told, lost, floods)
	}
}

// The end of the switch ends a wait.
func TestNoticesEnd(t *testing.T) {
	l := New(t)
	got := make(chan dataplane.Notice)
	go func() { got <- l.Switch.Next(time.Hour) }()
	if err := l.Switch.Close(); err != nil {
		t.Fatal(err)
	}
	if n := <-got; n.Kind != dataplane.NoticeClosed {
		t.Errorf("%+v, want the end", n)
	}
}
