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

// A port that is published at every address leads at the gateway of another network of its container's
// to the address there; not where names are answered, and not where somebody publishes the same
// port at that gateway.
func TestPublishedAtTheGatewayOfAnotherNetwork(t *testing.T) {
	l := New(t)
	publish := func(at string, port uint16, to string, inside bool) {
		for _, proto := range []uint8{header.ProtoTCP, header.ProtoUDP} {
			p := dataplane.PublishConfig{
				Proto: proto, HostFirst: port, HostLast: port, ContainerAddr: header.AddrFrom(netip.MustParseAddr(Stations[to])), ContainerFirst: 80, Inside: inside,
			}
			if at != "" {
				p.HostAddr = header.AddrFrom(netip.MustParseAddr(at))
			}
			l.Config.Publish = append(l.Config.Publish, p)
		}
	}
	for _, port := range []uint16{8080, 8081, dataplane.PortOfNames} {
		publish("10.2.0.1", port, "c4", true) // c4 stands for the container's end in network 2
		publish("", port, "c1", false)
	}
	publish("10.2.0.1", 8081, "c2", false)
	l.Config.Networks[1].Names = true
	l.Install()
	for _, tc := range []struct {
		dst, to string
	}{{"10.2.0.1:8080", "c4"}, {"10.2.0.1:8081", "c2"}, {"10.2.0.1:53", "host2"}, {"10.1.0.1:8080", "c1"}, {HostAddr + ":8080", "c1"}} {
		l.Send("c4", UDP("c4", 5000, tc.dst, "x"))
		l.Expect(tc.to)
	}
}
