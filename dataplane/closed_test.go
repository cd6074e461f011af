package dataplane_test

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/vswitch/vswitch/control/policy"
	"github.com/vswitch/vswitch/dataplane"
	"github.com/vswitch/vswitch/dataplane/header"
	. "github.com/vswitch/vswitch/dataplane/switchtest"
)

// isolatedModes are the ways in which a network has no gateway, by the families of which
// it has none.
var isolatedModes = map[string]struct {
	modes  [2]policy.GatewayMode
	change func(*policy.Network)
}{
	"both":                  {[2]policy.GatewayMode{policy.GatewayIsolated, policy.GatewayIsolated}, nil},
	"both, internal":        {[2]policy.GatewayMode{policy.GatewayIsolated, policy.GatewayIsolated}, func(n *policy.Network) { n.Internal = true }},
	"both, no host access":  {[2]policy.GatewayMode{policy.GatewayIsolated, policy.GatewayIsolated}, func(n *policy.Network) { n.NoHostAccess = true }},
	"both, eif":             {[2]policy.GatewayMode{policy.GatewayIsolated, policy.GatewayIsolated}, func(n *policy.Network) { n.Filter = policy.FilterEIF }},
	"IPv4":                  {[2]policy.GatewayMode{policy.GatewayIsolated, policy.GatewayNAT}, nil},
	"IPv6":                  {[2]policy.GatewayMode{policy.GatewayNAT, policy.GatewayIsolated}, nil},
	"IPv6, IPv4 routed":     {[2]policy.GatewayMode{policy.GatewayRouted, policy.GatewayIsolated}, nil},
	"IPv4, no host access":  {[2]policy.GatewayMode{policy.GatewayIsolated, policy.GatewayNAT}, func(n *policy.Network) { n.NoHostAccess = true }},
	"both, containers kept": {[2]policy.GatewayMode{policy.GatewayIsolated, policy.GatewayIsolated}, func(n *policy.Network) { n.Isolated = true }},
}

// towards are the ways in which c1 speaks to its host, by family: 0 IPv4, 1 IPv6, 2 what
// is of neither.
func towards() map[string]struct {
	family int
	frame  []byte
} {
	c1, gw, ll := MAC("c1"), MAC("host1"), LinkLocal(MAC("c1"))
	udp4 := func(mac header.MAC, dst string) []byte {
		return Bytes(Packet{EthSrc: c1, EthDst: mac, Src: "10.1.0.11:4444", Dst: dst, Proto: header.ProtoUDP, Payload: []byte("x")})
	}
	udp6 := func(mac header.MAC, src, dst string) []byte {
		return V6(mac, c1, src, dst, header.ProtoUDP, 64, []byte{1, 1, 1, 2, 0, 8, 0, 0})
	}
	all := make(map[string]struct {
		family int
		frame  []byte
	})
	add := func(family int, name string, f []byte) {
		all[name] = struct {
			family int
			frame  []byte
		}{family, f}
	}
	for name, mac := range map[string]header.MAC{"broadcast": header.Broadcast, "multicast": GroupMAC("224.0.0.251"), "unknown": stranger, "gateway": gw} {
		for _, dst := range []string{HostAddr + ":53", "10.1.0.1:53", "10.1.0.255:137", "255.255.255.255:67", "224.0.0.251:5353", "239.1.2.3:9", "127.0.0.1:53", "169.254.1.1:80"} {
			add(0, name+" MAC, UDP to "+dst, udp4(mac, dst))
		}
		add(0, name+" MAC, ping", Bytes(Packet{EthSrc: c1, EthDst: mac, Src: "10.1.0.11", Dst: "10.1.0.1", Proto: header.ProtoICMP, Type: 8, ID: 1}))
		add(0, name+" MAC, IGMP", Bytes(Packet{EthSrc: c1, EthDst: mac, Src: "10.1.0.11", Dst: "224.0.0.1", Proto: 2, Payload: []byte{0x11, 0, 0xee, 0xff, 0, 0, 0, 0}}))
		add(0, name+" MAC, DHCP", Bytes(Packet{EthSrc: c1, EthDst: mac, Src: "0.0.0.0:68", Dst: "255.255.255.255:67", Proto: header.ProtoUDP, Payload: make([]byte, 240)}))
		for i, f := range Fragment(Bytes(Packet{EthSrc: c1, EthDst: mac, Src: "10.1.0.11:4444", Dst: HostAddr + ":53", Proto: header.ProtoUDP, Payload: make([]byte, 900)}), 512) {
			add(0, name+" MAC, fragment "+string(rune('1'+i)), f)
		}
		for _, target := range []string{"10.1.0.1", HostAddr, "10.1.0.99"} {
			add(0, name+" MAC, ARP request for "+target, ARP(mac, c1, 1, c1, "10.1.0.11", header.MAC{}, target))
			add(0, name+" MAC, ARP reply to "+target, ARP(mac, c1, 2, c1, "10.1.0.11", gw, target))
		}
		add(0, name+" MAC, ARP announcement", ARP(mac, c1, 1, c1, "10.1.0.11", header.MAC{}, "10.1.0.11"))
		add(0, name+" MAC, ARP probe", ARP(mac, c1, 1, c1, "0.0.0.0", header.MAC{}, "10.1.0.99"))
		for _, src := range []string{IPv6("c1"), ll} {
			for _, dst := range []string{IPv6("host1"), LinkLocal(gw), "2001:db8::1", "ff02::1", "ff02::fb", "ff05::2", "ff0e::9", "::1"} {
				add(1, name+" MAC, UDP from "+src+" to "+dst, udp6(mac, src, dst))
			}
			add(1, name+" MAC, ping from "+src, V6(mac, c1, src, "ff02::1", header.ProtoICMPv6, 64, ICMPv6(src, "ff02::1", 128, make([]byte, 4))))
			add(1, name+" MAC, router solicitation from "+src, ND(mac, c1, src, "ff02::2", header.ICMP6RouterSolicit, "", 1, c1))
			add(1, name+" MAC, solicitation of the gateway from "+src, ND(mac, c1, src, "ff02::1:ff00:1", header.ICMP6NeighborSolicit, IPv6("host1"), 1, c1))
			add(1, name+" MAC, solicitation of the host from "+src, ND(mac, c1, src, "ff02::1:ff00:1", header.ICMP6NeighborSolicit, LinkLocal(gw), 1, c1))
		}
		add(1, name+" MAC, advertisement", ND(mac, c1, ll, "ff02::1", header.ICMP6NeighborAdvert, ll, 2, c1))
		add(1, name+" MAC, DAD", ND(mac, c1, "::", "ff02::1:ff00:b", header.ICMP6NeighborSolicit, ll, 0, header.MAC{}))
		add(1, name+" MAC, MLD", mldv2("c1", "ff0e::1", 4))
		add(1, name+" MAC, DHCPv6", V6(mac, c1, ll, "ff02::1:2", header.ProtoUDP, 64, []byte{2, 0x22, 2, 0x23, 0, 8, 0, 0}))
		for _, typ := range []uint16{0x88b5, 0x88cc, 0x8863, 0x0100, 0x88a2} {
			add(2, name+" MAC, other", Ethernet(mac, c1, typ, make([]byte, 46)))
		}
	}
	return all
}

// TestS77IsolatedModeHasNoHost: in a network without a gateway nothing that a container
// sends reaches the host, nor what the host sends a container, at whatever address, MAC
// address or layer; of one family nothing of that family. Containers still hear each
// other, and a family that has its gateway keeps it.
func TestS77IsolatedModeHasNoHost(t *testing.T) {
	for name, mode := range isolatedModes {
		for _, guard := range []bool{true, false} {
			t.Run(name+map[bool]string{true: ", guarded", false: ""}[guard], func(t *testing.T) {
				l := New(t)
				l.DualStack()
				for i := range l.Config.Ports {
					l.Config.Ports[i].Guarded = guard && l.Config.Ports[i].Kind == dataplane.PortContainer
				}
				l.Policy[0].Modes = mode.modes
				if mode.change != nil {
					mode.change(&l.Policy[0])
				}
				l.Config.Networks[0].Gateways = slices.DeleteFunc(l.Config.Networks[0].Gateways, func(a netip.Addr) bool {
					return mode.modes[map[bool]int{true: 0, false: 1}[a.Is4()]] == policy.GatewayIsolated
				})
				l.Publish(8080, "c4", 80)
				shut := [3]bool{mode.modes[0] == policy.GatewayIsolated, mode.modes[1] == policy.GatewayIsolated}
				shut[2] = shut[0] && shut[1]
				for what, way := range towards() {
					l.Advance(time.Second) // what a port may flood
					l.Send("c1", way.frame)
					for _, at := range everybody {
						got := l.Got(at)
						if at == "c1" || at == "c2" || at == "c3" || len(got) == 0 || !shut[way.family] {
							continue
						}
						t.Errorf("%s: %s got %s", what, at, Describe(got[0]))
					}
				}
				fromHost := map[string]struct {
					family int
					frame  []byte
				}{
					"UDP":       {0, Bytes(Packet{EthSrc: MAC("host1"), EthDst: MAC("c1"), Src: HostAddr + ":53", Dst: "10.1.0.11:4444", Proto: header.ProtoUDP})},
					"broadcast": {0, Bytes(Packet{EthSrc: MAC("host1"), EthDst: header.Broadcast, Src: HostAddr + ":53", Dst: "255.255.255.255:4444", Proto: header.ProtoUDP})},
					"ARP":       {0, ARP(header.Broadcast, MAC("host1"), 1, MAC("host1"), HostAddr, header.MAC{}, "10.1.0.11")},
					"mDNS":      {1, V6(GroupMAC("ff02::fb"), MAC("host1"), LinkLocal(MAC("host1")), "ff02::fb", header.ProtoUDP, 64, []byte{1, 1, 1, 2, 0, 8, 0, 0})},
					"ND":        {1, ND(GroupMAC("ff02::1:ff00:11"), MAC("host1"), LinkLocal(MAC("host1")), "ff02::1:ff00:11", header.ICMP6NeighborSolicit, IPv6("c1"), 1, MAC("host1"))},
					"UDPv6":     {1, V6(MAC("c1"), MAC("host1"), LinkLocal(MAC("host1")), LinkLocal(MAC("c1")), header.ProtoUDP, 64, []byte{1, 1, 1, 2, 0, 8, 0, 0})},
					"other":     {2, Ethernet(header.Broadcast, MAC("host1"), 0x88b5, make([]byte, 46))},
				}
				for what, way := range fromHost {
					l.Send("host1", way.frame)
					for _, at := range everybody {
						if got := l.Got(at); len(got) > 0 && shut[way.family] {
							t.Errorf("%s of the host: %s got %s", what, at, Describe(got[0]))
						}
					}
				}
				if mode.change == nil {
					l.Send("c1", Bytes(Packet{EthSrc: MAC("c1"), EthDst: header.Broadcast, Src: "10.1.0.11:4444", Dst: "10.1.0.255:137", Proto: header.ProtoUDP}))
					if len(l.Got("c2")) != 1 || (len(l.Got("host1")) == 0) != shut[0] {
						t.Errorf("a broadcast among containers, or to a host with a gateway; drops: %s", l.Drops())
					}
					l.Send("c1", UDP("c1", 5000, World+":53", "x"))
					if (len(l.Got("up")) == 0) != shut[0] {
						t.Errorf("the way out of IPv4; drops: %s", l.Drops())
					}
				}
			})
		}
	}
}
