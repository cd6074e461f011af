package dataplane_test

import (
	"encoding/binary"
	"fmt"
	"math/rand"
	"testing"
	"time"

	"github.com/vswitch/vswitch/dataplane"
	"github.com/vswitch/vswitch/dataplane/frame"
	"github.com/vswitch/vswitch/dataplane/header"
	. "github.com/vswitch/vswitch/dataplane/switchtest"
)

// Of very many frames between learned stations each arrives once, in the order
// of its source and destination, and never where it came from.
func TestL01NoFrameTwiceNoneOvertakes(t *testing.T) {
	l := New(t)
	names := []string{"c1", "c2", "c3"}
	type path struct{ at, from, to string }
	last := map[path]uint32{}
	got := 0
	for _, at := range names {
		l.Memory(at).SetSink(func(b []byte, _ frame.Offload) {
			got++
			from, to := names[b[11]-11], names[b[5]-11]
			n := binary.BigEndian.Uint32(b[14:])
			if to != at || from == at {
				t.Fatalf("%s got frame %d from %s for %s", at, n, from, to)
			}
			p := path{at, from, to}
			if n <= last[p] {
				t.Fatalf("%s got frame %d from %s behind %d", at, n, from, last[p])
			}
			last[p] = n
		})
	}
	rng := rand.New(rand.NewSource(5))
	const frames = 1_000_000
	f := l2(MAC("c1"), MAC("c2"), "0123456789")
	for n := uint32(1); n <= frames; n++ {
		i := rng.Intn(3)
		j := (i + 1 + rng.Intn(2)) % 3
		src, dst := MAC(names[i]), MAC(names[j])
		copy(f, dst[:])
		copy(f[6:], src[:])
		binary.BigEndian.PutUint32(f[14:], n)
		l.Memory(names[i]).Inject(f, noOffload)
		if n%100 == 0 {
			for l.Switch.Step() > 0 {
			}
		}
	}
	if got != frames {
		t.Errorf("%d of %d frames arrived; %s", got, frames, l.Drops())
	}
}

// A million invented sources on one port: its share of the table is bounded, the
// others' stations stay known, and their unicast is not flooded to it.
func TestL05F31AddressFlood(t *testing.T) {
	for _, tc := range []struct {
		name    string
		guarded bool
		max     int
		frames  int
	}{{"guarded", true, 0, 100_000}, {"limit 32", false, 32, 1_000_000}, {"limit of the table", false, 64, 100_000}} {
		t.Run(tc.name, func(t *testing.T) {
			l := New(t)
			l.Configure("c2", func(p *dataplane.PortConfig) { p.Guarded, p.MaxMACs = tc.guarded, tc.max })
			l.Send("c1", l2(MAC("c3"), stranger, "a quiet station"))
			l.Expect("c3")
			l.Memory("c3").SetSink(func([]byte, frame.Offload) {})
			f := l2(MAC("c3"), MAC("c2"), "macof")
			rng := rand.New(rand.NewSource(6))
			for n := range tc.frames {
				rng.Read(f[6:12])
				f[6] = f[6]&^1 | 2
				l.Memory("c2").Inject(f, noOffload)
				if n%64 == 63 {
					l.Switch.Step()
				}
				if n%10_000 == 0 {
					l.Advance(time.Second)
					learned, kept := 0, false
					for _, e := range l.Switch.FDB() {
						if !e.Static && e.Port == l.Port("c2") {
							learned++
						}
						kept = kept || e.MAC == stranger
					}
					if learned > tc.max || !kept {
						t.Fatalf("after %d frames c2 has %d entries, want at most %d; the quiet station is known: %v", n, learned, tc.max, kept)
					}
				}
			}
			for l.Switch.Step() > 0 {
			}
			l.Memory("c3").SetSink(nil)
			l.Send("c3", l2(stranger, MAC("c3"), "to the quiet one"))
			l.Expect("c1")
			l.Send("c1", l2(MAC("c3"), MAC("c1"), "between the others"))
			l.Expect("c3")
		})
	}
}

// A station that moves with every frame is frozen, told of, and free again after
// a minute; one that moves once is followed at once.
func TestL07Flapping(t *testing.T) {
	l := New(t)
	at := []string{"c1", "c2"}
	for i := range 12 {
		l.Send(at[i%2], l2(MAC("c3"), stranger, "here I am"))
		l.Got("c3")
	}
	if len(l.Events) != 0 {
		t.Fatal("told before Advance")
	}
	l.Advance(0)
	kinds := map[dataplane.EventKind][]dataplane.Event{}
	for _, e := range l.Events {
		kinds[e.Kind] = append(kinds[e.Kind], e)
	}
	flaps := kinds[dataplane.EventFlap]
	if len(flaps) != 1 || flaps[0].MAC != stranger || len(l.Events) != 1+len(kinds[dataplane.EventMove]) {
		t.Fatalf("events %+v, want one of a flapping station", l.Events)
	}
	frozen := map[frame.PortID]string{l.Port("c1"): "c1", l.Port("c2"): "c2"}[flaps[0].Other]
	other := at[0]
	if frozen == other {
		other = at[1]
	}
	if got := l.Dropped(other, dataplane.DropFlapping); got == 0 {
		t.Errorf("nothing of the wrong port was dropped: %s", l.Drops())
	}
	l.Send("c3", l2(stranger, MAC("c3"), "to you"))
	l.Expect(frozen)
	l.Advance(59 * time.Second)
	l.Send(other, l2(MAC("c3"), stranger, "too early"))
	l.ExpectNothing()
	l.Advance(2 * time.Second)
	l.Send(other, l2(MAC("c3"), stranger, "a minute later"))
	l.Expect("c3")
	l.Send("c3", l2(stranger, MAC("c3"), "to you"))
	l.Expect(other)
}

func TestL07OneMoveIsFollowedAtOnce(t *testing.T) {
	l := New(t)
	for i := range 20 { // a virtual machine migrates every three seconds
		at := []string{"c1", "c2"}[i%2]
		l.Send(at, ARP(header.Broadcast, stranger, 1, stranger, "10.1.0.77", header.MAC{}, "10.1.0.77"))
		for _, c := range []string{"c1", "c2", "c3", "host1"} {
			l.Got(c)
		}
		l.Send("c3", l2(stranger, MAC("c3"), "to you"))
		l.Expect(at)
		l.Advance(3 * time.Second)
	}
	// Told once in ten seconds for each port that it comes to.
	for i, e := range l.Events {
		if e.Kind != dataplane.EventMove || e.MAC != stranger || e.Port == e.Other {
			t.Errorf("event %d: %+v, want a move", i, e)
		}
	}
	if n := len(l.Events); n < 8 || n > 12 {
		t.Errorf("%d events of 19 moves in a minute between two ports", n)
	}
}

// A frame that was sent to a port is not heard from it: the table's entry of its
// source does not move.
func TestL21FloodingDoesNotMoveStations(t *testing.T) {
	l := New(t)
	l.Send("c1", l2(header.Broadcast, stranger, "x"))
	for i := range 1000 {
		l.Send("c2", l2(header.Broadcast, MAC("c2"), fmt.Sprint(i)))
		l.Send("c3", l2(stranger, MAC("c3"), "x"))
	}
	for _, e := range l.Switch.FDB() {
		if e.MAC == stranger && e.Port != l.Port("c1") {
			t.Errorf("the station moved to port %d", e.Port)
		}
	}
	if got := len(l.Got("c1")); got != 2000 {
		t.Errorf("c1 got %d frames, want 2000", got)
	}
}
