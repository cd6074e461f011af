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

const web = World + ":80"

func TestMasqueradeOutAndBack(t *testing.T) {
	for _, proto := range []uint8{header.ProtoUDP, header.ProtoTCP} {
		t.Run(fmt.Sprint(proto), func(t *testing.T) {
			l := New(t)
			out := UDP("c1", 5000, web, "ping")
			if proto == header.ProtoTCP {
				out = TCP("c1", 5000, web, SYN, "")
			}
			l.Send("c1", out)
			got := See(t, l.Expect("up"))
			if got.EthDst != NextHopMAC || got.EthSrc != MAC("up") || got.TTL != 63 || got.To() != web {
				t.Errorf("sent %+v", got)
			}
			if got.Src.String() != HostAddr || got.SrcPort < 16384 {
				t.Errorf("left from %s, want %s with a port of the range", got.From(), HostAddr)
			}
			if !l.Claims.Test(1, proto, got.SrcPort) {
				t.Errorf("port %d is not claimed", got.SrcPort)
			}
			l.Send("up", Inbound(proto, web, got.From(), SYN|ACK, "pong"))
			back := See(t, l.Expect("c1"))
			if back.From() != web || back.To() != "10.1.0.11:5000" || back.EthSrc != MAC("host1") || back.EthDst != MAC("c1") {
				t.Errorf("came back as %+v", back)
			}
		})
	}
}

func TestN39PingHasAnIdentifierOfItsOwn(t *testing.T) {
	l := New(t)
	echo := func(c string) Seen {
		l.Send(c, Bytes(From(c, World, Packet{Src: Stations[c], Proto: header.ProtoICMP, Type: 8, ID: 7, Payload: []byte("data")})))
		return See(t, l.Expect("up"))
	}
	a, b := echo("c1"), echo("c2")
	if a.SrcPort == b.SrcPort {
		t.Fatalf("both pings left with identifier %d", a.SrcPort)
	}
	l.Send("up", Bytes(Packet{EthSrc: NextHopMAC, EthDst: MAC("up"), Src: World, Dst: HostAddr, Proto: header.ProtoICMP, Type: 0, ID: b.SrcPort, Payload: []byte("data")}))
	if back := See(t, l.Expect("c2")); back.DstPort != 7 {
		t.Errorf("reply has identifier %d, want 7", back.DstPort)
	}
	// There are as many as a sweep of a network takes.
	used := map[uint16]bool{a.SrcPort: true, b.SrcPort: true}
	for id := range uint16(2000) {
		l.Send("c3", Bytes(From("c3", World, Packet{Src: Stations["c3"], Proto: header.ProtoICMP, Type: 8, ID: id, Payload: []byte("data")})))
		got := See(t, l.Expect("up")).SrcPort
		if used[got] {
			t.Fatalf("identifier %d left twice", got)
		}
		used[got] = true
	}
}

func TestN01N03MappingIsEndpointIndependentAndNotShared(t *testing.T) {
	l := New(t)
	port := func(c string, dst string) uint16 {
		l.Send(c, UDP(c, 5000, dst, "x"))
		return See(t, l.Expect("up")).SrcPort
	}
	p := port("c1", web)
	if q := port("c1", World+":81"); q != p {
		t.Errorf("other port: left from %d, want %d", q, p)
	}
	if q := port("c1", "203.0.113.10:80"); q != p {
		t.Errorf("other host: left from %d, want %d", q, p)
	}
	if q := port("c2", web); q == p {
		t.Errorf("another container shares port %d", p)
	}
}

func TestN09FilteringIsAddressAndPortDependent(t *testing.T) {
	l := New(t)
	l.Send("c1", UDP("c1", 5000, web, "x"))
	e := See(t, l.Expect("up")).From()
	l.Send("up", Inbound(header.ProtoUDP, "203.0.113.10:80", e, 0, "other host"))
	l.Send("up", Inbound(header.ProtoUDP, World+":81", e, 0, "other port"))
	l.ExpectDrop("up", dataplane.DropUnclaimed, 2)
}

func TestPublishedPortShowsTheRealClient(t *testing.T) {
	for _, proto := range []uint8{header.ProtoUDP, header.ProtoTCP} {
		l := New(t)
		l.Publish(8080, "c1", 80)
		l.Send("up", Inbound(proto, World+":4000", HostAddr+":8080", SYN, "hello"))
		got := See(t, l.Expect("c1"))
		if got.From() != World+":4000" || got.To() != "10.1.0.11:80" || got.TTL != 63 {
			t.Errorf("c1 saw %+v", got)
		}
		answer := UDP("c1", 80, World+":4000", "hi")
		if proto == header.ProtoTCP {
			answer = TCP("c1", 80, World+":4000", SYN|ACK, "")
		}
		l.Send("c1", answer)
		if back := See(t, l.Expect("up")); back.From() != HostAddr+":8080" || back.To() != World+":4000" {
			t.Errorf("client saw %+v", back)
		}
	}
}

func TestRangeLeadsToRange(t *testing.T) {
	l := New(t)
	l.Config.Publish = []dataplane.PublishConfig{
		{Proto: header.ProtoTCP, HostFirst: 10000, HostLast: 60000, ContainerAddr: header.AddrFrom(netip.MustParseAddr("10.1.0.11")), ContainerFirst: 5000},
		// A specific address wins, whatever the order (CVE-2019-9946).
		{Proto: header.ProtoTCP, HostAddr: header.AddrFrom(netip.MustParseAddr(HostAddr)), HostFirst: 20000, HostLast: 20000, ContainerAddr: header.AddrFrom(netip.MustParseAddr("10.1.0.12")), ContainerFirst: 80},
	}
	l.Install()
	for _, tc := range []struct {
		port uint16
		at   string
		to   string
	}{
		{10000, "c1", "10.1.0.11:5000"}, {60000, "c1", "10.1.0.11:55000"}, {19999, "c1", "10.1.0.11:14999"},
		{20000, "c2", "10.1.0.12:80"},
	} {
		l.Send("up", Inbound(header.ProtoTCP, World+":4000", fmt.Sprintf("%s:%d", HostAddr, tc.port), SYN, ""))
		if got := See(t, l.Expect(tc.at)); got.To() != tc.to {
			t.Errorf("port %d led to %s, want %s", tc.port, got.To(), tc.to)
		}
	}
	for _, port := range []int{9999, 60001} {
		l.Send("up", Inbound(header.ProtoTCP, World+":4000", fmt.Sprintf("%s:%d", HostAddr, port), SYN, ""))
	}
	l.ExpectDrop("up", dataplane.DropUnclaimed, 2)
}

func TestN10Hairpin(t *testing.T) {
	for _, proto := range []uint8{header.ProtoUDP, header.ProtoTCP} {
		for _, host := range []string{HostAddr, "10.1.0.1", "10.2.0.1"} {
			for _, client := range []string{"c2", "c1", "c4"} { // same network, itself, another network
				t.Run(fmt.Sprintf("%d %s from %s", proto, host, client), func(t *testing.T) {
					l := New(t)
					l.Publish(8080, "c1", 80)
					packet := func(c string, sport uint16, dst string, flags uint8) []byte {
						if proto == header.ProtoTCP {
							return TCP(c, sport, dst, flags, "")
						}
						return UDP(c, sport, dst, "x")
					}
					l.Send(client, packet(client, 5000, host+":8080", SYN))
					got := See(t, l.Expect("c1"))
					if got.Src.String() != host || got.SrcPort < 16384 || got.To() != "10.1.0.11:80" {
						t.Fatalf("c1 saw %s -> %s, want the host's address as source", got.From(), got.To())
					}
					l.Send("c1", packet("c1", 80, got.From(), SYN|ACK))
					back := See(t, l.Expect(client))
					if back.From() != host+":8080" || back.To() != Stations[client]+":5000" {
						t.Errorf("%s saw %s -> %s", client, back.From(), back.To())
					}
				})
			}
		}
	}
}

func TestL15OtherNetworksAreUnreachable(t *testing.T) {
	l := New(t)
	l.Publish(8080, "c1", 80)
	l.Send("c1", UDP("c1", 5000, "10.2.0.11:80", "x"))
	if got := l.Got("c4"); len(got) != 0 {
		t.Fatalf("c4 got %s", Describe(got[0]))
	}
	if n := l.Dropped("c1", dataplane.DropIsolated); n != 1 {
		t.Errorf("%d drops, want 1", n)
	}
	if got := See(t, l.Expect("c1")); got.Proto != header.ProtoICMP || got.Src.String() != "10.1.0.1" {
		t.Errorf("c1 was told %+v, want an ICMP error of its gateway", got)
	}
	// The answer of a container that never was asked.
	l.Send("c4", TCP("c4", 80, "10.1.0.11:5000", SYN|ACK, ""))
	if n := l.Dropped("c4", dataplane.DropIsolated); n != 1 {
		t.Errorf("%d drops, want 1", n)
	}
}

func TestInternalNetworkHasNoWayOutButPublishes(t *testing.T) {
	l := New(t)
	l.Send("c5", UDP("c5", 5000, web, "x"))
	if n := l.Dropped("c5", dataplane.DropInternal); n != 1 {
		t.Errorf("%d drops, want 1; %s", n, l.Drops())
	}
	if got := See(t, l.Expect("c5")); got.Proto != header.ProtoICMP {
		t.Errorf("c5 was told %+v", got)
	}
	l.Publish(8080, "c5", 80)
	l.Send("up", Inbound(header.ProtoTCP, World+":4000", HostAddr+":8080", SYN, ""))
	l.Expect("c5")
	l.Send("c5", TCP("c5", 80, World+":4000", SYN|ACK, ""))
	l.Expect("up")
}

func TestHostsOwnServiceIsReached(t *testing.T) {
	l := New(t)
	for _, dst := range []string{"10.1.0.1:53", HostAddr + ":22", "10.2.0.1:53"} {
		f := UDP("c1", 5000, dst, "x")
		l.Send("c1", f)
		if got := See(t, l.Expect("host1")); got.To() != dst || got.From() != "10.1.0.11:5000" || got.TTL != 64 {
			t.Errorf("host saw %+v", got)
		}
	}
}

func TestWaitsForTheNextHop(t *testing.T) {
	l := New(t)
	l.Switch.SetNeighbors(nil)
	for i := range 3 {
		l.Send("c1", UDP("c1", 5000, web, fmt.Sprint("packet ", i)))
	}
	l.ExpectNothing()
	l.Neighbor(NextHop, NextHopMAC)
	for l.Switch.Step() > 0 {
	}
	got := l.Got("up")
	if len(got) != 3 {
		t.Fatalf("%d packets went on, want the 3 that waited; %s", len(got), l.Drops())
	}
	for i, f := range got {
		if s := See(t, f); s.Payload != fmt.Sprint("packet ", i) {
			t.Errorf("packet %d is %q", i, s.Payload)
		}
	}
}

func TestNextHopOnTheLinkIsTheDestination(t *testing.T) {
	l := New(t)
	there := header.MAC{2, 0, 0, 0, 9, 50}
	l.Neighbor("198.51.100.50", there)
	l.Send("c1", UDP("c1", 5000, "198.51.100.50:53", "x"))
	if got := See(t, l.Expect("up")); got.EthDst != there {
		t.Errorf("sent to %s, want %s", got.EthDst, there)
	}
}

func TestN06UDPTimers(t *testing.T) {
	l := New(t)
	out := func() string {
		l.Send("c1", UDP("c1", 5000, web, "x"))
		return See(t, l.Expect("up")).From()
	}
	e := out()
	l.Advance(119 * time.Second)
	l.Send("up", Inbound(header.ProtoUDP, web, e, 0, "just in time"))
	l.Expect("c1")
	l.Advance(299 * time.Second) // both directions were seen: five minutes
	l.Send("up", Inbound(header.ProtoUDP, web, e, 0, "again"))
	l.Expect("c1")
	l.Advance(301 * time.Second)
	l.Send("up", Inbound(header.ProtoUDP, web, e, 0, "too late"))
	l.ExpectDrop("up", dataplane.DropUnclaimed, 1)
	if p := netip.MustParseAddrPort(e).Port(); l.Claims.Test(1, header.ProtoUDP, p) {
		t.Errorf("port %d is still claimed", p)
	}
}

func TestN24TCPTimers(t *testing.T) {
	l := New(t)
	l.Send("c1", TCP("c1", 5000, web, SYN, ""))
	e := See(t, l.Expect("up")).From()
	l.Send("up", Inbound(header.ProtoTCP, web, e, SYN|ACK, ""))
	l.Expect("c1")
	l.Send("c1", Bytes(From("c1", web, Packet{Src: Stations["c1"] + ":5000", Proto: header.ProtoTCP, Flags: ACK, Seq: 1, Ack: 1})))
	l.Expect("up")
	l.Advance(7440 * time.Second)
	l.Send("c1", TCP("c1", 5000, web, ACK, "still here"))
	if got := See(t, l.Expect("up")).From(); got != e {
		t.Errorf("an established flow moved from %s to %s", e, got)
	}
	l.Send("c1", TCP("c1", 5000, web, FIN|ACK, ""))
	l.Expect("up")
	l.Advance(time.Hour) // half closed: data may still come
	l.Send("up", Inbound(header.ProtoTCP, web, e, ACK, "late data"))
	l.Expect("c1")
	l.Send("up", Inbound(header.ProtoTCP, web, e, FIN|ACK, ""))
	l.Expect("c1")
	l.Advance(239 * time.Second)
	if n := len(l.Switch.Conns()); n != 1 {
		t.Errorf("%d flows 239 s after both FINs, want 1", n)
	}
	l.Advance(2 * time.Second)
	if n := len(l.Switch.Conns()); n != 0 {
		t.Errorf("%d flows 241 s after both FINs, want none", n)
	}
}

func TestN80PortsRunOut(t *testing.T) {
	l := New(t)
	l.Config.MasqueradePorts = []conntrack.PortRange{{First: 61010, Last: 61019}, {First: 20000, Last: 20004}}
	l.Config.Publish = []dataplane.PublishConfig{{Proto: header.ProtoUDP, HostFirst: 61015, HostLast: 61016, ContainerAddr: header.AddrFrom(netip.MustParseAddr("10.1.0.12")), ContainerFirst: 80}}
	l.Install()
	busy := new(conntrack.BusyPorts)
	busy.Set(header.ProtoUDP, 20003)
	l.Switch.SetBusyPorts(busy)
	used := map[uint16]bool{}
	for i := range 12 { // 15 less 2 published, less 1 busy
		l.Send("c1", UDP("c1", uint16(5000+i), web, "x"))
		p := See(t, l.Expect("up")).SrcPort
		if used[p] || p == 61015 || p == 61016 || p == 20003 || (p < 61010 || p > 61019) && (p < 20000 || p > 20004) {
			t.Errorf("port %d was given", p)
		}
		used[p] = true
		l.Send("up", Inbound(header.ProtoUDP, web, fmt.Sprintf("%s:%d", HostAddr, p), 0, "answered"))
		l.Expect("c1")
	}
	l.Send("c1", UDP("c1", 6000, web, "x"))
	if n := l.Dropped("c1", dataplane.DropPortsExhausted); n != 1 {
		t.Errorf("%d drops, want 1; %s", n, l.Drops())
	}
}

func TestMidStreamSegments(t *testing.T) {
	l := New(t)
	l.Publish(8080, "c1", 80)
	// After a restart of the switch: data of a flow it never saw begin.
	l.Send("up", Inbound(header.ProtoTCP, World+":4000", HostAddr+":8080", ACK, "data"))
	l.Expect("c1")
	for _, flags := range []uint8{RST, RST | ACK, SYN | ACK} {
		l.Send("c1", TCP("c1", 7000, web, flags, ""))
	}
	l.ExpectDrop("c1", dataplane.DropInvalidState, 3)
}

func TestFlush(t *testing.T) {
	l := New(t)
	l.Send("c1", UDP("c1", 5000, web, "x"))
	l.Send("c2", UDP("c2", 5000, web, "x"))
	p := See(t, l.Got("up")[0]).SrcPort
	n := l.Switch.FlushConns(conntrack.Selector{Ports: []frame.PortID{l.Port("c1")}})
	if n != 1 || len(l.Switch.Conns()) != 1 {
		t.Errorf("flushed %d, left %d, want 1 and 1", n, len(l.Switch.Conns()))
	}
	if l.Claims.Test(1, header.ProtoUDP, p) {
		t.Errorf("port %d is still claimed", p)
	}
}
