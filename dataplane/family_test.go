package dataplane_test

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/vswitch/vswitch/control/policy"
	"github.com/vswitch/vswitch/dataplane"
	"github.com/vswitch/vswitch/dataplane/conntrack"
	"github.com/vswitch/vswitch/dataplane/header"
	. "github.com/vswitch/vswitch/dataplane/switchtest"
)

var tcpAndUDP = []uint8{header.ProtoTCP, header.ProtoUDP}

// inbound is a packet of the world.
func inbound(proto uint8, src, dst string) []byte { return Inbound(proto, src, dst, SYN|ACK, "x") }

func TestFamilyMasquerade(t *testing.T) {
	EachFamily(t, func(t *testing.T, l *Lab, f Family) {
		for _, proto := range tcpAndUDP {
			web := f.At(f.World, 80)
			l.Send("c1", f.Flow(proto, "c1", 5000, web))
			got := See(t, l.Expect("up"))
			if got.Src.String() != f.Host || got.To() != web || got.TTL != 63 || got.EthDst != NextHopMAC {
				t.Errorf("left as %+v", got)
			}
			l.Send("up", inbound(proto, web, got.From()))
			back := See(t, l.Expect("c1"))
			if back.From() != web || back.To() != f.At("c1", 5000) || back.EthSrc != MAC("host1") || back.EthDst != MAC("c1") {
				t.Errorf("came back as %+v", back)
			}
			// Endpoint independent, of nobody else, and closed to others (RFC 4787).
			l.Send("c1", f.Flow(proto, "c1", 5000, f.At(f.Elsewhere, 80)))
			if other := See(t, l.Expect("up")); other.From() != got.From() {
				t.Errorf("to another host it left from %s, want %s", other.From(), got.From())
			}
			l.Send("c2", f.Flow(proto, "c2", 5000, web))
			if other := See(t, l.Expect("up")); other.From() == got.From() {
				t.Errorf("c2 shares %s", got.From())
			}
			before := l.Dropped("up", dataplane.DropUnclaimed)
			l.Send("up", inbound(proto, f.At(f.Elsewhere, 81), got.From()))
			l.ExpectDrop("up", dataplane.DropUnclaimed, before+1)
		}
	})
}

func TestFamilyPing(t *testing.T) {
	EachFamily(t, func(t *testing.T, l *Lab, f Family) {
		l.Send("c1", f.From("c1", 0, f.World, Packet{Proto: f.ICMP, Type: f.EchoRequest, ID: 7, Payload: []byte("data")}))
		got := See(t, l.Expect("up"))
		if got.Src.String() != f.Host || got.Dst.String() != f.World {
			t.Errorf("left as %s -> %s", got.Src, got.Dst)
		}
		l.Send("up", Bytes(Packet{
			EthSrc: NextHopMAC, EthDst: MAC("up"), Src: f.World, Dst: f.Host, Proto: f.ICMP, Type: f.EchoReply, ID: got.SrcPort, Payload: []byte("data"),
		}))
		if back := See(t, l.Expect("c1")); back.DstPort != 7 || back.Dst.String() != f.Addr("c1") {
			t.Errorf("the reply came as %+v", back)
		}
	})
}

func TestFamilyPublish(t *testing.T) {
	EachFamily(t, func(t *testing.T, l *Lab, f Family) {
		l.PublishFamily(f, 8080, "c1", 80)
		for _, proto := range tcpAndUDP {
			client, at := f.At(f.World, 4000), f.At(f.Host, 8080)
			l.Send("up", Inbound(proto, client, at, SYN, "x"))
			got := See(t, l.Expect("c1"))
			if got.From() != client || got.To() != f.At("c1", 80) || got.TTL != 63 {
				t.Errorf("c1 saw %+v", got)
			}
			l.Send("c1", f.From("c1", 80, client, Packet{Proto: proto, Flags: SYN | ACK, Payload: opening(proto)}))
			if back := See(t, l.Expect("up")); back.From() != at || back.To() != client {
				t.Errorf("the client saw %s -> %s", back.From(), back.To())
			}
		}
	})
}

func opening(proto uint8) []byte {
	if proto == header.ProtoTCP {
		return nil
	}
	return []byte("x")
}

// TestPublishKeepsToItsFamily: every address of the host means every address of
// the container's family.
func TestPublishKeepsToItsFamily(t *testing.T) {
	for i, f := range Families {
		other := Families[1-i]
		l := New(t)
		l.DualStack()
		l.PublishFamily(f, 8080, "c1", 80)
		l.Send("up", Inbound(header.ProtoTCP, other.At(other.World, 4000), other.At(other.Host, 8080), SYN, ""))
		l.ExpectDrop("up", dataplane.DropUnclaimed, 1)
		// From a container it is the host's to answer.
		l.Send("c2", other.Flow(header.ProtoTCP, "c2", 5000, other.At(other.Host, 8080)))
		l.Expect("host1")
		// Both at once lead to two containers.
		l.PublishFamily(other, 8080, "c2", 81)
		l.Send("up", Inbound(header.ProtoTCP, other.At(other.World, 4000), other.At(other.Host, 8080), SYN, ""))
		if got := See(t, l.Expect("c2")); got.To() != other.At("c2", 81) {
			t.Errorf("%s led to %s", other.Name, got.To())
		}
		l.Send("up", Inbound(header.ProtoTCP, f.At(f.World, 4000), f.At(f.Host, 8080), SYN, ""))
		if got := See(t, l.Expect("c1")); got.To() != f.At("c1", 80) {
			t.Errorf("%s led to %s", f.Name, got.To())
		}
		// A rule that changes the family contradicts itself.
		cfg := l.Config
		cfg.Publish = []dataplane.PublishConfig{{
			Proto: header.ProtoTCP, HostAddr: header.AddrFrom(netip.MustParseAddr(other.Host)), HostFirst: 1, HostLast: 1, ContainerAddr: header.AddrFrom(netip.MustParseAddr(f.Addr("c1"))), ContainerFirst: 1,
		}}
		if _, err := dataplane.NewSnapshot(cfg); err == nil {
			t.Errorf("%s published on %s was taken", f.Addr("c1"), other.Host)
		}
	}
}

func TestFamilyHairpin(t *testing.T) {
	EachFamily(t, func(t *testing.T, l *Lab, f Family) {
		l.PublishFamily(f, 8080, "c1", 80)
		sport := uint16(5000)
		for _, proto := range tcpAndUDP {
			for _, host := range []string{f.Host, f.Addr("host1"), f.Addr("host2")} {
				for _, client := range []string{"c2", "c1", "c4"} {
					sport++
					l.Send(client, f.Flow(proto, client, sport, f.At(host, 8080)))
					got := See(t, l.Expect("c1"))
					if got.Src.String() != host || got.To() != f.At("c1", 80) {
						t.Fatalf("%d, %s from %s: c1 saw %s -> %s", proto, host, client, got.From(), got.To())
					}
					l.Send("c1", f.From("c1", 80, got.From(), Packet{Proto: proto, Flags: SYN | ACK, Payload: opening(proto)}))
					back := See(t, l.Expect(client))
					if back.From() != f.At(host, 8080) || back.To() != f.At(client, sport) {
						t.Errorf("%s saw %s -> %s", client, back.From(), back.To())
					}
				}
			}
		}
	})
}

func TestFamilyIsolation(t *testing.T) {
	EachFamily(t, func(t *testing.T, l *Lab, f Family) {
		gateway := func(c, want string) {
			t.Helper()
			if got := See(t, l.Expect(c)); got.Proto != f.ICMP || got.Src.String() != f.Addr(want) || got.Dst.String() != f.Addr(c) {
				t.Errorf("%s was told %+v, want an ICMP error of its gateway", c, got)
			}
		}
		l.Send("c1", f.Flow(header.ProtoUDP, "c1", 5000, f.At("c4", 80)))
		gateway("c1", "host1")
		if n := l.Dropped("c1", dataplane.DropIsolated); n != 1 {
			t.Errorf("%d drops, want 1", n)
		}
		l.Send("c5", f.Flow(header.ProtoUDP, "c5", 5000, f.At(f.World, 80)))
		gateway("c5", "host3")
		if n := l.Dropped("c5", dataplane.DropInternal); n != 1 {
			t.Errorf("%d drops, want 1", n)
		}
		for _, dst := range []string{f.At("host1", 53), f.At(f.Host, 22), f.At("host2", 53)} {
			l.Send("c1", f.Flow(header.ProtoUDP, "c1", 5000, dst))
			if got := See(t, l.Expect("host1")); got.To() != dst || got.From() != f.At("c1", 5000) {
				t.Errorf("the host saw %+v", got)
			}
		}
	})
}

// TestIsolatedGateway: of an isolated family nothing is routed, the other is not
// touched.
func TestIsolatedGateway(t *testing.T) {
	for i, f := range Families {
		other := Families[1-i]
		l := New(t)
		l.DualStack()
		l.Policy[0].Modes[i] = policy.GatewayIsolated
		l.Config.Networks[0].Gateways = []netip.Addr{netip.MustParseAddr(other.Addr("host1"))}
		l.Install()
		for n, dst := range []string{f.At(f.World, 80), f.At(f.Host, 22), f.At("c4", 80), f.At("host2", 53)} {
			l.Send("c1", f.Flow(header.ProtoUDP, "c1", 5000, dst))
			l.ExpectDrop("c1", dataplane.DropInternal, uint64(n+1))
		}
		l.Send("c1", other.Flow(header.ProtoUDP, "c1", 5000, other.At(other.World, 80)))
		l.Expect("up")
	}
}

func TestFamilyNextHops(t *testing.T) {
	EachFamily(t, func(t *testing.T, l *Lab, f Family) {
		l.Switch.SetNeighbors(nil)
		l.Send("c1", f.Flow(header.ProtoUDP, "c1", 5000, f.At(f.World, 80)))
		l.ExpectNothing()
		l.Neighbors(NextHopMAC, f.NextHop)
		for l.Switch.Step() > 0 {
		}
		l.Expect("up")
		there := header.MAC{2, 0, 0, 0, 9, 50}
		l.Neighbors(there, f.Near)
		l.Send("c1", f.Flow(header.ProtoUDP, "c1", 5000, f.At(f.Near, 53)))
		if got := See(t, l.Expect("up")); got.EthDst != there {
			t.Errorf("sent to %s, want %s", got.EthDst, there)
		}
	})
}

func TestFamilyTimers(t *testing.T) {
	EachFamily(t, func(t *testing.T, l *Lab, f Family) {
		web := f.At(f.World, 80)
		l.Send("c1", f.Flow(header.ProtoUDP, "c1", 5000, web))
		e := See(t, l.Expect("up")).From()
		l.Advance(119 * time.Second)
		l.Send("up", inbound(header.ProtoUDP, web, e))
		l.Expect("c1")
		l.Advance(301 * time.Second)
		l.Send("up", inbound(header.ProtoUDP, web, e))
		l.ExpectDrop("up", dataplane.DropUnclaimed, 1)
		if n := len(l.Switch.Conns()); n != 0 {
			t.Errorf("%d flows are left", n)
		}
	})
}

// TestOnePortForBothFamilies: masquerade keeps the families' ports apart, each in
// the slot of its own address.
func TestOnePortForBothFamilies(t *testing.T) {
	l := New(t)
	l.DualStack()
	l.Config.MasqueradePorts = []conntrack.PortRange{{First: 61000, Last: 61000}}
	l.Install()
	for slot, f := range Families {
		l.Send("c1", f.Flow(header.ProtoUDP, "c1", 5000, f.At(f.World, 80)))
		got := See(t, l.Expect("up"))
		if want := f.At(f.Host, 61000); got.From() != want {
			t.Errorf("left from %s, want %s", got.From(), want)
		}
		if !l.Claims.Test(slot+1, header.ProtoUDP, 61000) {
			t.Error(fmt.Sprint(f.Name, ": the port is not claimed"))
		}
	}
}

// N-89: in a routed network there is no translation, and inbound is closed but for
// answers, ICMP queries and the container ports that were published.
func TestN89RoutedNetwork(t *testing.T) {
	EachFamily(t, func(t *testing.T, l *Lab, f Family) {
		i := familyIndex(f)
		l.Policy[0].Modes[i] = policy.GatewayRouted
		l.PublishFamily(f, 8080, "c1", 80)
		world, c1 := f.At(f.World, 4000), f.At("c1", 5000)
		for _, proto := range tcpAndUDP {
			l.Send("c1", f.Flow(proto, "c1", 5000, world))
			if got := See(t, l.Expect("up")); got.From() != c1 || got.To() != world || got.TTL != 63 || got.EthDst != NextHopMAC {
				t.Errorf("left as %+v", got)
			}
			l.Send("up", inbound(proto, world, c1))
			if got := See(t, l.Expect("c1")); got.From() != world || got.To() != c1 {
				t.Errorf("came back as %s -> %s", got.From(), got.To())
			}
			// In by the container's port, or by the host's as ever.
			for at, want := range map[string]string{f.At("c1", 80): f.At("c1", 80), f.At(f.Host, 8080): f.At(f.Host, 8080)} {
				l.Send("up", Inbound(proto, f.At(f.Elsewhere, 7), at, SYN, "x"))
				if got := See(t, l.Expect("c1")); got.From() != f.At(f.Elsewhere, 7) || got.To() != f.At("c1", 80) {
					t.Errorf("%s led to %s -> %s", at, got.From(), got.To())
				}
				l.Send("c1", f.From("c1", 80, f.At(f.Elsewhere, 7), Packet{Proto: proto, Flags: SYN | ACK, Payload: opening(proto)}))
				if got := See(t, l.Expect("up")); got.From() != want {
					t.Errorf("%s answers from %s", at, got.From())
				}
				l.Switch.FlushConns(conntrack.Selector{})
			}
			// Closed: a port that was not opened, a container without any, and an
			// address that nobody has.
			for _, at := range []string{f.At("c1", 81), f.At("c2", 80), f.At("host1", 80)} {
				before := l.Dropped("up", dataplane.DropUnclaimed)
				l.Send("up", Inbound(proto, f.At(f.World, 9), at, SYN, ""))
				l.ExpectDrop("up", dataplane.DropUnclaimed, before+1)
			}
		}
		l.Send("up", Bytes(Packet{EthSrc: NextHopMAC, EthDst: MAC("up"), Src: f.World, Dst: f.Addr("c2"), Proto: f.ICMP, Type: f.EchoRequest, ID: 7}))
		l.Expect("c2")
		l.Send("c2", f.From("c2", 0, f.World, Packet{Proto: f.ICMP, Type: f.EchoReply, ID: 7}))
		l.Expect("up")
		// The port is closed again: the flow that came in by it ends.
		l.Send("up", Inbound(header.ProtoTCP, world, f.At("c1", 80), SYN, ""))
		l.Expect("c1")
		l.Config.Publish = nil
		l.Install()
		before := l.Dropped("up", dataplane.DropUnclaimed)
		l.Send("up", Inbound(header.ProtoTCP, world, f.At("c1", 80), ACK, ""))
		l.ExpectDrop("up", dataplane.DropUnclaimed, before+1)
		// The other networks and families are as they were.
		l.Send("c4", f.Flow(header.ProtoUDP, "c4", 5000, world))
		if got := See(t, l.Expect("up")); got.Src.String() != f.Host {
			t.Errorf("network 2 left as %s", got.From())
		}
		other := Families[1-i]
		l.Send("c1", other.Flow(header.ProtoUDP, "c1", 5000, other.At(other.World, 80)))
		if got := See(t, l.Expect("up")); got.Src.String() != other.Host {
			t.Errorf("%s left as %s", other.Name, got.From())
		}
	})
}
