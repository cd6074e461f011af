package dataplane_test

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/vswitch/vswitch/control/policy"
	"github.com/vswitch/vswitch/dataplane"
	"github.com/vswitch/vswitch/dataplane/conntrack"
	"github.com/vswitch/vswitch/dataplane/frame"
	"github.com/vswitch/vswitch/dataplane/header"
	. "github.com/vswitch/vswitch/dataplane/switchtest"
	"github.com/vswitch/vswitch/internal/netlab/labtest"
)

var none frame.Offload

var portProtos = []uint8{header.ProtoUDP, header.ProtoTCP}

// firstPacket is the first packet of a flow from a container.
func firstPacket(proto uint8, c string, sport uint16, dst string) []byte {
	if proto == header.ProtoTCP {
		return TCP(c, sport, dst, SYN, "")
	}
	return UDP(c, sport, dst, "x")
}

// outPort opens a flow and returns the port it left from.
func outPort(l *Lab, proto uint8, c string, sport uint16, dst string) uint16 {
	l.T.Helper()
	l.Send(c, firstPacket(proto, c, sport, dst))
	got := l.Got("up")
	if len(got) != 1 {
		l.T.Fatalf("%s from %d: %d frames left; drops: %s", c, sport, len(got), l.Drops())
	}
	return See(l.T, got[0]).SrcPort
}

// eachNetwork changes every network.
func eachNetwork(l *Lab, change func(*dataplane.NetworkConfig)) {
	for i := range l.Config.Networks {
		change(&l.Config.Networks[i])
	}
	l.Install()
}

// eachPolicy changes what every network says of its containers.
func eachPolicy(l *Lab, change func(*policy.Network)) {
	for i := range l.Policy {
		change(&l.Policy[i])
	}
	l.Install()
}

// scaled is n, or a twentieth of it under the race detector.
func scaled(n int) int {
	if labtest.UnderRace {
		return n / 20
	}
	return n
}

// wholeOnly skips a test whose numbers cannot be scaled.
func wholeOnly(t *testing.T) {
	if labtest.UnderRace {
		labtest.Racing.Skip(t, "one goroutine and a hundred thousand flows")
	}
}

// noQuota lifts the quotas, where a test is about something else.
func noQuota(l *Lab) {
	for i := range l.Config.Ports {
		l.Config.Ports[i].Quota = conntrack.Quota{Flows: -1, Rate: -1}
	}
	l.Install()
}

// RFC 5382 REQ-1, RFC 7857 section 5: endpoint-independent mapping for TCP too,
// and for each protocol by itself.
func TestN20N65TCPMappingIsEndpointIndependentAndItsOwn(t *testing.T) {
	l := New(t)
	p := outPort(l, header.ProtoTCP, "c1", 5000, web)
	for _, dst := range []string{World + ":81", "203.0.113.10:80"} {
		if q := outPort(l, header.ProtoTCP, "c1", 5000, dst); q != p {
			t.Errorf("%s: left from %d, want %d", dst, q, p)
		}
	}
	l.Send("up", Inbound(header.ProtoUDP, web, fmt.Sprintf("%s:%d", HostAddr, p), 0, "x"))
	l.ExpectDrop("up", dataplane.DropUnclaimed, 1)
	if l.Claims.Test(1, header.ProtoUDP, p) {
		t.Errorf("the TCP mapping claims UDP port %d", p)
	}
}

// RFC 4787 REQ-3, RFC 5382 REQ-7, RFC 7857 section 3: two endpoints never share
// a port, be their destinations the same or not; 10,000 pairs, each answer to
// the right one.
func TestN03N26N63NoPortOverloading(t *testing.T) {
	for _, proto := range portProtos {
		l := NewSized(t, 1<<16, nil)
		noQuota(l)
		pairs := scaled(10_000)
		owner := map[uint16]string{}
		inside := map[uint16]uint16{}
		for i := range uint16(pairs) {
			for _, c := range []string{"c1", "c2"} {
				dst := web
				if c == "c2" && i%2 == 1 {
					dst = "203.0.113.10:80"
				}
				q := outPort(l, proto, c, 5000+i, dst)
				if who, ok := owner[q]; ok {
					t.Fatalf("port %d of %s was given to %s", q, who, c)
				}
				owner[q], inside[q] = c, 5000+i
			}
		}
		for q, c := range owner {
			from := web
			if c == "c2" && inside[q]%2 == 1 {
				from = "203.0.113.10:80"
			}
			l.Send("up", Inbound(proto, from, fmt.Sprintf("%s:%d", HostAddr, q), SYN|ACK, "x"))
			got := l.Got(c)
			if len(got) != 1 || See(t, got[0]).DstPort != inside[q] {
				t.Fatalf("an answer to port %d did not come to %s; drops: %s", q, c, l.Drops())
			}
		}
		l.ExpectNothing()
	}
}

// RFC 4787 REQ-3 a: a port below 1024 stays below, where the ranges have such
// ports, and no other gets there.
func TestN04PortClassIsKept(t *testing.T) {
	for _, proto := range portProtos {
		l := New(t)
		l.Config.MasqueradePorts = []conntrack.PortRange{{First: 0, Last: 1100}, {First: 61000, Last: 61999}}
		l.Install()
		for i := range uint16(200) {
			if q := outPort(l, proto, "c1", 500+i, web); q == 0 || q > 1023 {
				t.Errorf("port %d left from %d", 500+i, q)
			}
			if q := outPort(l, proto, "c1", 40000+i, web); q < 1024 {
				t.Errorf("port %d left from %d", 40000+i, q)
			}
		}
		l = New(t) // its ranges have no privileged ports
		if q := outPort(l, proto, "c1", 500, web); q < 1024 {
			t.Errorf("left from %d, which is in no range", q)
		}
	}
}

// RFC 4787 REQ-6: a packet out refreshes; packets in do so for an hour without
// one at most.
func TestN07Refresh(t *testing.T) {
	l := New(t)
	p := outPort(l, header.ProtoUDP, "c1", 5000, web)
	for range 5 {
		l.Advance(119 * time.Second)
		if q := outPort(l, header.ProtoUDP, "c1", 5000, web); q != p {
			t.Fatalf("moved from %d to %d", p, q)
		}
	}
	e := fmt.Sprintf("%s:%d", HostAddr, p)
	for n := 1; n <= 100; n++ {
		l.Advance(time.Minute)
		l.Send("up", Inbound(header.ProtoUDP, web, e, 0, "x"))
		switch got := len(l.Got("c1")); {
		case n < 60 && got != 1:
			t.Fatalf("packet %d from outside did not arrive", n)
		case n > 60 && got != 0:
			t.Fatalf("%d minutes without a packet from inside, and one from outside arrives", n)
		}
	}
}

// RFC 6888 REQ-8: a UDP port that was open to strangers rests 120 s before it is
// another's, also after the switch has lost its memory; ports with filtering by
// address and port, and those of tracked TCP, may be reused at once.
func TestN77FreedPortsRest(t *testing.T) {
	four := func(filter policy.Filter) *Lab {
		l := New(t)
		l.Config.MasqueradePorts = []conntrack.PortRange{{First: 61000, Last: 61003}}
		eachPolicy(l, func(n *policy.Network) { n.Filter = filter })
		l.Advance(121 * time.Second)
		return l
	}
	for _, tc := range []struct {
		proto  uint8
		filter policy.Filter
		free   int
	}{
		{header.ProtoUDP, policy.FilterEIF, 3},
		{header.ProtoUDP, policy.FilterAPDF, 4},
		{header.ProtoTCP, policy.FilterEIF, 4},
	} {
		l := four(tc.filter)
		q := outPort(l, tc.proto, "c1", 5000, web)
		l.Switch.FlushConns(conntrack.Selector{})
		open := func() (n int, stale bool) {
			ports := map[uint16]bool{} // flows that nobody answers give theirs to the next
			for i := range uint16(5) {
				l.Send("c2", firstPacket(tc.proto, "c2", 7000+i, web))
			}
			for _, f := range l.Got("up") {
				ports[See(t, f).SrcPort] = true
			}
			l.Got("c2")
			return len(ports), ports[q]
		}
		l.Advance(119 * time.Second)
		if n, stale := open(); n != tc.free || stale != (tc.free == 4) {
			t.Errorf("%+v: %d ports free, %d among them: %v", tc, n, q, stale)
		}
		l.Switch.FlushConns(conntrack.Selector{})
		l.Advance(130 * time.Second)
		if n, _ := open(); n != 4 {
			t.Errorf("%+v: %d ports free after the rest", tc, n)
		}
	}
	// A switch that has just begun does not know whose ports those were.
	l := New(t)
	eachPolicy(l, func(n *policy.Network) { n.Filter = policy.FilterEIF })
	e := fmt.Sprintf("%s:%d", HostAddr, outPort(l, header.ProtoUDP, "c2", 5000, web))
	for range 3 {
		l.Send("up", Inbound(header.ProtoUDP, "203.0.113.10:80", e, 0, "for c1, who had this port"))
		l.ExpectNothing()
		l.Advance(39 * time.Second)
	}
}

// RFC 4787 REQ-2, RFC 7857 section 4, RFC 6888 REQ-2: all that a container sends
// by one route leaves from one address, whatever the protocol; when that has no
// port left, the flow is refused and not moved to another.
func TestN02N64N71PairedAddress(t *testing.T) {
	l := twoAddresses(t)
	for i := range uint16(50) {
		for _, f := range [][]byte{
			UDP("c1", 5000+i, web, "x"), TCP("c1", 5000+i, web, SYN, ""),
			Bytes(From("c1", World, Packet{Src: "10.1.0.11", Proto: header.ProtoICMP, Type: 8, ID: i})),
		} {
			l.Send("c1", f)
			got := See(t, l.Expect("up"))
			if got.Src.String() != HostAddr {
				t.Fatalf("left from %s", got.Src)
			}
			if got.Proto == header.ProtoUDP {
				l.Send("up", Inbound(header.ProtoUDP, web, got.From(), 0, "answered"))
				l.Expect("c1")
			}
		}
	}
	l.Send("c1", UDP("c1", 6000, web, "one too many"))
	if n := l.Dropped("c1", dataplane.DropPortsExhausted); n != 1 || len(l.Got("up")) != 0 {
		t.Errorf("%d drops, want 1; %s", n, l.Drops())
	}
}

// RFC 6888 REQ-3: the host's addresses need not be neighbours.
func TestN72AnyPoolOfAddresses(t *testing.T) {
	l := twoAddresses(t)
	for dst, want := range map[string]string{web: HostAddr, "192.0.2.7:80": "198.51.100.77"} {
		l.Send("c1", UDP("c1", 5000, dst, "x"))
		got := See(t, l.Expect("up"))
		if got.Src.String() != want {
			t.Errorf("to %s left from %s, want %s", dst, got.Src, want)
		}
		l.Send("up", Inbound(header.ProtoUDP, dst, got.From(), 0, "x"))
		l.Expect("c1")
	}
}

// twoAddresses is a Lab whose host has a second address, which the route to
// 192.0.2.0/24 uses, and 50 ports on each.
func twoAddresses(t *testing.T) *Lab {
	l := New(t)
	e2 := netip.MustParseAddr("198.51.100.77")
	l.Config.Uplinks[0].Slots[e2] = 2
	l.Config.Routes = append(l.Config.Routes,
		dataplane.RouteConfig{Prefix: netip.MustParsePrefix("198.51.100.77/32"), Kind: dataplane.RouteLocal},
		dataplane.RouteConfig{
			Prefix: netip.MustParsePrefix("192.0.2.0/24"), Kind: dataplane.RouteUplink,
			Uplink: l.Port("up"), Via: netip.MustParseAddr(NextHop), Source: e2,
		})
	l.Config.MasqueradePorts = []conntrack.PortRange{{First: 61000, Last: 61049}}
	l.Install()
	return l
}

// RFC 4787 REQ-4, RFC 7857 section 8: parity is not kept, as masquerade's
// documentation says; a sequence of ports inside tells nothing about those
// outside.
func TestN05ParityIsOff(t *testing.T) {
	l := New(t)
	odd := 0
	for i := range uint16(100) {
		odd += int(outPort(l, header.ProtoUDP, "c1", 5000+2*i, web) & 1)
	}
	if odd < 20 || odd > 80 {
		t.Errorf("%d of 100 even ports left from an odd one", odd)
	}
}
