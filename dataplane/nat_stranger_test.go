package dataplane_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/vswitch/vswitch/control/policy"
	"github.com/vswitch/vswitch/dataplane/conntrack"
	"github.com/vswitch/vswitch/dataplane/header"
	. "github.com/vswitch/vswitch/dataplane/switchtest"
)

// TestS31AStrangersConnectionIsClaimed: a connection that a stranger has begun at a mapping that
// is open, and that both ends have shown to want, is known by itself, so that a program of the
// host which binds the port takes new ones alone. SYNs, answered or refused, cost no claim, and
// the claim ends with the connection.
func TestS31AStrangersConnectionIsClaimed(t *testing.T) {
	l := New(t)
	eachPolicy(l, func(n *policy.Network) { n.Filter = policy.FilterEIF })
	l.Advance(121 * time.Second)
	e := fmt.Sprintf("%s:%d", HostAddr, outPort(l, header.ProtoTCP, "c1", 5000, web))
	own := l.Peers.Len()
	from := func(i int) string { return fmt.Sprintf("203.0.113.10:%d", 1000+i) }
	world := func(from string, flags uint8, seq, ack uint32) []byte {
		return Bytes(Packet{EthSrc: NextHopMAC, EthDst: MAC("up"), Src: from, Dst: e, Proto: header.ProtoTCP, Flags: flags, Seq: seq, Ack: ack})
	}
	back := func(to string, flags uint8, seq, ack uint32) []byte {
		return Bytes(From("c1", to, Packet{Src: "10.1.0.11:5000", Proto: header.ProtoTCP, Flags: flags, Seq: seq, Ack: ack}))
	}
	for i := range 10 { // of a flood: the container answers, or refuses
		l.Send("up", world(from(i), SYN, 100, 0))
		l.Expect("c1")
		l.Send("c1", back(from(i), [2]uint8{SYN | ACK, RST | ACK}[i%2], 500, 101))
		l.Expect("up")
		l.Send("up", world(from(i), ACK, 101, 9000)) // who cannot know the number
		l.Got("c1")
	}
	if n := l.Peers.Len(); n != own {
		t.Fatalf("%d peers are claimed of strangers that nobody believes", n-own)
	}
	l.Send("up", world(from(0), ACK, 101, 501))
	l.Expect("c1")
	if n := l.Peers.Len(); n != own+1 {
		t.Fatalf("%d peers are claimed of a connection that a stranger began, want 1", n-own)
	}
	for range 3 {
		l.Send("up", world(from(0), ACK, 101, 501))
		l.Expect("c1")
	}
	// Its tuple is opened anew: one claim goes on.
	l.Send("up", world(from(0), ACK|RST, 101, 0))
	l.Expect("c1")
	l.Send("up", world(from(0), SYN, 7000, 0))
	l.Expect("c1")
	l.Send("c1", back(from(0), SYN|ACK, 9000, 7001))
	l.Expect("up")
	l.Send("up", world(from(0), ACK, 7001, 9001))
	l.Expect("c1")
	if n := l.Peers.Len(); n != own+1 {
		t.Fatalf("%d peers are claimed of a connection that was opened twice, want 1", n-own)
	}
	l.Switch.FlushConns(conntrack.Selector{Kinds: conntrack.Only(conntrack.KindInbound)})
	if n := l.Peers.Len(); n != own {
		t.Fatalf("%d peers are claimed of connections that have ended", n-own)
	}
}
