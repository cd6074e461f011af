package dataplane_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/vswitch/vswitch/control/policy"
	"github.com/vswitch/vswitch/dataplane"
	"github.com/vswitch/vswitch/dataplane/conntrack"
	"github.com/vswitch/vswitch/dataplane/header"
	. "github.com/vswitch/vswitch/dataplane/switchtest"
)

// spoofed is the n-th source of a flood.
func spoofed(f Family, n int) string {
	if f.ICMP == header.ProtoICMPv6 {
		return fmt.Sprintf("[2001:db8:f:%x::%x]:%d", n>>16, n&0xffff+1, 1024+n%60000)
	}
	return fmt.Sprintf("192.%d.%d.%d:%d", 10+n>>16, n>>8&0xff, n&0xff, 1024+n%60000)
}

// handshake opens a TCP flow of a container to the world as two kernels do, and reports
// whether it came through.
func handshake(l *Lab, f Family, from string, sport uint16) bool {
	seg := func(flags uint8, seq, ack uint32) []byte {
		return f.From(from, sport, f.At(f.World, 80), Packet{Proto: header.ProtoTCP, Flags: flags, Seq: seq, Ack: ack})
	}
	l.Send(from, seg(SYN, 100, 0))
	out := l.Got("up")
	if len(out) != 1 {
		return false
	}
	l.Send("up", Bytes(Packet{EthSrc: NextHopMAC, EthDst: MAC("up"), Src: f.At(f.World, 80), Dst: See(l.T, out[0]).From(), Proto: header.ProtoTCP, Flags: SYN | ACK, Seq: 500, Ack: 101}))
	if len(l.Got(from)) != 1 {
		return false
	}
	l.Send(from, seg(ACK, 101, 501))
	return len(l.Got("up")) == 1
}

// A flood from outside at a published port, of every kind: what its container answers, what it
// does not, and real handshakes in masses. The connections of others, old and new, notice
// nothing, and neither do those that the container itself begins.
func TestFloodAtPublishedPort(t *testing.T) {
	for _, kind := range []string{"SYN", "SYN answered", "handshakes", "UDP", "UDP answered"} {
		t.Run(kind, func(t *testing.T) {
			EachFamily(t, func(t *testing.T, l *Lab, f Family) {
				wholeOnly(t)
				noQuota(l)
				l.PublishFamily(f, 8080, "c1", 80)
				for i := range uint16(200) {
					if !handshake(l, f, "c2", 10000+i) {
						t.Fatalf("no connection before the flood: %s", l.Drops())
					}
				}
				proto := uint8(header.ProtoTCP)
				if kind[0] == 'U' {
					proto = header.ProtoUDP
				}
				for n := range 3 * 4096 {
					src := spoofed(f, n)
					in := func(flags uint8, seq, ack uint32) {
						l.Send("up", Bytes(Packet{EthSrc: NextHopMAC, EthDst: MAC("up"), Src: src, Dst: f.At(f.Host, 8080), Proto: proto, Flags: flags, Seq: seq, Ack: ack}))
					}
					in(SYN, 1, 0)
					if kind != "SYN" && kind != "UDP" {
						l.Send("c1", f.From("c1", 80, src, Packet{Proto: proto, Flags: SYN | ACK, Seq: 7, Ack: 2}))
					}
					if kind == "handshakes" {
						in(ACK, 2, 8)
					}
					l.Got("c1")
					l.Got("up")
					switch {
					case n%64 == 0 && !handshake(l, f, "c2", uint16(20000+n/64)):
						t.Fatalf("flow %d of the flood: c2 begins no connection: %s", n, l.Drops())
					case n%64 == 32 && !handshake(l, f, "c1", uint16(20000+n/64)):
						t.Fatalf("flow %d of the flood: c1 begins no connection: %s", n, l.Drops())
					}
					if n%256 == 0 {
						l.Advance(100 * time.Millisecond)
					}
				}
				if got := held(l, "c2"); got != 200+3*64 {
					t.Errorf("c2 has %d connections, want the %d that it began", got, 200+3*64)
				}
				_, shares := l.Switch.Shares()
				for _, s := range shares {
					switch begun := s.Of[dataplane.SharedFlows]; {
					case begun.Gave != 0 || begun.Refused != 0:
						t.Errorf("port %d gave of its own flows: %+v", s.Tenant, begun)
					case s.Tenant == l.Port("c1") && s.Of[dataplane.SharedReceived].Gave == 0:
						t.Error("nobody gave for the flood")
					}
				}
				told := 0
				for _, e := range l.Events {
					if e.Kind == dataplane.EventShare && e.Port == l.Port("c1") {
						told++
					}
				}
				if told == 0 {
					t.Error("no event tells of c1's share")
				}
				l.Advance(31 * time.Second)
				if n := l.Switch.Stats().Conns; kind != "handshakes" && n > 4096*8/10 {
					t.Errorf("%d flows 30 s after the flood", n)
				}
			})
		})
	}
}

// Three containers, or one by three interfaces, take all ports of masquerade. Another
// container begins flows to wherever it likes, and each answer finds its flow.
func TestPortsAreShared(t *testing.T) {
	const ports = 64
	for _, answered := range []bool{false, true} {
		for _, filter := range []policy.Filter{policy.FilterAPDF, policy.FilterEIF} {
			flows := uint16(20)
			if answered && filter == policy.FilterEIF {
				flows = 10 // ports that strangers have learned rest, and are shared with nobody
			}
			l := New(t)
			noQuota(l)
			l.Config.MasqueradePorts = []conntrack.PortRange{{First: 61000, Last: 61000 + ports - 1}}
			for i := range l.Config.Ports {
				if p := &l.Config.Ports[i]; p.ID == l.Port("c2") || p.ID == l.Port("c4") {
					p.Tenant = l.Port("c3") // three interfaces of one container
				}
			}
			eachPolicy(l, func(n *policy.Network) { n.Filter = filter })
			l.Advance(200 * time.Second)
			for i := range 3 * ports {
				from := []string{"c2", "c3", "c4"}[i%3]
				l.Send(from, UDP(from, uint16(1000+i), web, "x"))
				for _, f := range l.Got("up") {
					if answered {
						l.Send("up", Inbound(header.ProtoUDP, web, See(t, f).From(), 0, "y"))
					}
				}
				for _, c := range []string{"c2", "c3", "c4"} {
					l.Got(c)
				}
			}
			seen := map[string]uint16{}
			for i := range flows {
				for _, peer := range []string{"203.0.113.10:80", "203.0.113.11:80"} {
					l.Send("c1", UDP("c1", 2000+i, peer, "x"))
					out := l.Got("up")
					if len(out) != 1 {
						t.Fatalf("answered %v, filter %d: c1 begins no flow %d: %s", answered, filter, i, l.Drops())
					}
					e := See(t, out[0]).From()
					if was, ok := seen[peer+e]; ok {
						t.Fatalf("%s to %s is that of %d and %d", e, peer, was, 2000+i)
					}
					seen[peer+e] = 2000 + i
					l.Send("up", Inbound(header.ProtoUDP, peer, e, 0, "y"))
					back := l.Got("c1")
					if len(back) != 1 || See(t, back[0]).DstPort != 2000+i {
						t.Fatalf("answered %v, filter %d: the answer to %s did not reach port %d of c1", answered, filter, e, 2000+i)
					}
				}
			}
			for _, c := range l.Switch.Conns() {
				if c.Lent && filter == policy.FilterEIF {
					t.Fatalf("a port is shared where strangers come in: %+v", c)
				}
			}
			l.Switch.FlushConns(conntrack.Selector{})
			l.Advance(200 * time.Second)
			if n := l.Switch.NATPorts(1).UDP; n.Used != 0 || n.Free != ports {
				t.Errorf("answered %v, filter %d: %+v ports at the end", answered, filter, n)
			}
		}
	}
}

// A program of the host holds all ports of masquerade: flows have ports of the host's own
// range, each for its peer alone, and none that the host holds.
func TestPortsOfTheHostForSinglePeers(t *testing.T) {
	l := New(t)
	l.Config.MasqueradePorts = []conntrack.PortRange{{First: 61000, Last: 61009}}
	l.Config.MasqueradeLast = []conntrack.PortRange{{First: 40000, Last: 40003}}
	l.Install()
	busy := new(conntrack.BusyPorts)
	for p := uint16(61000); p < 61010; p++ {
		busy.Set(header.ProtoTCP, p)
	}
	busy.Set(header.ProtoTCP, 40001)
	l.Switch.SetBusyPorts(busy)
	f := Families[0]
	for i := range uint16(3) {
		if !handshake(l, f, "c1", 5000+i) {
			t.Fatalf("connection %d: %s", i, l.Drops())
		}
	}
	for _, c := range l.Switch.Conns() {
		if p := c.Reply.DstPort; !c.Lent || p == 40001 || p < 40000 || p > 40003 {
			t.Errorf("a flow has port %d, lent %v", p, c.Lent)
		}
	}
	l.Send("c1", TCP("c1", 5003, web, SYN, ""))
	l.Got("c1")
	l.ExpectDrop("c1", dataplane.DropPortsExhausted, 1) // all three are taken for this peer
	if got := outPort(l, header.ProtoTCP, "c2", 5000, "203.0.113.10:80"); got < 40000 || got > 40003 {
		t.Errorf("to another peer it left from %d", got)
	}
	l.Switch.FlushConns(conntrack.Selector{})
	for p := uint16(40000); p < 40004; p++ {
		if l.Claims.Test(1, header.ProtoTCP, p) {
			t.Errorf("port %d is claimed at the end", p)
		}
	}
}

// A container that is counted on its first port loses that one, and with it nothing that
// it has by the other: it has one share before and after, and who has the number next none.
func TestShareSurvivesAReconnect(t *testing.T) {
	const flows = 50
	l := New(t)
	count := func(tenant string) {
		for i := range l.Config.Ports {
			if p := &l.Config.Ports[i]; p.ID == l.Port("c3") || p.ID == l.Port("c2") {
				p.Tenant = l.Port(tenant)
			}
		}
		l.Install()
	}
	has := func(name string) (of [dataplane.NumShared]int) {
		_, shares := l.Switch.Shares()
		for _, s := range shares {
			if s.Tenant == l.Port(name) {
				for n, u := range s.Of {
					of[n] = u.Held
				}
			}
		}
		return of
	}
	l.Publish(8080, "c3", 80)
	count("c2")
	for i := range uint16(flows) {
		if !handshake(l, Families[0], "c3", 5000+i) {
			t.Fatalf("connection %d: %s", i, l.Drops())
		}
		l.Send("up", Inbound(header.ProtoTCP, fmt.Sprintf("203.0.113.9:%d", 5000+i), HostAddr+":8080", SYN, ""))
		l.Got("c3")
	}
	want := has("c2")
	if want[dataplane.SharedFlows] != flows || want[dataplane.SharedReceived] != flows || want[dataplane.SharedPorts] != flows {
		t.Fatalf("%v are counted", want)
	}
	count("c3")
	l.Unplug("c2")
	if got, left := has("c3"), has("c2"); got != want || left != [dataplane.NumShared]int{} {
		t.Errorf("after the move it has %v, want %v; its former number has %v", got, want, left)
	}
	l.Plug("c2")
	count("c2")
	if got, left := has("c2"), has("c3"); got != want || left != [dataplane.NumShared]int{} {
		t.Errorf("counted as before it has %v, want %v; the other number has %v", got, want, left)
	}
	l.Switch.FlushConns(conntrack.Selector{})
	for _, name := range []string{"c2", "c3"} {
		if got := has(name); got != [dataplane.NumShared]int{} {
			t.Errorf("at the end %s has %v", name, got)
		}
	}
}
