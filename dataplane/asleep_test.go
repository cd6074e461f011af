package dataplane_test

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/vswitch/vswitch/dataplane"
	"github.com/vswitch/vswitch/dataplane/conntrack"
	"github.com/vswitch/vswitch/dataplane/header"
	. "github.com/vswitch/vswitch/dataplane/switchtest"
)

// newAddr is an address of the host that takes the place of HostAddr.
const newAddr = "198.51.100.33"

// moves takes HostAddr from the host, or gives it back; with says that newAddr is there in its
// place, from which containers then leave.
func moves(l *Lab, there, with bool) {
	l.T.Helper()
	e, n := netip.MustParseAddr(HostAddr), netip.MustParseAddr(newAddr)
	l.Config.Routes = slices.DeleteFunc(l.Config.Routes, func(r dataplane.RouteConfig) bool { return r.Kind == dataplane.RouteLocal })
	l.Config.Uplinks[0].Slots = map[netip.Addr]int{e: 1, n: 2}
	source := e
	if there {
		l.Config.Routes = append(l.Config.Routes, dataplane.RouteConfig{Prefix: netip.PrefixFrom(e, 32), Kind: dataplane.RouteLocal})
	}
	if with {
		l.Config.Routes = append(l.Config.Routes, dataplane.RouteConfig{Prefix: netip.PrefixFrom(n, 32), Kind: dataplane.RouteLocal})
		source = n
	}
	for i := range l.Config.Routes {
		if l.Config.Routes[i].Kind == dataplane.RouteUplink {
			l.Config.Routes[i].Source = source
		}
	}
	l.Install()
}

// fromServer is what c1 sends from its port 80 to a client.
func fromServer(proto uint8, text string) []byte {
	if proto == header.ProtoTCP {
		return TCP("c1", 80, web, SYN|ACK, "")
	}
	return UDP("c1", 80, web, text)
}

// A flow whose address of the host is away is asleep: nothing leaves with it, and it goes on
// when the address returns.
func TestFlowsSleepWithTheirAddress(t *testing.T) {
	for _, proto := range portProtos {
		l := New(t)
		l.Publish(8080, "c1", 80)
		l.Send("up", Inbound(proto, web, HostAddr+":8080", SYN, ""))
		l.Expect("c1")
		l.Send("c2", firstPacket(proto, "c2", 4000, web))
		out := See(t, l.Expect("up"))
		moves(l, false, false)
		l.Send("c1", fromServer(proto, "x"))
		l.ExpectDrop("c1", dataplane.DropAsleep, 1)
		l.Send("c2", firstPacket(proto, "c2", 4000, web))
		l.ExpectDrop("c2", dataplane.DropAsleep, 1)
		moves(l, true, false)
		l.Send("c1", fromServer(proto, "x"))
		if got := See(t, l.Expect("up")); got.From() != HostAddr+":8080" {
			t.Errorf("the answer comes from %s", got.From())
		}
		l.Send("c2", firstPacket(proto, "c2", 4000, web))
		if got := See(t, l.Expect("up")); got.From() != out.From() {
			t.Errorf("the flow went on from %s, was %s", got.From(), out.From())
		}
	}
}

// A flow that is asleep yields to one that needs its tuple: its peer's by the new address, and its
// container's by another way out.
func TestFlowsThatSleepYield(t *testing.T) {
	for _, proto := range portProtos {
		l := New(t)
		l.Publish(8080, "c1", 80)
		l.Send("up", Inbound(proto, web, HostAddr+":8080", SYN, ""))
		l.Expect("c1")
		moves(l, false, false)
		l.Send("c1", fromServer(proto, "keepalive"))
		l.ExpectNothing()
		moves(l, false, true)
		l.Send("up", Inbound(proto, web, newAddr+":8080", SYN, ""))
		l.Expect("c1")
		l.Send("c1", fromServer(proto, "x"))
		if got := See(t, l.Expect("up")); got.From() != newAddr+":8080" {
			t.Errorf("protocol %d: the answer comes from %s", proto, got.From())
		}
	}
	l := New(t)
	l.Publish(8080, "c1", 80)
	l.Send("up", Inbound(header.ProtoUDP, web, HostAddr+":8080", 0, ""))
	l.Expect("c1")
	moves(l, false, true)
	l.Send("c1", UDP("c1", 80, web, "keepalive"))
	if got := See(t, l.Expect("up")); got.From() != newAddr+":8080" {
		t.Errorf("the server speaks on from %s", got.From())
	}
}

// What is left of the flows of an address ends by its name.
func TestFlowsOfAnAddressEnd(t *testing.T) {
	l := New(t)
	l.Publish(8080, "c1", 80)
	l.Send("up", Inbound(header.ProtoUDP, web, HostAddr+":8080", 0, ""))
	l.Send("c2", UDP("c2", 4000, web, ""))
	l.Send("c3", UDP("c3", 4000, Stations["c2"]+":9", ""))
	if n := l.Switch.FlushConns(conntrack.Selector{At: netip.MustParseAddr(newAddr)}); n != 0 {
		t.Errorf("%d flows of another address ended", n)
	}
	if n := l.Switch.FlushConns(conntrack.Selector{At: netip.MustParseAddr(HostAddr)}); n != 2 {
		t.Errorf("%d flows ended, want those in and out", n)
	}
}
