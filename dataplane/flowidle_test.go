package dataplane_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/vswitch/vswitch/dataplane/conntrack"
	"github.com/vswitch/vswitch/dataplane/flowmap"
	"github.com/vswitch/vswitch/dataplane/flowmap/flowtest"
	"github.com/vswitch/vswitch/dataplane/header"
	. "github.com/vswitch/vswitch/dataplane/switchtest"
)

// jiffiesOf is how many of flowtest's jiffies a time has.
func jiffiesOf(d time.Duration) uint64 { return uint64(d / (4 * time.Millisecond)) }

// TestQuietFlowsStayCarried: a flow of every kind that is silent for almost as long as conntrack
// allows is carried by the next process, and while nobody is there; one that is silent for longer is
// dead, whether somebody has removed it or not.
func TestQuietFlowsStayCarried(t *testing.T) {
	const day = 24 * time.Hour
	for _, way := range []string{"the switch removes", "nobody is there", "the next process finds"} {
		w := newCarriedWorld(t)
		carried := func(nobody bool, want func(tcp, half bool) bool) {
			t.Helper()
			w.kernel.Nobody = nobody
			for _, f := range w.flows {
				var l header.Layers
				header.Parse(f.frame, &l)
				// Between stations a dead flow begins anew, by their rows.
				stations := strings.Contains(f.name, "c1 to c2") || strings.Contains(f.name, "c2 to c1") || strings.Contains(f.name, "host1 to c1")
				if _, ok := w.carried(f); ok != (stations || want(l.Tuple.Proto == header.ProtoTCP, strings.Contains(f.name, "half closed"))) {
					t.Errorf("%s: %s: carried %v, nobody there %v", way, f.name, ok, nobody)
				}
			}
			w.kernel.Nobody = false
			w.Tock(time.Second)
		}
		all := func(tcp, half bool) bool { return true }
		carried(false, all)
		for _, c := range []struct {
			quiet time.Duration
			want  func(tcp, half bool) bool
		}{
			{299 * time.Second, all},
			{301 * time.Second, func(tcp, half bool) bool { return tcp }},
			{7439 * time.Second, func(tcp, half bool) bool { return tcp }},
			{7441 * time.Second, func(tcp, half bool) bool { return tcp && !half }},
			{day - 5*time.Second, func(tcp, half bool) bool { return tcp && !half }},
			{day + 5*time.Second, func(tcp, half bool) bool { return false }},
		} {
			flows := len(tracked(w.Switch))
			if now := w.kernel.Jiffies; way == "the switch removes" {
				w.Tock(c.quiet - time.Second)
			} else { // for the kernel's side alone
				w.kernel.Jiffies = func() uint64 { return now() + jiffiesOf(c.quiet-time.Second) }
			}
			if way == "nobody is there" {
				carried(true, c.want)
			}
			w.restart()
			carried(true, c.want)
			carried(false, c.want)
			if n := len(tracked(w.Switch)); c.quiet < 300*time.Second && n != flows {
				t.Errorf("%s: after %v %d flows of %d", way, c.quiet, n, flows)
			}
			if err := w.Switch.CheckEntries(); err != nil {
				t.Error(err)
			}
		}
		if n := len(tracked(w.Switch)); n != 0 || len(w.kernel.Keys) != 0 {
			t.Errorf("%s: %d flows and %d rows at the end", way, n, len(w.kernel.Keys))
		}
	}
}

// TestOneDirectionKeepsTheOther: a flow of which one side alone sends is alive for the other, too.
func TestOneDirectionKeepsTheOther(t *testing.T) {
	w := newCarriedWorld(t)
	for _, f := range w.flows {
		w.carried(f)
	}
	for range 3 {
		w.Tock(200 * time.Second)
		for _, f := range w.flows {
			if !strings.Contains(f.name, "back") && !strings.HasPrefix(f.name, "c2 to c1") {
				w.carried(f)
			}
		}
	}
	for _, f := range w.flows {
		if strings.Contains(f.name, "back") && !strings.Contains(f.name, "half closed") {
			if _, ok := w.carried(f); !ok {
				t.Errorf("%s is not carried", f.name)
			}
		}
	}
	// The sweep of conntrack hears of what was carried since the rows were read.
	n := len(w.Switch.Conns())
	w.Tock(400 * time.Second)
	if got := len(w.Switch.Conns()); got != n {
		t.Errorf("%d flows of %d", got, n)
	}
}

// TestTimeoutsOfRows: a row has the timeout of its flow's state, also after a change of either.
func TestTimeoutsOfRows(t *testing.T) {
	l, maps := newFlowLab(t)
	timeouts := func(want ...time.Duration) {
		t.Helper()
		rows := l.Switch.EnterOffers()
		if len(rows) != len(want) {
			t.Fatalf("%d rows", len(rows))
		}
		for _, m := range rows {
			i := 0
			if m.Key.Dst == header.AddrFrom(netip.MustParseAddr("10.1.0.12")) {
				i = 1
			}
			if uint64(m.Timeout) != jiffiesOf(want[i]) {
				t.Errorf("%v: a timeout of %d jiffies, want %v", m.Key.Tuple(), m.Timeout, want[i])
			}
		}
	}
	out := UDP("c1", 5000, World+":9999", "x")
	l.Send("c1", out)
	e := See(t, l.Expect("up"))
	l.Switch.OfferFrame(l.Port("c1"), out)
	chat(l, 24)
	timeouts(120*time.Second, 300*time.Second)
	l.Send("up", Inbound(header.ProtoUDP, World+":9999", e.From(), 0, "y"))
	l.Expect("c1")
	timeouts(300*time.Second, 300*time.Second)
	l.Config.Timeouts.UDP = time.Minute
	l.Install()
	timeouts(time.Minute, time.Minute)
	l.Restart(maps)
	l.Neighbor(NextHop, NextHopMAC)
	if kept, ended := l.Switch.TakeOver(); kept != 2 || ended != 0 {
		t.Errorf("%d rows kept, %d ended", kept, ended)
	}
	timeouts(time.Minute, time.Minute)
}

// TestIdleRowsGiveWay: while less than a quarter of the pairs is free, the container with most rows
// gives those that were idle for longest, and none that is in use.
func TestIdleRowsGiveWay(t *testing.T) {
	const pairs = 128
	l, maps := NewWithKernel(t, 4096, 2*pairs)
	offer := func(from string, port int) flowmap.Key {
		l.Switch.OfferFrame(l.Port(from), Bytes(Packet{
			EthSrc: MAC(from), EthDst: MAC("c3"), Proto: header.ProtoUDP, Payload: []byte("x"),
			Src: fmt.Sprintf("%s:%d", Stations[from], port), Dst: Stations["c3"] + ":7",
		}))
		l.Switch.EnterOffers()
		return flowmap.Key{Side: l.Ifindex(l.Port(from)), Proto: header.ProtoUDP, Src: header.AddrFrom(netip.MustParseAddr(Stations[from])), Dst: header.AddrFrom(netip.MustParseAddr(Stations["c3"])), Ports: [4]byte{byte(port >> 8), byte(port), 0, 7}}
	}
	var few, many []flowmap.Key
	for i := range 10 {
		few = append(few, offer("c1", 2000+i))
	}
	for i := range 100 {
		many = append(many, offer("c2", 1000+i))
	}
	use := func(keys []flowmap.Key) {
		for _, k := range keys {
			m := &maps.Rows[maps.Keys[k]]
			m.Packets++
			m.LastUse = maps.Jiffies()
		}
	}
	there := func(keys []flowmap.Key) (n int) {
		for _, k := range keys {
			if _, ok := maps.Keys[k]; ok {
				n++
			}
		}
		return n
	}
	for range 10 {
		use(many)
		l.Advance(time.Second)
	}
	if n := there(many); n != 100 {
		t.Errorf("%d of 100 rows that are in use", n)
	}
	for range 10 {
		use(many[:80])
		l.Advance(time.Second)
	}
	if n, kept, idle := there(many), there(many[:80]), there(few); n != 86 || kept != 80 || idle != 10 {
		t.Errorf("%d rows, %d in use, and %d of another, want 86, 80 and 10: a quarter is free", n, kept, idle)
	}
	if err := l.Switch.CheckEntries(); err != nil {
		t.Error(err)
	}
}

// TestClosedConnectionsLeave: the row of a bridged connection, which nobody tracks, goes when both
// sides have ended it or one has reset it.
func TestClosedConnectionsLeave(t *testing.T) {
	for name, ends := range map[string][][2]uint8{ // flags of c1, of c2
		"FIN":       {{FIN | ACK, 0}, {0, FIN | ACK}},
		"RST":       {{0, RST}},
		"FIN, RST":  {{FIN | ACK, 0}, {0, RST | ACK}},
		"by itself": {},
	} {
		l, maps := newFlowLab(t)
		segment := func(from, to string, flags uint8) []byte {
			return Bytes(Packet{EthSrc: MAC(from), EthDst: MAC(to), Src: Stations[from] + ":5000", Dst: Stations[to] + ":5000", Proto: header.ProtoTCP, Flags: flags})
		}
		for range 24 {
			l.Send("c1", segment("c1", "c2", ACK))
			l.Expect("c2")
			l.Send("c2", segment("c2", "c1", ACK))
			l.Expect("c1")
		}
		l.Switch.EnterOffers()
		maps.Activate()
		meet := func(from, to string, flags uint8) {
			if m := maps.Meet(flowtest.Cable, l.Ifindex(l.Port(from)), true, segment(from, to, flags), 0); m.Out == 0 {
				t.Errorf("%s: not carried", name)
			}
		}
		for i, e := range ends {
			if e[0] != 0 {
				meet("c1", "c2", e[0])
			}
			if e[1] != 0 {
				meet("c2", "c1", e[1])
			}
			l.Advance(time.Second)
			l.Advance(6 * time.Second)
			if last := i == len(ends)-1; (len(maps.Keys) == 0) != last {
				t.Errorf("%s: %d rows after %d ends", name, len(maps.Keys), i+1)
			}
		}
		if len(ends) > 0 {
			continue
		}
		meet("c1", "c2", ACK)
		l.Advance(time.Second)
		l.Advance(time.Hour)
		if len(maps.Keys) != 2 {
			t.Errorf("%d rows after an hour", len(maps.Keys))
		}
		// It has been forgotten by who tells of flows, and is told again.
		if f := l.Switch.Flows(); len(f) != 0 {
			t.Errorf("%+v", f)
		}
		meet("c2", "c1", ACK)
		l.Advance(time.Second)
		if f := l.Switch.Flows(); len(f) != 1 || f[0].Kind != conntrack.KindBridged || f[0].Port != l.Port("c1") || f[0].Packets != [2]uint64{0, 1} {
			t.Errorf("%+v", f)
		}
	}
}
