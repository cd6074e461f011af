package dataplane_test

import (
	"net/netip"
	"testing"

	"github.com/vswitch/vswitch/dataplane"
	"github.com/vswitch/vswitch/dataplane/header"
	. "github.com/vswitch/vswitch/dataplane/switchtest"
)

// The broadcast address of another link ends at once: no router forwards it (RFC 2644), nobody
// is asked for its MAC address, and no error is owed (RFC 1122, 3.2.2).
func TestDirectedBroadcast(t *testing.T) {
	l := New(t)
	l.Config.Routes = append(l.Config.Routes, dataplane.RouteConfig{Prefix: netip.MustParsePrefix("198.51.100.255/32"), Kind: dataplane.RouteBroadcast})
	l.Install()
	l.Send("c1", UDP("c1", 5000, "198.51.100.255:9", "x"))
	l.ExpectNothing()
	if got := l.Switch.Stats().Drops[dataplane.DropBroadcast]; got != 1 {
		t.Errorf("dropped as broadcast: %d frames; %s", got, l.Drops())
	}
	// Its own link's, to the gateway.
	l.Send("c1", Bytes(Packet{EthSrc: MAC("c1"), EthDst: header.Broadcast, Src: Stations["c1"] + ":1", Dst: "10.1.0.255:9", Proto: header.ProtoUDP}))
	if got := l.Got("c2"); len(got) != 1 {
		t.Errorf("a broadcast in its network reached c2 %d times", len(got))
	}
}
