package dataplane_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/vswitch/vswitch/dataplane"
	"github.com/vswitch/vswitch/dataplane/conntrack"
	"github.com/vswitch/vswitch/dataplane/header"
	. "github.com/vswitch/vswitch/dataplane/switchtest"
)

// openAndClose runs a whole TCP flow from c1 and reports whether it began.
func openAndClose(l *Lab, sport uint16) bool {
	l.T.Helper()
	seq := func(p Packet) []byte { return Bytes(From("c1", web, p)) }
	src := fmt.Sprintf("10.1.0.11:%d", sport)
	l.Send("c1", seq(Packet{Src: src, Proto: header.ProtoTCP, Flags: SYN, Seq: 100}))
	out := l.Got("up")
	if len(out) != 1 {
		return false
	}
	e := See(l.T, out[0]).From()
	back := func(flags uint8, s, a uint32) []byte {
		return Bytes(Packet{EthSrc: NextHopMAC, EthDst: MAC("up"), Src: web, Dst: e, Proto: header.ProtoTCP, Flags: flags, Seq: s, Ack: a})
	}
	l.Send("up", back(SYN|ACK, 500, 101))
	l.Send("c1", seq(Packet{Src: src, Proto: header.ProtoTCP, Flags: FIN | ACK, Seq: 101, Ack: 501}))
	l.Send("up", back(FIN|ACK, 501, 102))
	l.Got("up")
	l.Got("c1")
	return true
}

// Short connections one after the other, for hours: none is kept out by those
// before it, which are closed and kept for late packets only.
func TestShortConnectionsAreNeverKeptOut(t *testing.T) {
	t.Run("by the quota", func(t *testing.T) {
		l := New(t)
		for i := range l.Config.Ports {
			l.Config.Ports[i].Quota = conntrack.Quota{Flows: 100}
		}
		l.Install()
		for i := range 1000 {
			if !openAndClose(l, uint16(10000+i)) {
				t.Fatalf("connection %d was refused: %s", i, l.Drops())
			}
		}
	})
	t.Run("by the ports", func(t *testing.T) {
		l := New(t)
		l.Config.MasqueradePorts = []conntrack.PortRange{{First: 61000, Last: 61049}}
		l.Install()
		for i := range 1000 {
			if !openAndClose(l, uint16(10000+i)) {
				t.Fatalf("connection %d was refused: %s", i, l.Drops())
			}
		}
	})
	t.Run("by the table", func(t *testing.T) {
		l := New(t) // 4096 flows
		for i := range 10000 {
			if !openAndClose(l, uint16(10000+i)) {
				t.Fatalf("connection %d was refused: %s", i, l.Drops())
			}
		}
	})
}

// Nobody in need, a closed flow stays for its four minutes; an established one
// makes no room.
func TestClosedFlowsMakeRoomOnlyInNeed(t *testing.T) {
	l := New(t)
	l.Config.MasqueradePorts = []conntrack.PortRange{{First: 61000, Last: 61001}}
	l.Install()
	openAndClose(l, 10000)
	l.Advance(200 * time.Second)
	if n := len(l.Switch.Conns()); n != 1 {
		t.Errorf("%d flows 200 s after the end of one, want it", n)
	}
	for sport := uint16(20000); sport < 20002; sport++ {
		l.Send("c1", TCP("c1", sport, web, SYN, ""))
		e := See(t, l.Expect("up")).From()
		l.Send("up", Inbound(header.ProtoTCP, web, e, SYN|ACK, ""))
		l.Expect("c1")
	}
	l.Send("c1", TCP("c1", 20002, web, SYN, ""))
	if n := l.Dropped("c1", dataplane.DropPortsExhausted); n != 1 {
		t.Errorf("%d refused, want the one that found two established flows: %s", n, l.Drops())
	}
}
