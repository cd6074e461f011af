package dataplane_test

import (
	"net/netip"
	"testing"
	"time"

	"github.com/vswitch/vswitch/dataplane"
	"github.com/vswitch/vswitch/dataplane/conntrack"
	"github.com/vswitch/vswitch/dataplane/header"
	. "github.com/vswitch/vswitch/dataplane/switchtest"
)

// TestServerSpeaksFirst: a switch that has just begun does not know the connections to a published
// port. The server goes on with one by the published port, and the connection is opening until the
// client has answered.
func TestServerSpeaksFirst(t *testing.T) {
	for _, f := range Families {
		for _, bound := range []bool{false, true} {
			l := New(t)
			l.DualStack()
			l.PublishFamily(f, 8080, "c1", 80)
			if bound {
				for i := range l.Config.Publish {
					l.Config.Publish[i].HostAddr = header.AddrFrom(netip.MustParseAddr(f.Host))
				}
				l.Install()
			}
			state := func(want string) {
				t.Helper()
				all := l.Switch.Conns()
				if len(all) != 1 || all[0].State != want || all[0].Kind != conntrack.KindPublish || all[0].Port != l.Port("c1") {
					t.Errorf("%s: flows %+v, want one that is %s", f.Name, all, want)
				}
			}
			server := func(flags uint8, seq, ack uint32, n int) {
				t.Helper()
				l.Send("c1", f.From("c1", 80, f.At(f.World, 6000), Packet{Proto: header.ProtoTCP, Flags: flags, Seq: seq, Ack: ack, Payload: make([]byte, n)}))
				if s := See(t, l.Expect("up")); s.From() != f.At(f.Host, 8080) {
					t.Errorf("%s: from %s", f.Name, s.From())
				}
			}
			client := func(flags uint8, seq, ack uint32) []byte {
				return Bytes(Packet{EthSrc: NextHopMAC, EthDst: MAC("up"), Src: f.At(f.World, 6000), Dst: f.At(f.Host, 8080), Proto: header.ProtoTCP, Flags: flags, Seq: seq, Ack: ack})
			}
			server(ACK, 900, 100, 10)
			state("init")
			server(ACK, 900, 100, 10) // nobody has answered: the container proves nothing
			server(ACK, 910, 100, 10)
			l.Send("c1", f.From("c1", 80, f.At(f.World, 6000), Packet{Proto: header.ProtoTCP, Flags: SYN | ACK, Seq: 900, Ack: 100}))
			l.Got("up")
			state("init")
			l.Send("up", client(RST, 500, 0))
			l.ExpectNothing()
			l.Send("up", client(ACK, 100, 920))
			if s := See(t, l.Expect("c1")); s.From() != f.At(f.World, 6000) || s.To() != f.At("c1", 80) {
				t.Errorf("%s: %s to %s", f.Name, s.From(), s.To())
			}
			state("established")
			server(FIN|ACK, 920, 100, 0)
			l.Send("up", client(FIN|ACK, 100, 921))
			l.Expect("c1")
			state("closing")
		}
	}
}

// TestServerSpeaksFirstIsBounded: what is no segment in the middle of a connection to the one
// published port that leads there, and what comes when the switch has run for a while, goes where
// it would go otherwise. What the container may not begin is lost.
func TestServerSpeaksFirstIsBounded(t *testing.T) {
	for _, f := range Families {
		for name, c := range map[string]struct {
			sport uint16
			flags uint8
			do    func(l *Lab)
			lost  dataplane.DropReason
		}{
			"of another port":   {81, ACK, nil, 0},
			"the first segment": {80, SYN, nil, 0},
			"a reset":           {80, RST | ACK, nil, dataplane.DropInvalidState},
			"an answer":         {80, SYN | ACK, nil, dataplane.DropInvalidState},
			"no answer":         {80, FIN, nil, dataplane.DropInvalidState},
			"two ports lead there": {80, ACK, func(l *Lab) {
				l.PublishFamily(f, 8081, "c1", 80)
			}, 0},
			"after a while": {80, ACK, func(l *Lab) {
				for range 60 {
					l.Tock(time.Second)
				}
			}, 0},
			"nobody outside may connect": {80, ACK, func(l *Lab) {
				l.Written = append(l.Written, dataplane.Rule{ID: 71, Tier: dataplane.TierUser, Direction: dataplane.In, Deny: true, Reason: dataplane.DropIsolated, Via: dataplane.ViaPublished})
				l.Install()
			}, 0},
			"it may not begin": {80, ACK, func(l *Lab) {
				l.Written = append(l.Written, dataplane.Rule{ID: 71, Tier: dataplane.TierUser, Direction: dataplane.Out, Deny: true, Reason: dataplane.DropIsolated, From: dataplane.Selector{Sides: dataplane.SideContainer}})
				l.Install()
			}, dataplane.DropUnclaimed},
		} {
			l := New(t)
			l.DualStack()
			l.PublishFamily(f, 8080, "c1", 80)
			if c.do != nil {
				c.do(l)
			}
			l.Send("c1", f.From("c1", c.sport, f.At(f.World, 6000), Packet{Proto: header.ProtoTCP, Flags: c.flags, Seq: 900, Ack: 100}))
			if c.lost != 0 {
				if l.ExpectDrop("c1", c.lost, 1); len(l.Switch.Conns()) != 0 {
					t.Errorf("%s: %s: a flow begins", f.Name, name)
				}
				continue
			}
			if s := See(t, l.Expect("up")); s.From() == f.At(f.Host, 8080) {
				t.Errorf("%s: %s: from the published port", f.Name, name)
			}
		}
	}
}
