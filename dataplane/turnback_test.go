package dataplane_test

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/vswitch/vswitch/control/policy"
	"github.com/vswitch/vswitch/dataplane"
	"github.com/vswitch/vswitch/dataplane/conntrack"
	"github.com/vswitch/vswitch/dataplane/flowmap/flowtest"
	"github.com/vswitch/vswitch/dataplane/frame"
	"github.com/vswitch/vswitch/dataplane/header"
	. "github.com/vswitch/vswitch/dataplane/switchtest"
)

// peer is a container that meets another one by the host's address.
type peer struct {
	l     *Lab
	f     Family
	proto uint8
	name  string
	port  uint16 // inside
	at    string // as the outside knows it
}

// learn has a container ask somebody outside by which address and port it is known.
func learn(l *Lab, f Family, proto uint8, name string, port uint16) *peer {
	l.T.Helper()
	l.Send(name, f.Flow(proto, name, port, f.At(f.World, 3478)))
	return &peer{l, f, proto, name, port, See(l.T, l.Expect("up")).From()}
}

// says sends to another by what that one is known as.
func (p *peer) says(to *peer, flags uint8, seq, ack uint32) {
	p.l.T.Helper()
	q := Packet{Proto: p.proto, Flags: flags, Seq: seq, Ack: ack}
	if p.proto == header.ProtoUDP {
		q.Payload = []byte("hello")
	}
	p.l.Send(p.name, p.f.From(p.name, p.port, to.at, q))
}

// hears wants the one frame that the other has sent, from where that one is known.
func (p *peer) hears(from *peer) {
	p.l.T.Helper()
	got := See(p.l.T, p.l.Expect(p.name))
	if got.From() != from.at || got.To() != p.f.At(p.name, p.port) {
		p.l.T.Fatalf("%s got %s -> %s, want it from %s", p.name, got.From(), got.To(), from.at)
	}
}

// twoPeers runs a scenario for each family and protocol, within a network and across two.
func twoPeers(t *testing.T, scenario func(l *Lab, a, b *peer)) {
	for _, f := range Families {
		for _, proto := range portProtos {
			for _, other := range []string{"c2", "c4"} {
				t.Run(fmt.Sprintf("%s %d %s", f.Name, proto, other), func(t *testing.T) {
					l := NewSized(t, 4096, func(cfg *dataplane.Config) { cfg.PortKey[0] = 1 })
					l.DualStack()
					l.Advance(2 * time.Minute) // long after the start
					scenario(l, learn(l, f, proto, "c1", 4000), learn(l, f, proto, other, 4000))
				})
			}
		}
	}
}

// TestN10N27HolePunching: two containers behind one switch that know each other by their outside
// addresses meet by them, over UDP and, opening at once, over TCP. The first packet, which comes
// before the other has sent any, ends without a word.
func TestN10N27HolePunching(t *testing.T) {
	twoPeers(t, func(l *Lab, a, b *peer) {
		a.says(b, SYN, 100, 0)
		l.ExpectDrop(a.name, dataplane.DropUninvited, 1)
		b.says(a, SYN, 500, 0)
		a.hears(b)
		for range 3 {
			a.says(b, SYN|ACK, 100, 501)
			b.hears(a)
			b.says(a, ACK, 501, 101)
			a.hears(b)
		}
		flows := l.Switch.FlushConns(conntrack.Selector{})
		if flows != 4 {
			l.T.Errorf("%d flows, want two of each", flows)
		}
	})
}

// Who was not written to is not heard: neither by another port of the one that was, nor as a third
// container, nor by the outside, whoever it says that it is.
func TestHolesLetOnlyTheirPeerIn(t *testing.T) {
	twoPeers(t, func(l *Lab, a, b *peer) {
		a.says(b, SYN, 100, 0)
		l.ExpectDrop(a.name, dataplane.DropUninvited, 1)
		other, third := learn(l, b.f, b.proto, b.name, 4001), learn(l, b.f, b.proto, "c3", 4000)
		other.says(a, SYN, 1, 0)
		l.ExpectDrop(b.name, dataplane.DropUninvited, 1)
		third.says(a, SYN, 1, 0)
		l.ExpectDrop("c3", dataplane.DropUninvited, 1)
		l.Send("up", Inbound(a.proto, b.at, a.at, SYN, ""))
		l.ExpectDrop("up", dataplane.DropForgedSource, 1)
		b.says(a, SYN, 500, 0)
		a.hears(b)
	})
}

// A port of masquerade that a network opens to everybody is open to containers, too.
func TestN10N27HairpinToAnOpenMapping(t *testing.T) {
	twoPeers(t, func(l *Lab, a, b *peer) {
		eachPolicy(l, func(n *policy.Network) { n.Filter = policy.FilterEIF })
		l.Switch.FlushConns(conntrack.Selector{})
		a, b = learn(l, a.f, a.proto, a.name, a.port), learn(l, b.f, b.proto, b.name, b.port)
		l.Advance(2 * time.Minute)
		a, b = learn(l, a.f, a.proto, a.name, a.port), learn(l, b.f, b.proto, b.name, b.port)
		a.says(b, SYN, 100, 0)
		b.hears(a)
		b.says(a, SYN|ACK, 500, 101)
		a.hears(b)
		a.says(b, ACK, 101, 501)
		b.hears(a)
	})
}

// A container that may not go out meets nobody so, and neither do two whom a rule parts.
func TestHolesNeedAWayOut(t *testing.T) {
	for _, f := range Families {
		l := New(t)
		l.DualStack()
		l.Advance(2 * time.Minute)
		a, b := learn(l, f, header.ProtoUDP, "c1", 4000), learn(l, f, header.ProtoUDP, "c2", 4000)
		inside := &peer{l, f, header.ProtoUDP, "c5", 4000, f.At(f.Host, 4000)}
		inside.says(a, 0, 0, 0) // to the host, as ever
		if got := See(t, l.Expect("host3")); got.To() != a.at {
			t.Errorf("the host got %s -> %s", got.From(), got.To())
		}
		l.Written = []dataplane.Rule{{
			ID: 71, Tier: dataplane.TierUser, Direction: dataplane.In, Deny: true, Reason: dataplane.DropIsolated,
			From: dataplane.Selector{OfPort: true, Port: l.Port("c1")}, To: dataplane.Selector{OfPort: true, Port: l.Port("c2")},
		}}
		l.Install()
		b.says(a, 0, 0, 0)
		l.ExpectDrop("c2", dataplane.DropUninvited, 1)
		a.says(b, 0, 0, 0)
		if n := l.Dropped("c1", dataplane.DropIsolated); n != 1 || len(l.Got("c2")) != 0 {
			t.Errorf("%s: a rule parts them: dropped %d times; %s", f.Name, n, l.Drops())
		}
	}
}

// A program of the host that has the port gets what is sent to it.
func TestHoleOrListener(t *testing.T) {
	twoPeers(t, func(l *Lab, a, b *peer) {
		a.says(b, SYN, 100, 0)
		l.ExpectDrop(a.name, dataplane.DropUninvited, 1)
		busy := new(conntrack.BusyPorts)
		for _, p := range []*peer{a, b} {
			busy.Set(a.proto, netip.MustParseAddrPort(p.at).Port())
		}
		l.Switch.SetBusyPorts(busy)
		a.says(b, SYN, 100, 0)
		if got := See(l.T, l.Expect("host1")); got.From() != a.f.At(a.name, a.port) || got.To() != b.at {
			l.T.Errorf("the host got %s -> %s", got.From(), got.To())
		}
	})
}

// With a mapping on one address of the host, a container that sends to a mapping on another is known
// by its own.
func TestHoleByAnotherAddress(t *testing.T) {
	const second = "198.51.100.77"
	l := New(t)
	l.Advance(2 * time.Minute)
	f := Families[0]
	a := learn(l, f, header.ProtoUDP, "c1", 4000)
	l.Config.Uplinks[0].Slots[netip.MustParseAddr(second)] = 5
	l.Config.Routes = append(l.Config.Routes, dataplane.RouteConfig{Prefix: netip.MustParsePrefix(second + "/32"), Kind: dataplane.RouteLocal})
	for i := range l.Config.Routes {
		if l.Config.Routes[i].Source == netip.MustParseAddr(HostAddr) {
			l.Config.Routes[i].Source = netip.MustParseAddr(second)
		}
	}
	l.Install()
	b := learn(l, f, header.ProtoUDP, "c2", 4000)
	if netip.MustParseAddrPort(b.at).Addr().String() != second {
		t.Fatalf("c2 is known as %s", b.at)
	}
	a.says(b, 0, 0, 0)
	b.says(a, 0, 0, 0)
	a.hears(b)
	a.says(b, 0, 0, 0)
	b.hears(a)
}

// From its published UDP port a container is known by that, whoever begins.
func TestHoleToAPublishedPort(t *testing.T) {
	for _, first := range []int{0, 1} {
		l := New(t)
		l.Advance(2 * time.Minute)
		l.Publish(5060, "c1", 5060)
		a, b := learn(l, Families[0], header.ProtoUDP, "c1", 5060), learn(l, Families[0], header.ProtoUDP, "c2", 4000)
		if a.at != HostAddr+":5060" {
			t.Fatalf("c1 is known as %s", a.at)
		}
		if first == 0 {
			a.says(b, 0, 0, 0)
			l.ExpectDrop("c1", dataplane.DropUninvited, 1)
		}
		for range 2 {
			b.says(a, 0, 0, 0)
			a.hears(b)
			a.says(b, 0, 0, 0)
			b.hears(a)
		}
	}
}

// The error of a container about what came to it so is translated by both flows.
func TestN46ErrorAboutAHole(t *testing.T) {
	l := New(t)
	l.Advance(2 * time.Minute)
	a, b := learn(l, Families[0], header.ProtoUDP, "c1", 4000), learn(l, Families[0], header.ProtoUDP, "c2", 4000)
	b.says(a, 0, 0, 0)
	l.ExpectDrop("c2", dataplane.DropUninvited, 1)
	a.says(b, 0, 0, 0)
	in := l.Expect("c2")
	l.Send("c2", icmpError(From("c2", HostAddr, Packet{Src: "10.1.0.12"}), 3, 3, in))
	f := l.Expect("c1")
	if got := See(t, f); got.Src.String() != HostAddr || got.Dst.String() != "10.1.0.11" {
		t.Errorf("error went %s -> %s", got.Src, got.Dst)
	}
	if q, want := ends(quoteOf(t, f)), [2]string{"10.1.0.11:4000", b.at}; q != want {
		t.Errorf("it quotes %v, want %v", q, want)
	}
}

// Datagrams that are larger than the MTU come through in their fragments.
func TestFragmentsThroughAHole(t *testing.T) {
	l := New(t)
	l.Advance(2 * time.Minute)
	a, b := learn(l, Families[0], header.ProtoUDP, "c1", 4000), learn(l, Families[0], header.ProtoUDP, "c2", 4000)
	b.says(a, 0, 0, 0)
	l.ExpectDrop("c2", dataplane.DropUninvited, 1)
	pieces := Fragment(Bytes(From("c1", b.at, Packet{Src: "10.1.0.11:4000", Proto: header.ProtoUDP, Payload: make([]byte, 3000)})), 1024)
	for _, p := range pieces {
		l.Send("c1", p)
	}
	if got := l.Got("c2"); len(got) != len(pieces) {
		t.Errorf("c2 got %d of %d fragments; %s", len(got), len(pieces), l.Drops())
	}
	l.ExpectNothing()
}

// A container meets itself.
func TestHoleToItself(t *testing.T) {
	l := New(t)
	l.Advance(2 * time.Minute)
	a := learn(l, Families[0], header.ProtoUDP, "c1", 4000)
	a.says(a, 0, 0, 0)
	a.hears(a)
}

// When the other has gone and its port with it, what is sent there is the host's again.
func TestHoleEndsWithItsPeer(t *testing.T) {
	twoPeers(t, func(l *Lab, a, b *peer) {
		a.says(b, SYN, 100, 0)
		b.says(a, SYN, 500, 0)
		a.hears(b)
		l.Switch.FlushConns(conntrack.Selector{Ports: []frame.PortID{l.Port(b.name)}})
		l.Advance(5 * time.Second)
		a.says(b, SYN, 100, 0)
		l.Expect("host1")
		l.ExpectNothing()
	})
}

// TestHolesAfterARestart: the next switch knows nothing of the two, and both go on as they did.
func TestHolesAfterARestart(t *testing.T) {
	twoPeers(t, func(l *Lab, a, b *peer) {
		a.says(b, SYN, 100, 0)
		b.says(a, SYN, 500, 0)
		a.hears(b)
		a.says(b, SYN|ACK, 100, 501)
		b.hears(a)
		b.says(a, ACK, 501, 101)
		a.hears(b)
		l.Restart(flowtest.New(64, func() int64 { return 0 }))
		l.Neighbors(NextHopMAC, NextHop, a.f.NextHop)
		a.says(b, ACK, 101, 501)
		for _, at := range []string{"host1", "host2"} { // a datagram to a port that nobody has had again yet
			l.Got(at)
		}
		b.says(a, ACK, 501, 101)
		a.hears(b)
		a.says(b, ACK, 101, 501)
		b.hears(a)
	})
}

// Who sends to a port before a container has it has no row to the host that would go on taking his
// packets there. Where a program of the host has the port, he has one.
func TestNoRowToAPortThatMayBeGiven(t *testing.T) {
	for _, listens := range []bool{false, true} {
		l, _ := newFlowLab(t)
		busy := new(conntrack.BusyPorts)
		if listens {
			busy.Set(header.ProtoUDP, 61005)
		}
		l.Switch.SetBusyPorts(busy)
		l.Advance(2 * time.Minute)
		for range 30 {
			l.Send("c1", UDP("c1", 4000, HostAddr+":61005", "hello"))
			l.Expect("host1")
		}
		if rows := l.Switch.EnterOffers(); (len(rows) > 0) != listens {
			t.Errorf("a program listens: %v; %d rows", listens, len(rows))
		}
	}
}
