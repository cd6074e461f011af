package dataplane_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/vswitch/vswitch/dataplane"
	"github.com/vswitch/vswitch/dataplane/frame"
	"github.com/vswitch/vswitch/dataplane/header"
	. "github.com/vswitch/vswitch/dataplane/switchtest"
)

// A port floods 1000 frames a second after a burst of 2000, whatever the kind;
// the unicast of others, and its own, goes on.
func TestL08StormControl(t *testing.T) {
	for name, f := range map[string][]byte{
		"broadcast": l2(header.Broadcast, MAC("c2"), "x"),
		"multicast": l2(GroupMAC("239.1.1.1"), MAC("c2"), "x"),
		"unknown":   l2(stranger, MAC("c2"), "x"),
		"ARP":       WhoHas("c2", "10.1.0.99"),
	} {
		t.Run(name, func(t *testing.T) {
			l := guarded(t)
			flooded := 0
			l.Memory("c1").SetSink(func([]byte, frame.Offload) { flooded++ })
			for _, at := range []string{"c3", "host1"} {
				l.Memory(at).SetSink(func([]byte, frame.Offload) {})
			}
			// Ten seconds of 20,000 frames each.
			const sent = 200_000
			for range 1000 {
				for range sent / 1000 {
					l.Memory("c2").Inject(f, noOffload)
				}
				for l.Switch.Step() > 0 {
				}
				l.Advance(10 * time.Millisecond)
			}
			if flooded < 11_900 || flooded > 12_100 {
				t.Errorf("%d frames were flooded in 10 s, want a burst of 2000 and 10000", flooded)
			}
			if got := l.Dropped("c2", dataplane.DropStorm); got != uint64(sent-flooded) {
				t.Errorf("%d counted as dropped, want %d", got, sent-flooded)
			}
			if len(l.Events) == 0 || l.Events[0].Kind != dataplane.EventStorm || l.Events[0].Port != l.Port("c2") {
				t.Errorf("events %+v", l.Events)
			}
			l.Memory("c1").SetSink(nil)
			l.Memory("c3").SetSink(nil)
			for range 5000 {
				l.Memory("c3").Inject(l2(MAC("c1"), MAC("c3"), "unicast"), noOffload)
				l.Memory("c2").Inject(l2(MAC("c1"), MAC("c2"), "unicast"), noOffload)
			}
			for l.Switch.Step() > 0 {
			}
			if got := len(l.Got("c1")); got != 10_000 {
				t.Errorf("%d of 10000 unicast frames passed", got)
			}
			l.Send("c3", l2(header.Broadcast, MAC("c3"), "the other port has its own credit"))
			if got := len(l.Got("c1")); got != 1 {
				t.Errorf("c3's broadcast reached c1 %d times", got)
			}
		})
	}
}

// The limit is the port's; a frame of many segments costs as many.
func TestL08StormLimitOfAPort(t *testing.T) {
	for _, tc := range []struct{ rate, want int }{{100, 2000}, {0, 2000}, {-1, 10000}} {
		t.Run(fmt.Sprint(tc.rate), func(t *testing.T) {
			l := New(t)
			l.Configure("c2", func(p *dataplane.PortConfig) { p.StormRate = tc.rate })
			for range 10000 {
				l.Memory("c2").Inject(l2(header.Broadcast, MAC("c2"), "x"), noOffload)
			}
			for l.Switch.Step() > 0 {
			}
			if got := len(l.Got("c1")); got != tc.want {
				t.Errorf("%d flooded at once, want %d", got, tc.want)
			}
			if tc.rate == 100 {
				l.Advance(time.Second)
				for range 1000 {
					l.Send("c2", l2(header.Broadcast, MAC("c2"), "x"))
				}
				if got := len(l.Got("c1")); got != 100 {
					t.Errorf("%d flooded in the next second, want 100", got)
				}
			}
		})
	}
	l := New(t)
	big := Bytes(Packet{EthSrc: MAC("c2"), EthDst: header.Broadcast, Src: "10.1.0.12:1", Dst: "10.1.0.255:2", Proto: header.ProtoUDP, Payload: make([]byte, 14_000)})
	for range 1000 {
		l.SendOffload("c2", big, frame.Offload{Csum: frame.CsumPartial, CsumStart: 34, CsumOffset: 6, GSOType: frame.GSOUDPL4, GSOSize: 1400})
	}
	if got := len(l.Got("c1")); got == 0 || got > 200 {
		t.Errorf("%d frames of ten segments were flooded, want at most 200", got)
	}
}

// join connects two stations as a bridge inside a container does: what the
// switch sends to one comes back from the other.
func join(l *Lab, a, b string) {
	copyTo := func(to string) func([]byte, frame.Offload) {
		return func(f []byte, o frame.Offload) { l.Memory(to).Inject(f, o) }
	}
	l.Memory(a).SetSink(copyTo(b))
	l.Memory(b).SetSink(copyTo(a))
}

// A container that bridges two of its ports makes a loop. A broadcast from
// elsewhere, and one of its own, ends soon, and the loop is told of.
func TestL09Loop(t *testing.T) {
	for _, tc := range []struct {
		name    string
		guarded bool
		src     header.MAC // who broadcasts on c1's port
		bound   int        // frames that c1 may see of it
	}{
		{"guarded, of a pinned station", true, MAC("c1"), 0},
		{"not guarded, of a pinned station", false, MAC("c1"), 0},
		{"not guarded, of a learned station", false, stranger, 20},
	} {
		t.Run(tc.name, func(t *testing.T) {
			l := New(t)
			if tc.guarded {
				l.Guard()
			}
			join(l, "c2", "c3")
			l.Memory("c1").Inject(l2(header.Broadcast, tc.src, "round and round"), noOffload)
			turns := 0
			for ; l.Switch.Step() > 0; turns++ {
				if turns > 1000 {
					t.Fatalf("the loop does not end: %s", l.Drops())
				}
			}
			if got := len(l.Got("c1")); got > tc.bound {
				t.Errorf("c1 saw its own broadcast %d times, want at most %d", got, tc.bound)
			}
			l.Advance(time.Second)
			found := false
			for _, e := range l.Events {
				found = found || e.Kind == dataplane.EventLoop || e.Kind == dataplane.EventFlap
			}
			if !found {
				t.Errorf("events %+v, want a loop", l.Events)
			}
			l.Memory("c1").Inject(l2(MAC("host1"), MAC("c1"), "others go on"), noOffload)
			l.Switch.Step()
			if got := len(l.Got("host1")); got == 0 {
				t.Error("the host hears nothing")
			}
		})
	}
}

// The gateway's own frame that comes in at a container's port has gone round, if it was
// flooded; otherwise it is forged.
func TestL09OwnAddressComesBack(t *testing.T) {
	for _, guarded := range []bool{true, false} {
		l := New(t)
		if guarded {
			l.Guard()
		}
		l.Send("host1", l2(header.Broadcast, MAC("host1"), "round"))
		for _, c := range []string{"c1", "c2", "c3"} {
			if len(l.Got(c)) != 1 {
				t.Fatalf("%s hears nothing of the host", c)
			}
		}
		l.Send("c2", l2(header.Broadcast, MAC("host1"), "round"))
		l.Send("c3", l2(header.Broadcast, MAC("host1"), "never sent"))
		l.ExpectDrop("c2", dataplane.DropSpoofedMAC, 1)
		l.Advance(5 * time.Second)
		l.Send("c1", l2(header.Broadcast, MAC("host1"), "round"))
		l.Advance(time.Second)
		var got []string
		for _, e := range l.Events {
			got = append(got, fmt.Sprint(e.Kind, " at ", e.Port))
		}
		want := []string{fmt.Sprint("loop at ", l.Port("c2")), fmt.Sprint("mac-spoof at ", l.Port("c3")), fmt.Sprint("mac-spoof at ", l.Port("c1"))}
		if !slices.Equal(got, want) {
			t.Errorf("guarded %v: events %q, want %q", guarded, got, want)
		}
	}
}

// A loop of stations that nobody knows, fed all the time, is held by storm
// control within a second.
func TestL09LoopIsCappedByStormControl(t *testing.T) {
	l := New(t)
	join(l, "c2", "c3")
	seen := 0
	l.Memory("c1").SetSink(func([]byte, frame.Offload) { seen++ })
	for i := range 10_000 { // ten seconds
		src := header.MAC{2, 0xcc, 0, 0, byte(i >> 8), byte(i)}
		l.Memory("c1").Inject(l2(header.Broadcast, src, "x"), noOffload)
		for range 20 {
			l.Switch.Step()
		}
		l.Advance(time.Millisecond)
	}
	for l.Switch.Step() > 0 {
	}
	if seen > 2*(2000+10_000) {
		t.Errorf("c1 saw %d frames of the loop in 10 s, want at most what two ports may flood", seen)
	}
}

// In a network of more than 64 ports a flooded frame costs as much more as it has
// more receivers, and a burst ends in 16,000 ports at most.
func TestL08StormLimitOfALargeNetwork(t *testing.T) {
	for _, tc := range []struct{ ports, burst, second int }{{8, 2000, 1000}, {64, 250, 1000}, {256, 62, 250}, {500, 32, 128}, {2000, 8, 32}} {
		t.Run(fmt.Sprint(tc.ports), func(t *testing.T) {
			l := guarded(t)
			crowd(t, l, tc.ports)
			flooded := 0
			l.Memory("c1").SetSink(func([]byte, frame.Offload) { flooded++ })
			send := func(n int) {
				for range n {
					l.Memory("c2").Inject(l2(header.Broadcast, MAC("c2"), "x"), noOffload)
				}
				for l.Switch.Step() > 0 {
				}
			}
			send(3000)
			if flooded != tc.burst {
				t.Errorf("%d of 3000 frames were flooded at once, want %d", flooded, tc.burst)
			}
			flooded = 0
			for range 10 {
				l.Tock(100 * time.Millisecond)
				send(200)
			}
			if flooded < tc.second-2 || flooded > tc.second+2 {
				t.Errorf("%d frames were flooded in the next second, want %d", flooded, tc.second)
			}
			l.Tock(10 * time.Second)
			big := Bytes(Packet{EthSrc: MAC("c2"), EthDst: header.Broadcast, Src: "10.1.0.12:1", Dst: "10.1.0.255:2", Proto: header.ProtoUDP, Payload: make([]byte, 14_000)})
			flooded = 0
			l.Memory("c2").Inject(big, partial(frame.GSOUDPL4, 140, 34, 6))
			send(0)
			if flooded != 1 {
				t.Error("a frame of many segments never passes")
			}
		})
	}
}
