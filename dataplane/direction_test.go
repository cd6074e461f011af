package dataplane_test

import (
	"testing"

	"github.com/vswitch/vswitch/control/policy"
	"github.com/vswitch/vswitch/dataplane/header"
	. "github.com/vswitch/vswitch/dataplane/switchtest"
)

// begun is a flow of some kind: who sends its first packet, to where, and who gets it.
type begun struct {
	name       string
	setUp      func(l *Lab, f Family)
	from       string // a station, or "up"
	src, dst   func(f Family) string
	at         string // where the first packet arrives
	ofTheHosts bool   // the gateway is no router for it: it is sent to c's own MAC address
}

func ofStation(name string, port uint16) func(Family) string {
	return func(f Family) string { return f.At(name, port) }
}

func ofWorld(port uint16) func(Family) string {
	return func(f Family) string { return f.At(f.World, port) }
}

var flowsOfAllKinds = []begun{
	{name: "masquerade", from: "c1", src: ofStation("c1", 5000), dst: ofWorld(443), at: "up"},
	{name: "published", setUp: func(l *Lab, f Family) { l.PublishFamily(f, 8080, "c1", 80) }, from: "up", src: ofWorld(5000), dst: ofStation("up", 8080), at: "c1"},
	{name: "hairpin", setUp: func(l *Lab, f Family) { l.PublishFamily(f, 8080, "c2", 80) }, from: "c1", src: ofStation("c1", 5000), dst: ofStation("up", 8080), at: "c2"},
	{name: "hairpin to itself", setUp: func(l *Lab, f Family) { l.PublishFamily(f, 8080, "c1", 80) }, from: "c1", src: ofStation("c1", 5000), dst: ofStation("up", 8080), at: "c1"},
	{name: "hairpin to another network", setUp: func(l *Lab, f Family) { l.PublishFamily(f, 8080, "c4", 80) }, from: "c1", src: ofStation("c1", 5000), dst: ofStation("up", 8080), at: "c4"},
	{name: "within a network by the gateway", from: "c1", src: ofStation("c1", 5000), dst: ofStation("c2", 80), at: "c2"},
	{name: "own address", setUp: func(l *Lab, _ Family) {
		l.Policy[0].Modes = [2]policy.GatewayMode{policy.GatewayRouted, policy.GatewayRouted}
		l.Install()
	}, from: "c1", src: ofStation("c1", 5000), dst: ofWorld(443), at: "up"},
	{name: "opened port", setUp: func(l *Lab, f Family) {
		l.Policy[0].Modes = [2]policy.GatewayMode{policy.GatewayRouted, policy.GatewayRouted}
		l.PublishFamily(f, 8080, "c1", 80)
	}, from: "up", src: ofWorld(5000), dst: ofStation("c1", 80), at: "c1"},
	{name: "the host's", setUp: func(l *Lab, _ Family) {
		l.Policy[0].NoHostAccess = true
		l.Install()
	}, from: "host1", src: ofStation("host1", 5000), dst: ofStation("c1", 80), at: "c1", ofTheHosts: true},
}

// forged are packets of a flow's direction as every other port would send them.
func forged(p Packet, not string) map[string][]byte {
	all := make(map[string][]byte)
	for _, at := range everybody {
		if at == not {
			continue
		}
		q := From(at, p.Dst, p)
		if at == "up" {
			q.EthSrc = NextHopMAC
		}
		all[at] = Bytes(q)
	}
	return all
}

var everybody = []string{"c1", "c2", "c3", "c4", "c5", "host1", "host2", "host3", "up"}

// TestS76DirectionsBelongToTheirPorts: a packet of either direction of a flow of any
// kind passes only from the port where that direction begins. The network's guard does
// not do it alone: here ports are unguarded.
func TestS76DirectionsBelongToTheirPorts(t *testing.T) {
	for _, kind := range flowsOfAllKinds {
		for _, proto := range []uint8{header.ProtoUDP, header.ProtoTCP} {
			t.Run(kind.name+map[uint8]string{header.ProtoUDP: " UDP", header.ProtoTCP: " TCP"}[proto], func(t *testing.T) {
				EachFamily(t, func(t *testing.T, l *Lab, f Family) { directions(t, l, f, &kind, proto) })
			})
		}
	}
}

func directions(t *testing.T, l *Lab, f Family, kind *begun, proto uint8) {
	if kind.setUp != nil {
		kind.setUp(l, f)
	}
	send := func(from string, p Packet) {
		q := From(from, p.Dst, p)
		switch {
		case from == "up":
			q.EthSrc = NextHopMAC
		case kind.ofTheHosts && from == kind.from:
			q.EthDst = MAC(kind.at)
		}
		l.Send(from, Bytes(q))
	}
	first := Packet{Src: kind.src(f), Dst: kind.dst(f), Proto: proto, Flags: SYN, Seq: 100, Payload: opening(proto)}
	send(kind.from, first)
	arrived := See(t, l.Expect(kind.at))
	answer := Packet{Src: arrived.To(), Dst: arrived.From(), Proto: proto, Flags: SYN | ACK, Seq: 500, Ack: 101, Payload: opening(proto)}
	next := first
	if proto == header.ProtoTCP {
		next.Flags, next.Seq, next.Ack, next.Payload = ACK, 101, 501, []byte("forged")
	}
	for _, state := range []string{"begun", "answered"} {
		for _, way := range []struct {
			from, to string
			p        Packet
		}{{kind.at, kind.from, answer}, {kind.from, kind.at, next}} {
			for at, b := range forged(way.p, way.from) {
				l.Send(at, b)
				if got := l.Got(way.to); len(got) > 0 && at != way.to {
					t.Errorf("%s, %s speaks for %s: %s got %s", state, at, way.from, way.to, Describe(got[0]))
				}
			}
		}
		for _, name := range everybody {
			l.Got(name) // refusals
		}
		if state == "answered" {
			break
		}
		send(kind.at, answer)
		if got := See(t, l.Expect(kind.from)); got.To() != kind.src(f) || got.From() != kind.dst(f) {
			t.Errorf("the answer arrived as %s to %s", got.From(), got.To())
		}
	}
	if n := len(l.Switch.Conns()); n != 1 {
		t.Errorf("%d flows are tracked, want 1", n)
	}
}

// An ICMP error about a flow within comes from where its quoted packet went, too.
func TestS76ErrorsBelongToTheirPorts(t *testing.T) {
	for _, kind := range flowsOfAllKinds {
		t.Run(kind.name, func(t *testing.T) {
			l, f := New(t), Families[0]
			if kind.setUp != nil {
				kind.setUp(l, f)
			}
			q := From(kind.from, kind.dst(f), Packet{Src: kind.src(f), Proto: header.ProtoUDP, Payload: []byte("x")})
			switch {
			case kind.from == "up":
				q.EthSrc = NextHopMAC
			case kind.ofTheHosts:
				q.EthDst = MAC(kind.at)
			}
			l.Send(kind.from, Bytes(q))
			arrived := l.Expect(kind.at)
			s := See(t, arrived)
			for _, at := range everybody {
				e := From(at, s.Tuple.Src.NetIP().String(), Packet{Src: s.Tuple.Dst.NetIP().String()})
				if at == "up" {
					e.EthSrc = NextHopMAC
				}
				l.Send(at, icmpError(e, 3, 3, arrived))
				got := l.Got(kind.from)
				if at != kind.at && at != kind.from && len(got) > 0 {
					t.Errorf("%s tells of %s: %s got %s", at, kind.at, kind.from, Describe(got[0]))
				}
				if at == kind.at && len(got) != 1 {
					t.Errorf("the error of %s itself arrived %d times; drops: %s", at, len(got), l.Drops())
				}
			}
		})
	}
}
