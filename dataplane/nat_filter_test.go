package dataplane_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/vswitch/vswitch/control/policy"
	"github.com/vswitch/vswitch/dataplane"
	"github.com/vswitch/vswitch/dataplane/header"
	. "github.com/vswitch/vswitch/dataplane/switchtest"
)

// RFC 4787 REQ-8, RFC 5382 REQ-3, RFC 6888 REQ-7: filtering is by address and
// port unless a network asks for endpoint-independent filtering.
func TestN09N22N76FilteringIsConfigured(t *testing.T) {
	for _, proto := range portProtos {
		for _, filter := range []policy.Filter{policy.FilterAPDF, policy.FilterEIF} {
			l := New(t)
			eachPolicy(l, func(n *policy.Network) { n.Filter = filter })
			l.Advance(121 * time.Second)
			e := fmt.Sprintf("%s:%d", HostAddr, outPort(l, proto, "c1", 5000, web))
			strangers := []string{"203.0.113.10:80", World + ":81"}
			for n, from := range strangers {
				l.Send("up", Inbound(proto, from, e, SYN, "stranger"))
				if filter == policy.FilterAPDF {
					l.ExpectDrop("up", dataplane.DropUnclaimed, uint64(n+1))
					continue
				}
				if got := See(t, l.Expect("c1")); got.From() != from || got.To() != "10.1.0.11:5000" {
					t.Errorf("a stranger arrived as %s -> %s", got.From(), got.To())
				}
				back := firstPacket(proto, "c1", 5000, from)
				if proto == header.ProtoTCP {
					back = TCP("c1", 5000, from, SYN|ACK, "")
				}
				l.Send("c1", back)
				if got := See(t, l.Expect("up")); got.From() != e || got.To() != from {
					t.Errorf("the stranger was answered by %s -> %s", got.From(), got.To())
				}
			}
		}
	}
}

// A network that no longer lets strangers in does so for the mappings that are
// there, and for the flows that strangers began.
func TestN09FilterOfANetworkChanges(t *testing.T) {
	for _, proto := range portProtos {
		l := New(t)
		eachPolicy(l, func(n *policy.Network) { n.Filter = policy.FilterEIF })
		l.Advance(121 * time.Second)
		e := fmt.Sprintf("%s:%d", HostAddr, outPort(l, proto, "c1", 5000, web))
		stranger := Inbound(proto, "203.0.113.10:80", e, SYN, "stranger")
		l.Send("up", stranger)
		l.Expect("c1")
		eachPolicy(l, func(n *policy.Network) { n.Filter = policy.FilterAPDF })
		l.Send("up", stranger)
		l.ExpectDrop("up", dataplane.DropUnclaimed, 1)
		l.Send("up", Inbound(proto, "203.0.113.10:81", e, SYN, "another"))
		l.ExpectDrop("up", dataplane.DropUnclaimed, 2)
		l.Send("up", Inbound(proto, web, e, SYN|ACK, "answer"))
		l.Expect("c1")
	}
}

// RFC 7857 section 6: endpoint-independent filtering is for each protocol.
func TestN66EIFIsPerProtocol(t *testing.T) {
	l := New(t)
	eachPolicy(l, func(n *policy.Network) { n.Filter = policy.FilterEIF })
	l.Advance(121 * time.Second)
	e := fmt.Sprintf("%s:%d", HostAddr, outPort(l, header.ProtoTCP, "c1", 5000, web))
	l.Send("up", Inbound(header.ProtoUDP, "203.0.113.10:80", e, 0, "x"))
	l.ExpectDrop("up", dataplane.DropUnclaimed, 1)
}

// RFC 7857 section 7: neither what was filtered, nor strangers, nor ICMP errors
// and RSTs that answer them keep a mapping alive.
func TestN67OnlyTheContainerKeepsAMappingAlive(t *testing.T) {
	for _, filter := range []policy.Filter{policy.FilterAPDF, policy.FilterEIF} {
		for _, proto := range portProtos {
			l := New(t)
			eachPolicy(l, func(n *policy.Network) { n.Filter = filter })
			l.Advance(121 * time.Second)
			e := fmt.Sprintf("%s:%d", HostAddr, outPort(l, proto, "c1", 5000, web))
			life := 120
			if proto == header.ProtoTCP {
				life = 240
			}
			for at := 30; at <= life+60; at += 30 {
				l.Advance(30 * time.Second)
				l.Send("up", Inbound(proto, "203.0.113.10:80", e, SYN, "stranger"))
				got := l.Got("c1")
				if want := filter == policy.FilterEIF && at < life; (len(got) == 1) != want {
					t.Fatalf("filter %d, protocol %d, %d s: arrived %v, want %v; drops %s", filter, proto, at, len(got) == 1, want, l.Drops())
				}
				if len(got) == 0 {
					continue
				}
				answer := icmpError(From("c1", "203.0.113.10", Packet{Src: "10.1.0.11"}), 3, 3, got[0])
				if proto == header.ProtoTCP && at%60 == 0 {
					answer = Bytes(From("c1", "203.0.113.10:80", Packet{Src: "10.1.0.11:5000", Proto: proto, Flags: RST | ACK, Ack: 9}))
				}
				l.Send("c1", answer)
				l.Expect("up")
			}
			if n := len(l.Switch.Conns()); n > life/30 {
				t.Errorf("%d flows", n)
			}
		}
	}
}

// One stranger was answered once: for the rest of the time it speaks alone, and
// what it says keeps nothing alive.
func TestN67AnAnsweredStranger(t *testing.T) {
	l := New(t)
	eachPolicy(l, func(n *policy.Network) { n.Filter = policy.FilterEIF })
	l.Advance(121 * time.Second)
	e := fmt.Sprintf("%s:%d", HostAddr, outPort(l, header.ProtoUDP, "c1", 5000, web))
	stranger := Inbound(header.ProtoUDP, "203.0.113.10:80", e, 0, "x")
	l.Send("up", stranger)
	l.Expect("c1")
	l.Send("c1", UDP("c1", 5000, "203.0.113.10:80", "answer"))
	l.Expect("up")
	for at := 30; at <= 330; at += 30 {
		l.Advance(30 * time.Second)
		l.Send("up", stranger)
		if got := len(l.Got("c1")); (got == 1) != (at < 300) {
			t.Fatalf("%d s after the answer %d packets arrived; drops %s", at, got, l.Drops())
		}
	}
}
