package dataplane_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/vswitch/vswitch/dataplane/header"
	. "github.com/vswitch/vswitch/dataplane/switchtest"
)

// TestQuietFlowsAreCarried: a routed flow of every kind that has spoken a few times and lived for some
// seconds is carried both ways as the stages would carry it: while nobody is there, and by the next
// process. One that is half open, unanswered or closed is not.
func TestQuietFlowsAreCarried(t *testing.T) {
	w := newOpenWorld(t)
	routed := w.flows[:0]
	for _, f := range w.flows {
		if own := strings.Fields(f.name); own[1] != "c1" && own[1] != "c2" && own[1] != "host1" {
			routed = append(routed, f)
		}
	}
	w.flows = routed
	rows := len(routed) + len(Families) // of a connection that is half closed one side is in flows
	early := len(Families)
	for _, f := range routed {
		var l header.Layers
		if header.Parse(f.frame, &l) && l.Tuple.Proto == header.ProtoTCP {
			early++
		}
	}
	for _, f := range Families {
		for port, flags := range map[uint16]uint8{7000: SYN, 7001: ACK} {
			w.Send("c3", f.From("c3", port, f.At(f.World, 443), Packet{Proto: header.ProtoTCP, Flags: flags}))
		}
		w.Send("c3", f.Flow(header.ProtoUDP, "c3", 7000, f.At(f.World, 443)))
		w.Got("up")
	}
	quiet := func(when string, want int) {
		t.Helper()
		w.Switch.EnterOffers()
		if n := len(w.kernel.Keys); n != want {
			t.Errorf("%s: %d rows, want %d", when, n, want)
		}
		if err := w.Switch.CheckEntries(); err != nil {
			t.Errorf("%s: %v", when, err)
		}
	}
	w.Tock(1500 * time.Millisecond)
	quiet("young", early)
	w.Tock(time.Second)
	quiet("older", rows)
	for range 3 { // they become ready
		w.Tock(2 * time.Millisecond)
		quiet("again", rows)
	}
	for _, nobody := range []bool{false, true, false} {
		w.kernel.Nobody = nobody
		for _, f := range routed {
			if got, ok := w.carried(f); !ok || got != w.stages(f) {
				t.Errorf("%s: carried %v, nobody there %v", f.name, ok, nobody)
			}
		}
		if nobody {
			w.restart()
			quiet("after a start", rows)
		}
	}
}

// TestQuietFlowsFillWhatIsFree: quiet flows get a row while more than a quarter of the pairs is free.
// A container with many leaves as many as it has to others, and what takes turns has a row at once.
func TestQuietFlowsFillWhatIsFree(t *testing.T) {
	const pairs = 128
	l, maps := NewWithKernel(t, 4096, 2*pairs)
	begin := func(from string, flows int) {
		for i := range flows {
			l.Send(from, UDP(from, uint16(5000+i), World+":9999", "x"))
			l.Send("up", Inbound(header.ProtoUDP, World+":9999", See(t, l.Expect("up")).From(), 0, "y"))
			l.Expect(from)
		}
	}
	rows := func(from string) (n int) {
		for k := range maps.Keys {
			if k.Side == l.Ifindex(l.Port(from)) {
				n++
			}
		}
		return n
	}
	settle := func() {
		for range 4 {
			l.Advance(time.Second)
		}
	}
	begin("c1", 200)
	settle()
	if n := rows("c1"); n != 48 { // 128 - 48 = 80 free, 32 of them for others
		t.Errorf("one container has %d rows", n)
	}
	begin("c2", 20)
	begin("c3", 200)
	settle()
	if one, few, many := rows("c1"), rows("c2"), rows("c3"); one != 48 || few != 20 || many < 10 {
		t.Errorf("%d rows, %d and %d of others", one, few, many)
	}
	begin("c2", 200)
	settle()
	n := len(maps.Keys) / 2
	if n > pairs*3/4 {
		t.Errorf("%d pairs of %d are taken", n, pairs)
	}
	keys := fmt.Sprint(maps.Keys)
	settle()
	settle()
	if fmt.Sprint(maps.Keys) != keys {
		t.Error("quiet flows push each other out")
	}
	// The rest is for those that speak.
	for i := range 28 {
		l.Switch.OfferFrame(l.Port("c3"), UDP("c3", uint16(5150+i), World+":9999", "x"))
		l.Switch.EnterOffers()
	}
	there := 0
	for k := range maps.Keys {
		if p := k.Tuple().SrcPort; k.Side == l.Ifindex(l.Port("c3")) && p >= 5150 && p < 5178 {
			there++
		}
	}
	if there != 28 {
		t.Errorf("%d of 28 flows that speak have rows", there)
	}
	if err := l.Switch.CheckEntries(); err != nil {
		t.Error(err)
	}
}

// TestQuietFlowsComeInTurn: of many flows a sweep enters some, and the sweeps after it the rest.
func TestQuietFlowsComeInTurn(t *testing.T) {
	const flows = 2000
	l, maps := NewWithKernel(t, 4*flows, 8*flows)
	for i := range flows {
		l.Send("c1", UDP("c1", uint16(5000+i), World+":9999", "x"))
		l.Send("up", Inbound(header.ProtoUDP, World+":9999", See(t, l.Expect("up")).From(), 0, "y"))
		l.Expect("c1")
	}
	for i, want := range []int{0, 1024, 2000, 2000} {
		l.Advance(time.Second + 500*time.Millisecond)
		if n := len(maps.Keys) / 2; n != want {
			t.Errorf("%d flows after %d sweeps, want %d", n, i+1, want)
		}
	}
}
