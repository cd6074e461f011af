package dataplane_test

import (
	"testing"

	"github.com/vswitch/vswitch/dataplane"
	"github.com/vswitch/vswitch/dataplane/header"
	. "github.com/vswitch/vswitch/dataplane/switchtest"
)

// With host access off a container opens no flow to any address of the host, by
// unicast, broadcast or fragments; it still answers what the host begins, and
// published ports are not concerned.
func TestC11NoHostAccess(t *testing.T) {
	l := New(t)
	l.Policy[0].NoHostAccess = true
	l.Publish(8080, "c2", 80)
	for _, dst := range []string{"10.1.0.1", HostAddr, "10.2.0.1"} {
		for name, f := range map[string][]byte{
			"udp":  UDP("c1", 5000, dst+":53", "x"),
			"tcp":  TCP("c1", 5000, dst+":22", SYN, ""),
			"ack":  TCP("c1", 5001, dst+":22", ACK, "x"),
			"ping": Bytes(From("c1", dst, Packet{Src: Stations["c1"], Proto: header.ProtoICMP, Type: 8, ID: 7})),
			"gre":  Bytes(From("c1", dst, Packet{Src: Stations["c1"], Proto: 47, Payload: []byte("x")})),
		} {
			l.Send("c1", f)
			if got := l.Got("host1"); len(got) > 0 {
				t.Errorf("%s to %s reached the host: %s", name, dst, Describe(got[0]))
			}
			for _, f := range l.Got("c1") {
				if s := See(t, f); s.Proto != header.ProtoICMP || f[header.EthernetLen+20] != 3 || f[header.EthernetLen+21] != 13 {
					t.Errorf("%s to %s was answered by %s", name, dst, Describe(f))
				}
			}
		}
		for _, f := range Fragment(UDP("c1", 5000, dst+":53", string(make([]byte, 1000))), 512) {
			l.Send("c1", f)
			if got := l.Got("host1"); len(got) > 0 {
				t.Errorf("a fragment to %s reached the host", dst)
			}
		}
		l.Got("c1")
	}
	if n := l.Dropped("c1", dataplane.DropHostAccess); n == 0 {
		t.Errorf("drops: %s", l.Drops())
	}
	group := Bytes(Packet{EthSrc: MAC("c1"), EthDst: header.MAC{1, 0, 0x5e, 0, 0, 0xfb}, Src: "10.1.0.11:5353", Dst: "224.0.0.251:5353", Proto: header.ProtoUDP})
	all := Bytes(Packet{EthSrc: MAC("c1"), EthDst: header.Broadcast, Src: "10.1.0.11:137", Dst: "10.1.0.255:137", Proto: header.ProtoUDP})
	for _, f := range [][]byte{group, all} {
		l.Send("c1", f)
		if len(l.Got("c2")) != 1 || len(l.Got("host1")) != 0 {
			t.Errorf("flooded to the host, or not to a peer: %s", Describe(f))
		}
		l.Got("c3")
	}

	// What the host begins.
	fromHost := func(p Packet) []byte {
		p.EthSrc, p.EthDst = MAC("host1"), MAC("c1")
		return Bytes(p)
	}
	l.Send("host1", fromHost(Packet{Src: "10.1.0.1:4000", Dst: "10.1.0.11:80", Proto: header.ProtoTCP, Flags: SYN}))
	if got := See(t, l.Expect("c1")); got.From() != "10.1.0.1:4000" || got.To() != "10.1.0.11:80" {
		t.Errorf("the host's connection arrived as %+v", got)
	}
	l.Send("c1", TCP("c1", 80, "10.1.0.1:4000", SYN|ACK, ""))
	if got := See(t, l.Expect("host1")); got.To() != "10.1.0.1:4000" {
		t.Errorf("the answer to the host is %+v", got)
	}
	l.Send("c1", TCP("c1", 81, "10.1.0.1:4000", SYN|ACK, ""))
	if got := l.Got("host1"); len(got) > 0 {
		t.Errorf("what is no answer reached the host: %s", Describe(got[0]))
	}
	l.Got("c1")
	q := fromHost(Packet{Src: "10.1.0.1:4000", Dst: "10.1.0.11:53", Proto: header.ProtoUDP, Payload: []byte("x")})
	l.Send("host1", q)
	q = l.Expect("c1")
	l.Send("c1", icmpError(From("c1", "10.1.0.1", Packet{Src: Stations["c1"]}), 3, 3, q))
	if got := l.Got("host1"); len(got) != 1 {
		t.Errorf("the host got %d errors about its datagram; drops: %s", len(got), l.Drops())
	}

	// Published ports, the world, and another network's access.
	l.Send("c1", TCP("c1", 6000, HostAddr+":8080", SYN, ""))
	if got := See(t, l.Expect("c2")); got.To() != "10.1.0.12:80" {
		t.Errorf("the published port led to %+v", got)
	}
	l.Send("c1", UDP("c1", 6000, web, "x"))
	l.Expect("up")
	l.Send("c4", UDP("c4", 6000, "10.2.0.1:53", "x"))
	l.Expect("host2")
}

// An error about a flow that may not go on any more is of no flow.
func TestErrorsOfForbiddenFlows(t *testing.T) {
	l := New(t)
	l.Send("c1", UDP("c1", 5000, World+":53", "x"))
	out := l.Expect("up")
	say := func() {
		l.Send("up", icmpError(Packet{EthSrc: NextHopMAC, EthDst: MAC("up"), Src: World, Dst: HostAddr}, 3, 3, out))
	}
	say()
	l.Expect("c1")
	l.Policy[0].Internal = true
	l.Install()
	say()
	if got := l.Got("c1"); len(got) > 0 {
		t.Errorf("c1 got %s", Describe(got[0]))
	}
	l.ExpectDrop("up", dataplane.DropUnmatchedError, 1)
}

// TestS63UnicastInAFrameForMany: a packet for an address of the host in a broadcast or
// multicast frame is not the host's, whose relay would take it to a published port around
// the policy of who sent it (RFC 1122, 3.3.6). One for many is.
func TestS63UnicastInAFrameForMany(t *testing.T) {
	l := New(t)
	for _, mac := range []header.MAC{header.Broadcast, {1, 0, 0x5e, 0, 0, 5}, {0x33, 0x33, 0, 0, 0, 1}} {
		for _, dst := range []string{"10.1.0.1", HostAddr, "10.2.0.1"} {
			l.Send("c1", Bytes(Packet{EthSrc: MAC("c1"), EthDst: mac, Src: "10.1.0.11:5000", Dst: dst + ":8080", Proto: header.ProtoUDP, Payload: []byte("x")}))
			if host, c2 := len(l.Got("host1")), len(l.Got("c2")); host != 0 || c2 != 1 {
				t.Errorf("to %s in a frame to %s: the host gets %d, a neighbour %d", dst, mac, host, c2)
			}
			l.Got("c3")
		}
	}
	for _, dst := range []string{"10.1.0.255", "255.255.255.255", "224.0.0.251"} {
		l.Send("c1", Bytes(Packet{EthSrc: MAC("c1"), EthDst: header.Broadcast, Src: "10.1.0.11:5000", Dst: dst + ":137", Proto: header.ProtoUDP, Payload: []byte("x")}))
		if host, c2 := len(l.Got("host1")), len(l.Got("c2")); host != 1 || c2 != 1 {
			t.Errorf("to %s: the host gets %d, a neighbour %d", dst, host, c2)
		}
		l.Got("c3")
	}
}
