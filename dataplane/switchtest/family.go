package switchtest

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/vswitch/vswitch/dataplane"
	"github.com/vswitch/vswitch/dataplane/frame"
	"github.com/vswitch/vswitch/dataplane/header"
)

// DualStack gives all networks IPv6 beside IPv4: c1 of network 1 has fd00:1::11
// and its host's TAP fd00:1::1, as 10.1.0.11 and 10.1.0.1. The host has
// 2001:db8::1 on the uplink and the next hop 2001:db8::9, with the same MAC as
// that of IPv4.
func (l *Lab) DualStack() {
	l.T.Helper()
	for id := range l.Config.Networks {
		l.addIPv6(frame.NetworkID(id + 1))
	}
	v6 := Families[1]
	up, host := l.Port("up"), netip.MustParseAddr(v6.Host)
	l.Config.Uplinks[0].Slots[host] = 2
	l.Config.Routes = append(l.Config.Routes,
		dataplane.RouteConfig{Prefix: netip.PrefixFrom(host, 128), Kind: dataplane.RouteLocal},
		dataplane.RouteConfig{Prefix: netip.MustParsePrefix("2001:db8::/64"), Kind: dataplane.RouteUplink, Uplink: up, Source: host},
		dataplane.RouteConfig{Prefix: netip.MustParsePrefix("::/0"), Kind: dataplane.RouteUplink, Uplink: up, Via: netip.MustParseAddr(v6.NextHop), Source: host},
	)
	l.Install()
	l.Neighbors(NextHopMAC, NextHop, v6.NextHop)
}

// addIPv6 gives a network IPv6.
func (l *Lab) addIPv6(id frame.NetworkID) {
	n := &l.Config.Networks[id-1]
	n.Gateways = append(slices.Clone(n.Gateways), netip.MustParseAddr(IPv6(fmt.Sprintf("host%d", id))))
	n.Subnets = append(slices.Clone(n.Subnets), netip.MustParsePrefix(fmt.Sprintf("fd00:%d::/64", id)))
	for _, c := range []string{"c1", "c2", "c3", "c4", "c5"} {
		if networkOf[c] == id {
			l.Config.Stations = append(l.Config.Stations, dataplane.StationConfig{
				Addr: netip.MustParseAddr(IPv6(c)), Network: id, MAC: MAC(c), Port: l.Port(c),
			})
		}
	}
}

// Neighbors tells the switch one MAC address for several next hops; no other is
// known any more.
func (l *Lab) Neighbors(mac header.MAC, addrs ...string) {
	m := make(map[dataplane.NeighborKey]header.MAC)
	for _, a := range addrs {
		m[l.NextHop(a)] = mac
	}
	l.Switch.SetNeighbors(m)
}

// IPv6 is the address that a station has where its network has IPv6: fd00:1::11
// for 10.1.0.11.
func IPv6(station string) string {
	if station == "up" {
		return Families[1].Host
	}
	a := netip.MustParseAddr(Stations[station]).As4()
	return fmt.Sprintf("fd00:%d::%d", a[1], a[3])
}

// Family is one of the two families, for scenarios that are the same in both.
type Family struct {
	Name                   string
	Host, NextHop          string // as HostAddr and NextHop
	World, Elsewhere, Near string // behind the next hop, another, and one on the uplink's link
	ICMP                   uint8
	EchoRequest, EchoReply uint8
	HeaderLen              int // of the IP header
}

// Families are IPv4 and IPv6.
var Families = []Family{
	{
		Name: "IPv4", Host: HostAddr, NextHop: NextHop, World: World, Elsewhere: "203.0.113.10", Near: "198.51.100.50",
		ICMP: header.ProtoICMP, EchoRequest: 8, EchoReply: 0, HeaderLen: 20,
	}, {
		Name: "IPv6", Host: "2001:db8::1", NextHop: "2001:db8::9", World: "2001:db8:9::9", Elsewhere: "2001:db8:9::10", Near: "2001:db8::50",
		ICMP: header.ProtoICMPv6, EchoRequest: 128, EchoReply: 129, HeaderLen: 40,
	},
}

// EachFamily runs a scenario in a fresh dual-stack Lab for each family.
func EachFamily(t *testing.T, scenario func(t *testing.T, l *Lab, f Family)) {
	for _, f := range Families {
		t.Run(f.Name, func(t *testing.T) {
			l := New(t)
			l.DualStack()
			scenario(t, l, f)
		})
	}
}

// Addr is the address of a station.
func (f Family) Addr(station string) string {
	if f.ICMP == header.ProtoICMPv6 {
		return IPv6(station)
	}
	return Stations[station]
}

// At joins an address, of a station or as it is, with a port.
func (f Family) At(where string, port uint16) string {
	if _, ok := Stations[where]; ok {
		where = f.Addr(where)
	}
	return netip.AddrPortFrom(netip.MustParseAddr(where), port).String()
}

// From is a packet from a station by its gateway; dst is an address, with a
// port where the protocol has them.
func (f Family) From(station string, sport uint16, dst string, p Packet) []byte {
	p.Src = f.Addr(station)
	if p.Proto == header.ProtoTCP || p.Proto == header.ProtoUDP {
		p.Src = f.At(station, sport)
	}
	return Bytes(From(station, dst, p))
}

// Flow is a packet that begins a flow from a station: a SYN or a datagram.
func (f Family) Flow(proto uint8, station string, sport uint16, dst string) []byte {
	return f.From(station, sport, dst, Packet{Proto: proto, Flags: SYN, Payload: opening(proto)})
}

func opening(proto uint8) []byte {
	if proto == header.ProtoTCP {
		return nil
	}
	return []byte("hello")
}

// Publish publishes tcp and udp port host, of every address of the family, to a
// container's port.
func (l *Lab) PublishFamily(f Family, host uint16, container string, port uint16) {
	l.T.Helper()
	for _, proto := range []uint8{header.ProtoTCP, header.ProtoUDP} {
		l.Config.Publish = append(l.Config.Publish, dataplane.PublishConfig{
			Proto: proto, HostFirst: host, HostLast: host, ContainerAddr: header.AddrFrom(netip.MustParseAddr(f.Addr(container))), ContainerFirst: port,
		})
	}
	l.Install()
}

// IsIPv6 reports whether an address, with or without a port, is of IPv6.
func IsIPv6(s string) bool { return strings.Count(s, ":") > 1 }
