package switchtest

import (
	"encoding/binary"
	"net/netip"
	"slices"

	"github.com/vswitch/vswitch/dataplane"
	"github.com/vswitch/vswitch/dataplane/header"
)

// Guard makes the ports of all containers guarded ones, and gives network 1
// IPv6: the gateway fd00:1::1 and fd00:1::11 to c1, fd00:1::12 to c2, fd00:1::13
// to c3.
func (l *Lab) Guard() {
	l.T.Helper()
	for i := range l.Config.Ports {
		p := &l.Config.Ports[i]
		p.Guarded = p.Kind == dataplane.PortContainer
	}
	l.addIPv6(1)
	l.Install()
}

// Configure changes a station's port and installs the result.
func (l *Lab) Configure(name string, change func(*dataplane.PortConfig)) {
	l.T.Helper()
	for i := range l.Config.Ports {
		if l.Config.Ports[i].ID == l.Port(name) {
			change(&l.Config.Ports[i])
		}
	}
	l.Install()
}

// LinkLocal is the address that follows from a MAC address.
func LinkLocal(m header.MAC) string {
	return netip.AddrFrom16([16]byte{0: 0xfe, 1: 0x80, 8: m[0] ^ 2, 9: m[1], 10: m[2], 11: 0xff, 12: 0xfe, 13: m[3], 14: m[4], 15: m[5]}).String()
}

// Ethernet is a frame of any type.
func Ethernet(dst, src header.MAC, etherType uint16, payload []byte) []byte {
	f := append(append(append(make([]byte, 0, 64), dst[:]...), src[:]...), byte(etherType>>8), byte(etherType))
	return append(f, payload...)
}

// Tag puts an 802.1Q tag, or another, into a frame.
func Tag(f []byte, tpid, tci uint16) []byte {
	out := slices.Clone(f[:12])
	out = binary.BigEndian.AppendUint16(out, tpid)
	out = binary.BigEndian.AppendUint16(out, tci)
	return append(out, f[12:]...)
}

// ARP is a message of ARP in a frame from src to dst.
func ARP(dst, src header.MAC, op uint16, sha header.MAC, spa string, tha header.MAC, tpa string) []byte {
	p := []byte{0, 1, 8, 0, 6, 4, byte(op >> 8), byte(op)}
	p = append(append(p, sha[:]...), netip.MustParseAddr(spa).AsSlice()...)
	p = append(append(p, tha[:]...), netip.MustParseAddr(tpa).AsSlice()...)
	return Ethernet(dst, src, header.TypeARP, p)
}

// WhoHas is a station's ARP request for an address.
func WhoHas(station, target string) []byte {
	return ARP(header.Broadcast, MAC(station), 1, MAC(station), Stations[station], header.MAC{}, target)
}

// V6 is an IPv6 packet; next is the type of the first header in payload.
func V6(ethDst, ethSrc header.MAC, src, dst string, next, hops uint8, payload []byte) []byte {
	p := []byte{0x60, 0, 0, 0, byte(len(payload) >> 8), byte(len(payload)), next, hops}
	p = append(append(p, netip.MustParseAddr(src).AsSlice()...), netip.MustParseAddr(dst).AsSlice()...)
	return Ethernet(ethDst, ethSrc, header.TypeIPv6, append(p, payload...))
}

// ICMPv6 is a message with its checksum.
func ICMPv6(src, dst string, typ uint8, body []byte) []byte {
	m := append([]byte{typ, 0, 0, 0}, body...)
	sum := uint32(header.ProtoICMPv6) + uint32(len(m))
	for _, b := range [][]byte{netip.MustParseAddr(src).AsSlice(), netip.MustParseAddr(dst).AsSlice(), m} {
		for i := range b {
			sum += uint32(b[i]) << (8 * (1 - i%2))
		}
	}
	for sum > 0xffff {
		sum = sum&0xffff + sum>>16
	}
	binary.BigEndian.PutUint16(m[2:], ^uint16(sum))
	return m
}

// ND is a neighbour discovery message: type 133 to 137, with the target where
// the type has one, and an option with a link-layer address unless mac is zero.
func ND(ethDst, ethSrc header.MAC, src, dst string, typ uint8, target string, option uint8, mac header.MAC) []byte {
	body := make([]byte, 4)
	switch typ {
	case header.ICMP6RouterAdvert:
		body = []byte{64, 0, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0}
	case header.ICMP6NeighborAdvert:
		body[0] = 0x60
	}
	if target != "" {
		body = append(body, netip.MustParseAddr(target).AsSlice()...)
	}
	if typ == header.ICMP6Redirect {
		body = append(body, netip.MustParseAddr(target).AsSlice()...)
	}
	if !mac.IsZero() {
		body = append(append(body, option, 1), mac[:]...)
	}
	return V6(ethDst, ethSrc, src, dst, header.ProtoICMPv6, 255, ICMPv6(src, dst, typ, body))
}

// Solicit is a station's solicitation of an address, to the group of its
// neighbours.
func Solicit(station, target string) []byte {
	a := netip.MustParseAddr(target).As16()
	group := netip.AddrFrom16([16]byte{0: 0xff, 1: 2, 11: 1, 12: 0xff, 13: a[13], 14: a[14], 15: a[15]})
	return ND(header.MAC{0x33, 0x33, 0xff, a[13], a[14], a[15]}, MAC(station), IPv6(station), group.String(),
		header.ICMP6NeighborSolicit, target, 1, MAC(station))
}

// GroupMAC is the Ethernet address of a multicast group.
func GroupMAC(group string) header.MAC {
	a := netip.MustParseAddr(group)
	if a.Is4() {
		b := a.As4()
		return header.MAC{1, 0, 0x5e, b[1] & 0x7f, b[2], b[3]}
	}
	b := a.As16()
	return header.MAC{0x33, 0x33, b[12], b[13], b[14], b[15]}
}
