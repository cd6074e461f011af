package dataplane_test

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/vswitch/vswitch/dataplane"
	"github.com/vswitch/vswitch/dataplane/conntrack"
	"github.com/vswitch/vswitch/dataplane/frame"
	"github.com/vswitch/vswitch/dataplane/header"
	. "github.com/vswitch/vswitch/dataplane/switchtest"
)

// establish opens n UDP flows of c3 and answers them.
func establish(t *testing.T, l *Lab, n int) {
	t.Helper()
	for i := range n {
		dst := fmt.Sprintf("203.0.113.%d:80", 20+i%64) // ports are shared by flows of one endpoint
		q := outPort(l, header.ProtoUDP, "c3", uint16(2000+i/64), dst)
		l.Send("up", Inbound(header.ProtoUDP, dst, fmt.Sprintf("%s:%d", HostAddr, q), 0, "x"))
		if len(l.Got("c3")) != 1 {
			t.Fatalf("flow %d was not answered; %s", i, l.Drops())
		}
	}
}

// RFC 4787 REQ-11: the same behaviour whatever the load.
func TestN12DeterministicUnderLoad(t *testing.T) {
	wholeOnly(t)
	for _, load := range []int{0, 2048, 4055} {
		l := New(t)
		noQuota(l)
		l.Config.MasqueradePorts = []conntrack.PortRange{{First: 61000, Last: 61066}}
		l.Install()
		establish(t, l, load)
		p := outPort(l, header.ProtoUDP, "c1", 5000, web)
		if q := outPort(l, header.ProtoUDP, "c1", 5000, "203.0.113.10:80"); q != p {
			t.Errorf("load %d: left from %d, then %d", load, p, q)
		}
		if q := outPort(l, header.ProtoUDP, "c2", 5000, web); q == p {
			t.Errorf("load %d: port %d shared", load, p)
		}
		l.Send("up", Inbound(header.ProtoUDP, World+":81", fmt.Sprintf("%s:%d", HostAddr, p), 0, "x"))
		l.ExpectDrop("up", dataplane.DropUnclaimed, 1)
	}
}

// RFC 6056, RFC 7857 section 9: the choice of ports is random. One key in a
// hundred looks as if it were not; three in a row do once in a million runs.
func TestN37N68PortsAreRandom(t *testing.T) {
	wholeOnly(t)
	for try := 1; ; try++ {
		chi, neighbours := spread(t)
		// 92.01 is the 99 % quantile for 63 degrees of freedom.
		if chi <= 92.01 && neighbours <= 8 {
			return
		}
		t.Logf("chi-square %.1f, %d neighbours in a row", chi, neighbours)
		if try == 3 {
			t.Fatal("the ports of three switches are not random")
		}
	}
}

// spread opens 10,000 flows and returns chi-square of their ports over 64
// buckets, and how many ports stand beside the one before.
func spread(t *testing.T) (chi float64, neighbours int) {
	t.Helper()
	l := NewSized(t, 1<<15, nil)
	noQuota(l)
	l.Config.MasqueradePorts = []conntrack.PortRange{{First: 16384, Last: 65535}}
	l.Install()
	const n, buckets = 10_000, 64
	const want = float64(n) / buckets
	var seen [buckets]float64
	last := uint16(0)
	for i := range uint16(n) {
		q := outPort(l, header.ProtoUDP, "c1", 5000+i, web)
		seen[(q-16384)/768]++
		if q == last+1 || q == last-1 {
			neighbours++
		}
		last = q
	}
	for _, s := range seen {
		chi += (s - want) * (s - want) / want
	}
	return chi, neighbours
}

// RFC 6888 REQ-13: every port of the ranges is used, 64,512 of an address that
// is the switch's alone and 36,280 beside the host's own range; then the flow
// is refused, and other protocols, peers and containers are not.
func TestN80F29EveryPortIsUsed(t *testing.T) {
	wholeOnly(t)
	for _, tc := range []struct {
		ranges []conntrack.PortRange
		want   int
	}{
		{[]conntrack.PortRange{{First: 1024, Last: 65535}}, 64512},
		{[]conntrack.PortRange{{First: 61000, Last: 65535}, {First: 1024, Last: 32767}}, 36280},
	} {
		l := NewSized(t, 1<<18, nil)
		l.Config.MasqueradePorts = tc.ranges
		noQuota(l)
		used := make(map[uint16]bool, tc.want)
		for i := range tc.want {
			c := []string{"c1", "c2"}[i&1]
			l.Memory(c).Inject(UDP(c, uint16(1024+i/2), web, ""), none)
			if i%1024 == 1023 || i == tc.want-1 {
				for l.Switch.Step() > 0 {
				}
				for _, f := range l.Got("up") {
					p := See(t, f).SrcPort
					used[p] = true
					l.Memory("up").Inject(Inbound(header.ProtoUDP, web, fmt.Sprintf("%s:%d", HostAddr, p), 0, "answered"), none)
				}
				for l.Switch.Step() > 0 {
				}
				l.Got("c1")
				l.Got("c2")
			}
		}
		for p := range used {
			if p < 1024 || tc.want == 36280 && p >= 32768 && p < 61000 {
				t.Errorf("port %d is in no range", p)
			}
		}
		if len(used) != tc.want {
			t.Errorf("%d ports were used, want %d; %s", len(used), tc.want, l.Drops())
		}
		l.Send("c1", UDP("c1", 1023, web, "one too many"))
		if n := l.Dropped("c1", dataplane.DropPortsExhausted); n != 1 || len(l.Got("up")) != 0 {
			t.Errorf("%d drops, want 1; %s", n, l.Drops())
		}
		l.Got("c1")
		if p := outPort(l, header.ProtoUDP, "c1", 1023, "203.0.113.10:80"); !used[p] {
			t.Errorf("one too many left from %d to another peer, want a port that is shared", p)
		}
		l.Send("c1", TCP("c1", 1024, web, SYN, ""))
		l.Expect("up")
		outPort(l, header.ProtoUDP, "c2", 1024, "203.0.113.10:80") // an endpoint that has its port
	}
}

// RFC 6888 REQ-4: a container that opens 100,000 flows gets what its quota
// says, and no other notices.
func TestN73QuotaOfFlowsAndTheirRate(t *testing.T) {
	wholeOnly(t)
	l := NewSized(t, 1<<18, nil)
	for i := range l.Config.Ports {
		l.Config.Ports[i].Quota = conntrack.Quota{Rate: 2000, Burst: 4000}
	}
	l.Install()
	opened, refused := 0, 0
	for sec := range 20 {
		for i := range 5000 {
			n := sec*5000 + i
			l.Memory("c2").Inject(UDP("c2", uint16(1024+n%50000), fmt.Sprintf("203.0.113.%d:80", 10+n/50000), ""), none)
		}
		for l.Switch.Step() > 0 {
		}
		new := len(l.Got("up"))
		if limit := []int{4000, 2000}[min(sec, 1)]; new > limit {
			t.Errorf("second %d: %d flows began, want %d at most", sec, new, limit)
		}
		opened += new
		refused += len(l.Got("c2"))
		for i := range 10 {
			outPort(l, header.ProtoTCP, "c1", uint16(3000+sec*10+i), web)
		}
		l.Advance(time.Second)
	}
	if opened != 16384 {
		t.Errorf("c2 opened %d flows, want 16384", opened)
	}
	if l.Dropped("c2", dataplane.DropQuota) == 0 || l.Dropped("c2", dataplane.DropFlowRate) == 0 || refused == 0 {
		t.Errorf("drops %s, %d errors told", l.Drops(), refused)
	}
	// As flows end, others may begin.
	l.Advance(121 * time.Second)
	outPort(l, header.ProtoUDP, "c2", 999, web)
}

// RFC 6888 REQ-4 b: the quota of a protocol is its own.
func TestN73QuotaPerProtocol(t *testing.T) {
	l := New(t)
	l.Configure("c2", func(p *dataplane.PortConfig) { p.Quota = conntrack.Quota{TCP: 3, UDP: 5, ICMP: 2} })
	for i := range uint16(10) {
		l.Send("c2", TCP("c2", 3000+i, web, SYN, ""))
		l.Send("c2", UDP("c2", 3000+i, web, ""))
		l.Send("c2", Bytes(From("c2", World, Packet{Src: "10.1.0.12", Proto: header.ProtoICMP, Type: 8, ID: i})))
	}
	got := map[uint8]int{}
	for _, f := range l.Got("up") {
		got[See(t, f).Proto]++
	}
	if got[header.ProtoTCP] != 3 || got[header.ProtoUDP] != 5 || got[header.ProtoICMP] != 2 {
		t.Errorf("flows by protocol %v, want 3, 5 and 2", got)
	}
}

// RFC 6888 REQ-11 with shares: a container that holds all of a full table, in use, begins no
// more, its sender and the operator are told, and none of its flows ends for that. To another
// container it gives, the idlest first.
func TestN47N88F30FullTableGivesToOthersOnly(t *testing.T) {
	wholeOnly(t)
	l := NewSized(t, 4096, nil)
	noQuota(l)
	assure(t, l, 4096)
	l.Send("c3", TCP("c3", 5000, web, SYN, ""))
	f := l.Expect("c3")
	if s := See(t, f); s.Proto != header.ProtoICMP || f[header.EthernetLen+20] != 3 || f[header.EthernetLen+21] != 1 {
		t.Errorf("c3 was told %s, want 3/1", Describe(f))
	}
	for i := range uint16(1000) {
		l.Send("c3", TCP("c3", 6000+i, web, SYN, ""))
	}
	if n := len(l.Got("c3")); n > 10 {
		t.Errorf("c3 was told %d times at once", n)
	}
	if n := l.Dropped("c3", dataplane.DropShare); n != 1001 {
		t.Errorf("%d drops, want 1001; %s", n, l.Drops())
	}
	l.Advance(time.Second)
	told := l.Refused
	if len(told) != 1 || told[0].TableFull != 1001 {
		t.Errorf("control was told %+v, want 1001 flows refused", told)
	}
	l.Advance(time.Second)
	told = l.Refused
	if len(told) != 1 {
		t.Errorf("control was told again without a cause: %+v", told)
	}
	if got := held(l, "c3"); got != 4096 {
		t.Fatalf("%d flows are left of 4096", got)
	}
	for i := range uint16(100) {
		outPort(l, header.ProtoTCP, "c1", 5000+i, web)
	}
	if got := held(l, "c3"); got != 3996 {
		t.Errorf("c3 has %d flows after 100 of c1, want 3996", got)
	}
	l.Advance(40 * time.Second)
	outPort(l, header.ProtoTCP, "c3", 7000, web) // its idlest gives, by now
}

// assure is establish of flows whose container has shown that it hears the answers.
func assure(t *testing.T, l *Lab, n int) {
	t.Helper()
	establish(t, l, n)
	l.Advance(3 * time.Second)
	for i := range n {
		l.Memory("c3").Inject(UDP("c3", uint16(2000+i/64), fmt.Sprintf("203.0.113.%d:80", 20+i%64), "again"), none)
	}
	for l.Switch.Step() > 0 {
	}
	l.Got("up")
}

// held counts the flows of a container.
func held(l *Lab, name string) (n int) {
	for _, c := range l.Switch.Conns() {
		if c.Port == l.Port(name) && !c.Closed {
			n++
		}
	}
	return n
}

// A flood of SYNs from everywhere to a published port takes nothing from flows that are
// there, and new ones come through, also of the same port.
func TestN88F30SYNFlood(t *testing.T) {
	wholeOnly(t)
	l := New(t)
	l.Publish(8080, "c1", 80)
	noQuota(l)
	establish(t, l, 1000)
	ok := 0
	for round := range 200 {
		for i := range 100 {
			n := round*100 + i
			l.Memory("up").Inject(Inbound(header.ProtoTCP, fmt.Sprintf("192.0.2.%d:%d", 1+n%250, 1024+n), HostAddr+":8080", SYN, ""), none)
		}
		for l.Switch.Step() > 0 {
		}
		// One who means it: the handshake ends a round later.
		client := fmt.Sprintf("%s:%d", World, 10000+round)
		l.Send("up", Inbound(header.ProtoTCP, client, HostAddr+":8080", SYN, ""))
		l.Got("c1")
		if round > 0 {
			last := fmt.Sprintf("%s:%d", World, 9999+round)
			l.Send("c1", TCP("c1", 80, last, SYN|ACK, ""))
			ok += len(l.Got("up"))
		}
	}
	if ok != 199 {
		t.Errorf("%d of 199 handshakes went on", ok)
	}
	if got := held(l, "c3"); got != 1000 {
		t.Errorf("%d established flows are left of 1000", got)
	}
	if l.Switch.Stats().Pressure.Evicted == 0 {
		t.Error("the flood pushed nothing out")
	}
}

// While the table is nearly full, SYNs without an answer are kept 30 s.
func TestN24OpeningTimerUnderPressure(t *testing.T) {
	l := New(t)
	noQuota(l)
	establish(t, l, 3300)
	outPort(l, header.ProtoTCP, "c1", 5000, web)
	l.Advance(31 * time.Second)
	for _, c := range l.Switch.Conns() {
		if c.State == "init" {
			t.Error("a SYN without an answer was kept in a full table")
		}
	}
}

// RFC 6888 REQ-5: fragments that never become packets take a bounded share, and
// whole packets and the fragments of others pass (RFC 4787 REQ-14 b).
func TestN15N74FragmentFlood(t *testing.T) {
	l := New(t)
	pieces := Fragment(UDP("c2", 5000, web, string(make([]byte, 3000))), 1480)
	good := Fragment(UDP("c1", 5000, web, string(make([]byte, 3000))), 1480)
	lost := 0
	for i := range 20_000 {
		f := pieces[1+i%2]
		f[header.EthernetLen+4], f[header.EthernetLen+5] = byte(i>>9), byte(i>>1)
		SumIPv4(f)
		l.Memory("c2").Inject(f, none)
		if i%100 != 99 {
			continue
		}
		l.Memory("c1").Inject(UDP("c1", 6000, web, "whole"), none)
		for j := range good {
			g := good[len(good)-1-j]
			g[header.EthernetLen+4], g[header.EthernetLen+5] = byte(i>>8), byte(i)
			SumIPv4(g)
			l.Memory("c1").Inject(g, none)
		}
		for l.Switch.Step() > 0 {
		}
		lost += 4 - len(l.Got("up"))
	}
	if lost != 0 {
		t.Errorf("%d frames of c1 were lost; %s", lost, l.Drops())
	}
	l.Advance(3 * time.Second)
	if n := l.Dropped("c2", dataplane.DropFragment) + l.Dropped("c2", dataplane.DropOverlap); n != 20_000 {
		t.Errorf("%d of 20000 fragments are counted as dropped; %s", n, l.Drops())
	}
}

// RFC 6888 REQ-9: flows are listed by container and ended by container.
func TestN79FlowsAreListedAndFlushed(t *testing.T) {
	l := New(t)
	l.Publish(8080, "c1", 80)
	outPort(l, header.ProtoTCP, "c1", 5000, web)
	outPort(l, header.ProtoUDP, "c2", 5000, web)
	l.Send("up", Inbound(header.ProtoTCP, World+":4000", HostAddr+":8080", SYN, ""))
	l.Expect("c1")
	kinds := map[string]int{}
	for _, c := range l.Switch.Conns() {
		kinds[fmt.Sprint(c.Kind, " ", c.Port == l.Port("c1"))]++
		if c.Packets != [2]uint64{1, 0} || c.Bytes[0] == 0 || c.Bytes[1] != 0 || c.Expires <= 0 || !netip.Addr.IsValid(c.Orig.Src.NetIP()) {
			t.Errorf("listed as %+v", c)
		}
	}
	if kinds["masquerade true"] != 1 || kinds["publish true"] != 1 || kinds["masquerade false"] != 1 {
		t.Errorf("listed %v", kinds)
	}
	if n := l.Switch.FlushConns(conntrack.Selector{Ports: []frame.PortID{l.Port("c1")}}); n != 2 || l.Switch.Stats().Conns != 1 {
		t.Errorf("flushed %d, left %d", n, l.Switch.Stats().Conns)
	}
}
