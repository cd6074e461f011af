package dataplane_test

import (
	"net/netip"
	"testing"

	"github.com/vswitch/vswitch/dataplane"
	"github.com/vswitch/vswitch/dataplane/header"
	. "github.com/vswitch/vswitch/dataplane/switchtest"
)

// A container speaks from the UDP port that it has published as the published port, also
// when it speaks first, and when it was published later; without it as any other.
func TestPublishedPortIsTheSource(t *testing.T) {
	l := New(t)
	publish := func(port, target uint16) {
		l.Config.Publish = append(l.Config.Publish, dataplane.PublishConfig{
			Proto: header.ProtoUDP, HostFirst: port, HostLast: port + 9, ContainerAddr: header.AddrFrom(netip.MustParseAddr(Stations["c1"])), ContainerFirst: target,
		})
		l.Install()
	}
	before := len(l.Config.Publish)
	if p := outPort(l, header.ProtoUDP, "c1", 30003, web); p == 20003 {
		t.Fatalf("left from %d", p)
	}
	publish(20000, 30000)
	for _, to := range []string{web, World + ":5004"} {
		if p := outPort(l, header.ProtoUDP, "c1", 30003, to); p != 20003 {
			t.Errorf("to %s from %d, want 20003", to, p)
		}
	}
	l.Send("up", Inbound(header.ProtoUDP, web, HostAddr+":20003", 0, "answer"))
	l.Expect("c1")
	l.Send("up", Inbound(header.ProtoUDP, World+":77", HostAddr+":20003", 0, "a client"))
	l.Expect("c1")
	if p := outPort(l, header.ProtoUDP, "c2", 30003, web); p == 20003 {
		t.Error("another container left from a port that is not its own")
	}
	if p := outPort(l, header.ProtoTCP, "c1", 30003, web); p == 20003 {
		t.Error("TCP left from a UDP port")
	}
	l.Config.Publish = l.Config.Publish[:before]
	l.Install()
	if p := outPort(l, header.ProtoUDP, "c1", 30003, web); p == 20003 {
		t.Error("left from a port that is published no more")
	}
}
