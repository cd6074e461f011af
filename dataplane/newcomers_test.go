package dataplane_test

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"github.com/vswitch/vswitch/dataplane"
	"github.com/vswitch/vswitch/dataplane/frame"
	"github.com/vswitch/vswitch/dataplane/header"
	. "github.com/vswitch/vswitch/dataplane/switchtest"
)

// flooded is a lab whose ports 8080 of c1 and 8081 of c2 are published.
func flooded(t *testing.T) *Lab {
	l := NewSized(t, 1<<16, nil)
	noQuota(l)
	l.Publish(8080, "c1", 80)
	l.Publish(8081, "c2", 80)
	return l
}

// newcomer is the i-th SYN from a forged source to a published port.
func newcomer(i, port int) []byte {
	return Inbound(header.ProtoTCP, spoofed(Families[0], i), fmt.Sprintf("%s:%d", HostAddr, port), SYN, "")
}

// passes lets the switch work until it has nothing to do, and at most so long by cost.
func passes(l *Lab, most time.Duration, until func() bool) (took time.Duration) {
	was := cost(l)
	for idle := 0; idle < 100 && !until(); {
		if took = cost(l) - was; took > most {
			break
		}
		if dataplane.Pass(l.Switch, true) == 0 {
			idle++
		} else {
			idle = 0
		}
	}
	return took
}

func never() bool { return false }

// A flood of one published port fills the uplink's ring. What came behind it for another
// container waits until the ring was looked through, and not until all of it was carried.
func TestAFloodedPortPaysForItsNewcomers(t *testing.T) {
	const flood = 500
	l := flooded(t)
	l.Send("c3", UDP("c3", 1000, web, "x"))
	back := answer(l.Expect("up"))
	for i := range flood {
		l.Memory("up").Inject(newcomer(i, 8080), frame.Offload{})
	}
	l.Memory("up").Inject(newcomer(0, 8081), frame.Offload{})
	l.Memory("up").Inject(back, frame.Offload{})
	answered, begun := false, false
	l.Memory("c3").SetSink(func([]byte, frame.Offload) { answered = true })
	l.Memory("c2").SetSink(func([]byte, frame.Offload) { begun = true })
	carried := 0
	l.Memory("c1").SetSink(func([]byte, frame.Offload) { carried++ })
	if took := passes(l, 10*time.Millisecond, func() bool { return answered }); !answered || took > 400*time.Microsecond {
		t.Errorf("the answer to another container came after %v: %v", took, answered)
	}
	if took := passes(l, 10*time.Millisecond, func() bool { return begun }); !begun || took > 200*time.Microsecond {
		t.Errorf("another container's newcomer came %v later: %v", took, begun)
	}
	passes(l, time.Second, never)
	if carried != flood {
		t.Errorf("%d of %d came; %s", carried, flood, l.Drops())
	}
	if n := dataplane.NewcomerMemory(l.Switch); n != 0 {
		t.Errorf("%d chunks are kept", n)
	}
}

// However much one container is flooded, there is room for the newcomers of the next.
func TestNewcomersHaveShares(t *testing.T) {
	const flood = 3000
	l := flooded(t)
	got := map[string]int{}
	for _, c := range []string{"c1", "c2"} {
		l.Memory(c).SetSink(func([]byte, frame.Offload) { got[c]++ })
	}
	for i := range flood {
		l.Memory("up").Inject(newcomer(i, 8080), frame.Offload{})
	}
	const other = 100
	for i := range other {
		l.Memory("up").Inject(newcomer(i, 8081), frame.Offload{})
	}
	passes(l, time.Second, never)
	if got["c2"] != other {
		t.Errorf("%d of %d newcomers of the other container came; %s", got["c2"], other, l.Drops())
	}
	lost := int(l.Switch.Stats().Drops[dataplane.DropNewcomer])
	if got["c1"]+lost != flood || lost == 0 {
		t.Errorf("%d came and %d were refused of %d", got["c1"], lost, flood)
	}
	_, list := l.Switch.Shares()
	for _, s := range list {
		u := s.Of[dataplane.SharedNewcomers]
		if want := s.Tenant == l.Port("c1"); u.Held != 0 || (u.Refused == uint64(lost)) != want {
			t.Errorf("port %d: %+v", s.Tenant, u)
		}
	}
}

// Who has had a connection with a published port gets the next one beside a flood of strangers.
func TestGuestsComeBesideStrangers(t *testing.T) {
	const guests, flood = 50, 3000
	l := flooded(t)
	guest := func(i, port int) string { return fmt.Sprintf("203.0.113.%d:%d", 100+i, port) }
	handshake := func(i int) {
		l.Send("up", Inbound(header.ProtoTCP, guest(i, 1000), HostAddr+":8080", SYN, ""))
		l.Send("c1", Bytes(From("c1", guest(i, 1000), Packet{Src: Stations["c1"] + ":80", Proto: header.ProtoTCP, Flags: SYN | ACK, Ack: 1})))
		l.Got("up")
		l.Got("c1")
		l.Send("up", Bytes(Packet{EthSrc: NextHopMAC, EthDst: MAC("up"), Src: guest(i, 1000), Dst: HostAddr + ":8080", Proto: header.ProtoTCP, Flags: ACK, Seq: 1, Ack: 1}))
	}
	for i := range guests {
		handshake(i)
	}
	l.Got("c1")
	if came := besideFlood(t, l, guests, flood, guest); came != guests {
		t.Errorf("%d of %d came; %s", came, guests, l.Drops())
	}
}

// besideFlood is how many SYNs of guests come to c1 beside a flood of strangers' for it.
func besideFlood(t *testing.T, l *Lab, guests, flood int, guest func(i, port int) string) (came int) {
	t.Helper()
	l.Memory("c1").SetSink(func(b []byte, _ frame.Offload) {
		if bytes.Equal(b[26:29], []byte{203, 0, 113}) {
			came++
		}
	})
	for i := range flood {
		l.Memory("up").Inject(newcomer(i, 8080), frame.Offload{})
		if i%(flood/guests) == flood/guests-1 {
			l.Memory("up").Inject(Inbound(header.ProtoTCP, guest(i*guests/flood, 2000), HostAddr+":8080", SYN, ""), frame.Offload{})
		}
	}
	passes(l, time.Second, never)
	if l.Switch.Stats().Drops[dataplane.DropNewcomer] == 0 {
		t.Error("none of the flood is refused")
	}
	return came
}

// An address from which nobody has shown to hear is no guest: two datagrams can be forged.
func TestForgersAreNoGuests(t *testing.T) {
	const forged, flood = 50, 3000
	l := flooded(t)
	source := func(i, port int) string { return fmt.Sprintf("203.0.113.%d:%d", 100+i, port) }
	for range 2 {
		for i := range forged {
			l.Send("up", Inbound(header.ProtoUDP, source(i, 1000), HostAddr+":8080", 0, "?"))
			l.Send("c1", Bytes(From("c1", source(i, 1000), Packet{Src: Stations["c1"] + ":80", Proto: header.ProtoUDP})))
			l.Got("up")
			l.Got("c1")
		}
		l.Tock(3 * time.Second)
	}
	if came := besideFlood(t, l, forged, flood, source); came > forged*3/4 {
		t.Errorf("%d of %d came beside the flood as guests do", came, forged)
	}
}

// What a container answers is carried before it gets more to answer, however few frames come at once.
func TestAnswersComeBeforeNewcomers(t *testing.T) {
	l := flooded(t)
	most, at := 0, 0
	var answers [][]byte
	l.Memory("c1").SetSink(func(b []byte, _ frame.Offload) {
		answers = append(answers, Bytes(From("c1", fmt.Sprintf("%d.%d.%d.%d:%d", b[26], b[27], b[28], b[29], int(b[34])<<8|int(b[35])),
			Packet{Src: Stations["c1"] + ":80", Proto: header.ProtoTCP, Flags: SYN | ACK, Ack: 1})))
	})
	l.Memory("up").SetSink(func([]byte, frame.Offload) {})
	l.Memory("host1").SetSink(func([]byte, frame.Offload) {})
	busy := l2(MAC("host1"), MAC("c3"), "x")
	for range 500 {
		for _, c := range []string{"c2", "c3", "c4"} {
			for l.Memory(c).Waiting() < 128 {
				l.Memory(c).Inject(busy, frame.Offload{})
			}
		}
		for range 20 {
			l.Memory("up").Inject(newcomer(at, 8080), frame.Offload{})
			at++
		}
		dataplane.Pass(l.Switch, true)
		for _, f := range answers {
			l.Memory("c1").Inject(f, frame.Offload{})
		}
		answers = answers[:0]
		most = max(most, l.Memory("c1").Waiting())
	}
	if most > 100 {
		t.Errorf("%d answers waited at once", most)
	}
}

// Datagrams of one sender stay in their order, put off or not.
func TestNewcomersKeepTheirOrder(t *testing.T) {
	l := flooded(t)
	at := 0
	l.Memory("c1").SetSink(func(b []byte, _ frame.Offload) {
		if want := fmt.Sprintf("%04d", at); !bytes.Contains(b, []byte(want)) {
			t.Fatalf("datagram %s is not the next", want)
		}
		at++
	})
	n := 0
	for _, burst := range []int{1, 100, 3, 1, 40, 1, 1, 200} {
		for range burst {
			l.Memory("up").Inject(Inbound(header.ProtoUDP, World+":9", HostAddr+":8080", 0, fmt.Sprintf("%04d", n)), frame.Offload{})
			n++
		}
		for range 3 {
			dataplane.Pass(l.Switch, true)
		}
	}
	passes(l, time.Second, never)
	if at != n {
		t.Errorf("%d of %d came; %s", at, n, l.Drops())
	}
}

// What waits ends with its uplink, and its container.
func TestNewcomersOfWhatHasGone(t *testing.T) {
	for _, gone := range []string{"up", "c1"} {
		t.Run(gone, func(t *testing.T) {
			l := flooded(t)
			for i := range 300 {
				l.Memory("up").Inject(newcomer(i, 8080), frame.Offload{})
			}
			dataplane.Pass(l.Switch, true)
			if dataplane.NewcomerMemory(l.Switch) == 0 {
				t.Fatal("none is kept")
			}
			l.Unplug(gone)
			passes(l, time.Second, never)
			l.Switch.Step()
			if n := dataplane.NewcomerMemory(l.Switch); n != 0 {
				t.Errorf("%d chunks are kept; %s", n, l.Drops())
			}
		})
	}
}
