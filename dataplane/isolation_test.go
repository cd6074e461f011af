package dataplane_test

import (
	"testing"

	"github.com/vswitch/vswitch/control/policy"
	"github.com/vswitch/vswitch/dataplane"
	"github.com/vswitch/vswitch/dataplane/frame"
	"github.com/vswitch/vswitch/dataplane/header"
	. "github.com/vswitch/vswitch/dataplane/switchtest"
)

var noOffload frame.Offload

// between are the ways from c1 to another container.
func between(to, addr string) map[string][]byte {
	return map[string][]byte{
		"Ethernet":    l2(MAC(to), MAC("c1"), "x"),
		"IP by L2":    Bytes(Packet{EthSrc: MAC("c1"), EthDst: MAC(to), Src: "10.1.0.11:1", Dst: addr + ":80", Proto: header.ProtoUDP, Payload: []byte("x")}),
		"IP by gw":    UDP("c1", 5000, addr+":80", "x"),
		"TCP by gw":   TCP("c1", 5000, addr+":80", SYN, ""),
		"ping by gw":  Bytes(From("c1", addr, Packet{Src: "10.1.0.11", Proto: header.ProtoICMP, Type: 8, ID: 1})),
		"link-local":  V6(MAC(to), MAC("c1"), LinkLocal(MAC("c1")), LinkLocal(MAC(to)), header.ProtoUDP, 64, []byte{1, 1, 1, 2, 0, 8, 0, 0}),
		"multicast":   Bytes(Packet{EthSrc: MAC("c1"), EthDst: GroupMAC("239.1.2.3"), Src: "10.1.0.11:1", Dst: "239.1.2.3:80", Proto: header.ProtoUDP, Payload: []byte("x")}),
		"all nodes":   V6(GroupMAC("ff02::1"), MAC("c1"), LinkLocal(MAC("c1")), "ff02::1", header.ProtoICMPv6, 64, ICMPv6(LinkLocal(MAC("c1")), "ff02::1", 128, make([]byte, 4))),
		"broadcast":   l2(header.Broadcast, MAC("c1"), "x"),
		"ARP":         WhoHas("c1", addr),
		"ARP unicast": ARP(MAC(to), MAC("c1"), 1, MAC("c1"), "10.1.0.11", header.MAC{}, addr),
		"unknown":     l2(stranger, MAC("c1"), "x"),
	}
}

// Nothing passes from one network to another.
func TestL15NetworksAreIsolated(t *testing.T) {
	ways := between("c4", "10.2.0.11")
	ways["by the gateway of the other"] = Bytes(Packet{EthSrc: MAC("c1"), EthDst: MAC("host2"), Src: "10.1.0.11:1", Dst: "10.2.0.11:80", Proto: header.ProtoUDP})
	ways["by an unpublished port of the host"] = UDP("c1", 5000, HostAddr+":9999", "x")
	ways["with the other's source"] = Bytes(Packet{EthSrc: MAC("c1"), EthDst: MAC("host1"), Src: "10.2.0.12:1", Dst: "10.2.0.11:80", Proto: header.ProtoUDP})
	for name, f := range ways {
		for _, guard := range []bool{true, false} {
			t.Run(name, func(t *testing.T) {
				l := New(t)
				if guard {
					l.Guard()
				}
				l.Publish(8080, "c4", 80)
				l.Send("c1", f)
				for _, at := range []string{"c4", "c5", "host2", "host3"} {
					if got := l.Got(at); len(got) > 0 {
						t.Errorf("%s got %s", at, Describe(got[0]))
					}
				}
			})
		}
	}
}

// With icc=false containers of one network reach the gateway only.
func TestL16IsolatedPorts(t *testing.T) {
	for name, f := range between("c2", "10.1.0.12") {
		t.Run(name, func(t *testing.T) {
			l := guarded(t)
			l.Policy[0].Isolated = true
			l.Install()
			l.Send("c1", f)
			for _, at := range []string{"c2", "c3"} {
				if got := l.Got(at); len(got) > 0 {
					t.Errorf("%s got %s", at, Describe(got[0]))
				}
			}
		})
	}
	t.Run("gateway, world and published ports", func(t *testing.T) {
		l := guarded(t)
		l.Policy[0].Isolated = true
		l.Publish(8080, "c2", 80)
		l.Send("c1", UDP("c1", 5000, "10.1.0.1:53", "x"))
		l.Expect("host1")
		l.Send("host1", Bytes(Packet{EthSrc: MAC("host1"), EthDst: MAC("c2"), Src: "10.1.0.1:53", Dst: "10.1.0.12:5000", Proto: header.ProtoUDP}))
		l.Expect("c2")
		l.Send("c1", UDP("c1", 5000, World+":53", "x"))
		l.Expect("up")
		l.Send("c1", UDP("c1", 5000, HostAddr+":8080", "x"))
		l.Expect("c2")
		l.Send("c1", WhoHas("c1", "10.1.0.1"))
		expectARP(t, l, "c1", "10.1.0.1", MAC("host1"))
	})
	t.Run("one port of a network", func(t *testing.T) {
		l := guarded(t)
		for _, c := range []string{"c1", "c2"} {
			l.Configure(c, func(p *dataplane.PortConfig) { p.Groups = []dataplane.GroupID{policy.Isolated} })
		}
		l.Send("c1", l2(MAC("c2"), MAC("c1"), "x"))
		l.ExpectDrop("c1", dataplane.DropIsolatedPort, 1)
		l.Send("c1", l2(MAC("c3"), MAC("c1"), "x"))
		l.Expect("c3")
		l.Send("c1", WhoHas("c1", "10.1.0.12"))
		l.ExpectDrop("c1", dataplane.DropIsolatedPort, 2)
	})
	t.Run("nobody to flood to is counted", func(t *testing.T) {
		l := New(t)
		l.Policy[2].Isolated = true
		l.Config.Networks[2].HostPort = frame.NoPort
		for i := range l.Config.Ports {
			if l.Config.Ports[i].ID == l.Port("host3") {
				l.Config.Ports = append(l.Config.Ports[:i], l.Config.Ports[i+1:]...)
				break
			}
		}
		l.Install()
		l.Send("c5", l2(header.Broadcast, MAC("c5"), "x"))
		l.ExpectDrop("c5", dataplane.DropNobody, 1)
	})
}
