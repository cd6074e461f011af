package dataplane_test

import (
	"net/netip"
	"testing"

	"github.com/vswitch/vswitch/dataplane"
	"github.com/vswitch/vswitch/dataplane/header"
	. "github.com/vswitch/vswitch/dataplane/switchtest"
)

// A broadcast of the LAN to a UDP port that is published at every address reaches the
// container, and the answer comes from the host's address there, as of what is sent to that. Of TCP, of
// another port and of one that is published at an address alone nothing comes.
func TestBroadcastToAPublishedPort(t *testing.T) {
	const near = "198.51.100.50:4000"
	to := func(dst string) []byte {
		return Bytes(Packet{EthSrc: MAC("c3"), EthDst: header.Broadcast, Src: near, Dst: dst, Proto: header.ProtoUDP, Payload: []byte("who is there?")})
	}
	l := New(t)
	l.Config.Routes = append(l.Config.Routes, dataplane.RouteConfig{Prefix: netip.MustParsePrefix("198.51.100.255/32"), Kind: dataplane.RouteBroadcast})
	l.Publish(7359, "c1", 80)
	l.Config.Publish = append(l.Config.Publish, dataplane.PublishConfig{
		Proto: header.ProtoUDP, HostAddr: header.AddrFrom(netip.MustParseAddr(HostAddr)), HostFirst: 7360, HostLast: 7360,
		ContainerAddr: header.AddrFrom(netip.MustParseAddr(Stations["c1"])), ContainerFirst: 80,
	})
	l.Install()
	l.Neighbor("198.51.100.50", NextHopMAC)
	for _, dst := range []string{"255.255.255.255", "198.51.100.255", HostAddr} {
		f := to(dst + ":7359")
		if dst == HostAddr {
			f = Inbound(header.ProtoUDP, near, dst+":7359", 0, "who is there?")
		}
		l.Send("up", f)
		if got := See(t, l.Expect("c1")); got.From() != near || got.To() != "10.1.0.11:80" {
			t.Fatalf("to %s: c1 got %s -> %s", dst, got.From(), got.To())
		}
		l.Send("c1", UDP("c1", 80, near, "I am"))
		if got := See(t, l.Expect("up")); got.From() != HostAddr+":7359" || got.To() != near {
			t.Errorf("to %s: answered %s -> %s", dst, got.From(), got.To())
		}
	}
	if n := len(l.Switch.Conns()); n != 1 {
		t.Errorf("%d flows of one pair of ports", n)
	}
	for _, dst := range []string{"255.255.255.255:7360", "198.51.100.255:7360", "255.255.255.255:7361", "198.51.100.254:7359", "224.0.0.1:7359"} {
		l.Send("up", to(dst))
		l.ExpectNothing()
	}
	low := to("255.255.255.255:7359")
	low[header.EthernetLen+8] = 1 // TTL: nobody is told (RFC 1122, 3.2.2)
	SumIPv4(low)
	l.Send("up", low)
	l.ExpectNothing()
}

// The broadcast address of another link ends at once: no router forwards it (RFC 2644), nobody
// is asked for its MAC address, and no error is owed (RFC 1122, 3.2.2).
func TestDirectedBroadcast(t *testing.T) {
	l := New(t)
	l.Config.Routes = append(l.Config.Routes, dataplane.RouteConfig{Prefix: netip.MustParsePrefix("198.51.100.255/32"), Kind: dataplane.RouteBroadcast})
	l.Install()
	l.Send("c1", UDP("c1", 5000, "198.51.100.255:9", "x"))
	l.ExpectNothing()
	if got := l.Switch.Stats().Drops[dataplane.DropBroadcast]; got != 1 {
		t.Errorf("dropped as broadcast: %d frames; %s", got, l.Drops())
	}
	// Its own link's, to the gateway.
	l.Send("c1", Bytes(Packet{EthSrc: MAC("c1"), EthDst: header.Broadcast, Src: Stations["c1"] + ":1", Dst: "10.1.0.255:9", Proto: header.ProtoUDP}))
	if got := l.Got("c2"); len(got) != 1 {
		t.Errorf("a broadcast in its network reached c2 %d times", len(got))
	}
}
