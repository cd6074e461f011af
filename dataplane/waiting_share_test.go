package dataplane_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"github.com/vswitch/vswitch/dataplane"
	"github.com/vswitch/vswitch/dataplane/frame"
	"github.com/vswitch/vswitch/dataplane/header"
	. "github.com/vswitch/vswitch/dataplane/switchtest"
)

// asked takes the next hops that the switch has asked for.
func asked(l *Lab) (hops []dataplane.NeighborKey) {
	for {
		switch n := l.Switch.Next(0); n.Kind {
		case dataplane.NoticeNone, dataplane.NoticeClosed:
			return hops
		case dataplane.NoticeWanted:
			hops = append(hops, n.Hop)
		}
	}
}

func toHop(from string, n, size int) []byte {
	return UDP(from, 5000, hop(n)+":80", string(make([]byte, size)))
}

// wide makes all of 198.51.0.0/16 next hops.
func wide(l *Lab) {
	for i := range l.Config.Routes {
		if r := &l.Config.Routes[i]; r.Prefix.Bits() == 24 {
			r.Prefix = netip.MustParsePrefix("198.51.0.0/16")
		}
	}
	l.Install()
	l.Switch.SetNeighbors(nil)
}

func hop(i int) string { return fmt.Sprintf("198.51.%d.%d", 100+i/250, i%250+2) }

// 100 connections to a next hop that nobody knows yet lose nothing: Linux keeps 212,992
// bytes for one, and so does the switch.
func TestAHundredConnectsWaitForTheirNextHop(t *testing.T) {
	l := New(t)
	l.Switch.SetNeighbors(nil)
	for i := range 100 {
		l.Send("c1", TCP("c1", uint16(10_000+i), web, SYN, ""))
	}
	if hops := asked(l); len(hops) != 1 {
		t.Errorf("asked for %d hops, want one, once", len(hops))
	}
	l.Neighbor(NextHop, NextHopMAC)
	for l.Switch.Step() > 0 {
	}
	got := l.Got("up")
	if len(got) != 100 {
		t.Fatalf("%d of 100 went on; drops %s", len(got), l.Drops())
	}
	l.ExpectDrop("c1", dataplane.DropNoNeighbor, 0)
}

// What waited is carried outside of its port's turns, and costs the port the same.
func TestWhatWaitedCostsItsPort(t *testing.T) {
	l := New(t)
	l.Switch.SetNeighbors(nil)
	f := TCP("c1", 10_000, web, SYN, "")
	l.Send("c1", f)
	was := costAt(l, "c1")
	l.Neighbor(NextHop, NextHopMAC)
	for l.Switch.Step() > 0 {
	}
	if len(l.Got("up")) != 1 {
		t.Fatal("the frame did not go on")
	}
	var off frame.Offload
	if got, want := costAt(l, "c1")-was, time.Duration(frame.TakeCost(len(f))+off.SendCost(len(f))); got != want {
		t.Errorf("it cost %v, want %v", got, want)
	}
}

// One worker carries what waited, of a port that is another's: the debt is paid at that one,
// once.
func TestDebtIsPaidAtAnotherWorker(t *testing.T) {
	l := NewSized(t, 4096, func(cfg *dataplane.Config) { cfg.Workers = 2 })
	from := ""
	for _, name := range []string{"c1", "c2"} {
		if dataplane.OwnerOf(l.Switch, l.Port(name)) == 1 {
			from = name
		}
	}
	if from == "" {
		t.Fatal("one worker has both ports")
	}
	l.Switch.SetNeighbors(nil)
	f := TCP(from, 10_000, web, SYN, "")
	l.Send(from, f)
	if _, paid := dataplane.Serve(l.Switch, l.Port(from)); paid != 0 {
		t.Fatalf("it pays %d before anything was carried", paid)
	}
	l.Neighbor(NextHop, NextHopMAC)
	for dataplane.StepWorker(l.Switch, 0) > 0 {
	}
	if len(l.Got("up")) != 1 {
		t.Fatal("the frame did not go on")
	}
	var off frame.Offload
	want := frame.TakeCost(len(f)) + off.SendCost(len(f))
	if debt, paid := dataplane.Serve(l.Switch, l.Port(from)); debt != want || paid != want {
		t.Errorf("it owed %d and paid %d, want %d", debt, paid, want)
	}
	if debt, paid := dataplane.Serve(l.Switch, l.Port(from)); debt != 0 || paid != 0 {
		t.Errorf("it paid again: %d, %d", debt, paid)
	}
}

// Frames wait by their bytes, large ones too, in order; the oldest give way.
func TestWaitingIsBoundedInBytes(t *testing.T) {
	l := New(t)
	l.Switch.SetNeighbors(nil)
	off := partial(frame.GSOTCPv4, 1400, 34, 16)
	payload := make([]byte, 60_000)
	rand.NewChaCha8([32]byte{7}).Read(payload)
	for i := range 5 {
		f := TCP("c1", uint16(10_000+i), web, SYN, "")
		l.Send("c1", f)
		l.SendOffload("c1", TCP("c1", uint16(10_000+i), web, ACK, string(payload)), off)
	}
	l.Neighbor(NextHop, NextHopMAC)
	for l.Switch.Step() > 0 {
	}
	supers := 0
	for _, f := range l.Memory("up").SentFrames() {
		if len(f.Data) < 1000 {
			continue
		}
		supers++
		if !bytes.HasSuffix(f.Data, payload) || f.Offload.GSOSize != 1400 {
			t.Errorf("a super-frame of %d bytes is another", len(f.Data))
		}
	}
	if supers != 3 { // 60 KB take 118 chunks of 512 bytes
		t.Errorf("%d super-frames waited, want 3; drops %s", supers, l.Drops())
	}
	if n := l.Dropped("c1", dataplane.DropNoNeighbor); n != 4 { // two, and what came before each
		t.Errorf("%d frames gave way, want 4", n)
	}
}

// Whoever scans, a neighbour's frames wait for their next hop, which is asked for, also when
// it is the one that the scan began with.
func TestF39AScanTakesNoNextHopFromOthers(t *testing.T) {
	for _, shared := range []bool{false, true} {
		t.Run(fmt.Sprint("shared hop ", shared), func(t *testing.T) {
			l := New(t)
			wide(l)
			victim := 3
			if shared {
				victim = 20
			}
			scan := func(n int) {
				for i := range n {
					l.Send("c2", UDP("c2", 5000, hop(20+i%3000)+":9", "x"))
				}
				for range n {
					l.Send("c2", UDP("c2", 5000, web, string(make([]byte, 1400))))
				}
			}
			scan(100)
			asked(l)
			l.Tock(100 * time.Millisecond)
			for i := range 10 {
				l.Send("c1", toHop("c1", victim, 100+i))
			}
			found := false
			for _, h := range asked(l) {
				found = found || h == l.NextHop(hop(victim))
			}
			if !found && !shared {
				t.Error("nobody asks for the next hop of the other")
			}
			scan(3000)
			l.Switch.SetNeighbors(map[dataplane.NeighborKey]header.MAC{l.NextHop(hop(victim)): NextHopMAC})
			for l.Switch.Step() > 0 {
			}
			sizes := 0
			for _, f := range l.Got("up") {
				if len(f) == 42+100+sizes {
					sizes++
				}
			}
			if sizes != 10 {
				t.Errorf("%d frames of the other came in order, want 10; drops %s", sizes, l.Drops())
			}
			if n := l.Dropped("c1", dataplane.DropNoNeighbor); n != 0 {
				t.Errorf("%d of the other's frames gave way", n)
			}
		})
	}
}

// Several who scan at once.
func TestF39ScansShareTheNextHops(t *testing.T) {
	l := New(t)
	wide(l)
	for i := range 4 {
		l.Send("c4", toHop("c4", 3+i, 1))
	}
	for i := range 1000 {
		l.Send("c2", toHop("c2", i, 1))
		l.Send("c3", toHop("c3", (i+100)%1000, 1))
	}
	macs := map[dataplane.NeighborKey]header.MAC{}
	for i := range 4 {
		macs[l.NextHop(hop(3+i))] = NextHopMAC
	}
	l.Switch.SetNeighbors(macs)
	for l.Switch.Step() > 0 {
	}
	if n := l.Dropped("c4", dataplane.DropNoNeighbor); n != 0 {
		t.Errorf("%d frames of the third gave way", n)
	}
}

// One next hop that two ports wait for: who sends little keeps what he has there.
func TestAFloodToAWantedNextHopPushesOutItsOwn(t *testing.T) {
	l := New(t)
	l.Switch.SetNeighbors(nil)
	for i := range 20 {
		l.Send("c1", UDP("c1", uint16(6000+i), web, "x"))
	}
	for i := range 2000 {
		l.Send("c2", UDP("c2", uint16(6000+i), web, string(make([]byte, i%1400))))
	}
	l.Neighbor(NextHop, NextHopMAC)
	for l.Switch.Step() > 0 {
	}
	if a, b := l.Dropped("c1", dataplane.DropNoNeighbor), l.Dropped("c2", dataplane.DropNoNeighbor); a != 0 || b == 0 {
		t.Errorf("dropped %d of c1 and %d of c2", a, b)
	}
}

// Whatever comes and is resolved, in the end nothing is left and every frame was sent or
// counted.
func TestWaitingLosesCountOfNothing(t *testing.T) {
	for seed := range uint64(20) {
		rng := rand.New(rand.NewPCG(seed, 4))
		l := New(t)
		wide(l)
		sent, got := 0, 0
		l.Memory("up").SetSink(func([]byte, frame.Offload) { got++ })
		known := map[dataplane.NeighborKey]header.MAC{}
		for range 3000 {
			switch rng.IntN(40) {
			case 0:
				l.Tock(time.Duration(rng.IntN(2000)) * time.Millisecond)
			case 1:
				known[l.NextHop(hop(rng.IntN(800)+3))] = NextHopMAC
				l.Switch.SetNeighbors(known)
			case 2:
				clear(known)
				l.Switch.SetNeighbors(known)
			}
			from := []string{"c1", "c2", "c3", "c4"}[rng.IntN(4)]
			size := rng.IntN(200)
			if rng.IntN(10) == 0 {
				size = rng.IntN(1400)
			}
			l.Send(from, toHop(from, rng.IntN(800)+3, size))
			sent++
		}
		l.Tock(4 * time.Second)
		for l.Switch.Step() > 0 {
		}
		dropped := 0
		for _, p := range l.Switch.Stats().Ports {
			for _, n := range p.Drops {
				dropped += int(n)
			}
		}
		if sent != got+dropped {
			t.Errorf("seed %d: %d frames came, %d went on, %d were dropped", seed, sent, got, dropped)
		}
		l.Tock(4 * time.Second)
		if frames, hops := dataplane.Waiting(l.Switch); frames != 0 || hops != 0 {
			t.Errorf("seed %d: %d chunks and %d hops are kept", seed, frames, hops)
		}
	}
}

func TestWaitingAllocatesNothing(t *testing.T) {
	l := New(t)
	l.Switch.SetNeighbors(nil)
	f := UDP("c1", 5000, web, "x")
	send := func() {
		for range 100 {
			l.Memory("c1").Inject(f, noOffload)
		}
		l.Switch.Step()
		l.Switch.Step()
	}
	for range 20 {
		send()
	}
	if n := testing.AllocsPerRun(20, send); n != 0 {
		t.Errorf("%v allocations for frames that wait, want none", n)
	}
}

// The kernel has room for 1024 neighbours, and they are the host's too: however many scan, it is
// asked for far fewer at once, and who asks for little is still heard.
func TestF39QuestionsOfAllAreBounded(t *testing.T) {
	l := New(t)
	wide(l)
	all, heard := 0, 0
	for ms := range 3000 {
		for i, name := range []string{"c1", "c2", "c4"} {
			l.Send(name, toHop(name, 1000*i+ms%1000, 1))
		}
		want := dataplane.NeighborKey{}
		if ms%100 == 50 {
			want = l.NextHop(hop(5000 + ms))
			l.Send("c3", toHop("c3", 5000+ms, 1))
		}
		for _, h := range asked(l) {
			if all++; h == want {
				heard++
			}
		}
		l.Tock(time.Millisecond)
	}
	if all > 512 || all < 300 {
		t.Errorf("the kernel was asked for %d neighbours within three seconds, want about 500", all)
	}
	if heard != 30 {
		t.Errorf("%d of 30 questions of one who asks little were asked", heard)
	}
}
