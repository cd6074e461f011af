package dataplane_test

import (
	"net/netip"
	"testing"
	"time"

	"github.com/vswitch/vswitch/dataplane"
	"github.com/vswitch/vswitch/dataplane/header"
	. "github.com/vswitch/vswitch/dataplane/switchtest"
)

// What a station's address is announced by reaches its neighbours and the host as what it says
// itself would, and passes its guard.
func TestAnnounce(t *testing.T) {
	l := New(t)
	for i := range l.Config.Ports {
		l.Config.Ports[i].Guarded = l.Config.Ports[i].Kind == dataplane.PortContainer
	}
	l.Install()
	a := header.AddrFrom(netip.MustParseAddr(Stations["c1"]))
	l.Switch.Announce(l.Port("c1"), MAC("c1"), a)
	for range 2 {
		for l.Switch.Step() > 0 {
		}
		l.Tock(time.Second)
	}
	for l.Switch.Step() > 0 {
	}
	for _, at := range []string{"c2", "c3", "host1"} {
		got := l.Got(at)
		if len(got) != 3 || header.MAC(got[0][6:12]) != MAC("c1") || header.MAC(got[0][22:28]) != MAC("c1") {
			t.Errorf("%s got %d frames; drops: %s", at, len(got), l.Drops())
		}
	}
	l.ExpectNothing()
	l.Tock(time.Second)
	l.Switch.Announce(l.Port("c1"), MAC("c2"), a)
	for l.Switch.Step() > 0 {
	}
	l.ExpectNothing() // the guard holds for it, too
}

// A server's message to a DHCP client is kept from its neighbours, also by way of the gateway, and
// not from who is beyond our networks.
func TestDHCPGuardIsForNeighbors(t *testing.T) {
	l := New(t)
	for i := range l.Config.Ports {
		l.Config.Ports[i].Guarded = l.Config.Ports[i].Kind == dataplane.PortContainer
	}
	l.Publish(67, "c1", 67)
	l.Send("up", Inbound(header.ProtoUDP, World+":68", HostAddr+":67", 0, "renew"))
	l.Expect("c1")
	l.Send("c1", UDP("c1", 67, World+":68", "ack"))
	if got := See(t, l.Expect("up")); got.From() != HostAddr+":67" {
		t.Errorf("the answer is from %s", got.From())
	}
	for _, to := range []string{"c2", "c4"} {
		p := From("c1", Stations[to]+":68", Packet{Src: Stations["c1"] + ":67", Proto: header.ProtoUDP})
		p.EthDst = MAC("host1")
		l.Send("c1", Bytes(p))
	}
	l.ExpectDrop("c1", dataplane.DropDHCPServer, 2)
}
