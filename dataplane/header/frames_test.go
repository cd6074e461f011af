package header

import (
	"bytes"
	"net"
	"net/netip"
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
)

var (
	macA = MAC{0x02, 0, 0, 0, 0, 0x0a}
	macB = MAC{0x02, 0, 0, 0, 0, 0x0b}

	c4 = netip.MustParseAddr("10.1.0.2")
	w4 = netip.MustParseAddr("203.0.113.7")
	c6 = netip.MustParseAddr("fd00::2")
	w6 = netip.MustParseAddr("2001:db8::7")
)

// shape is one real frame shape: seed of the fuzz targets and input of the
// properties that hold for every frame.
type shape struct {
	name  string
	frame []byte
}

// shapes are frames as containers, hosts and routers send them, finished
// checksums throughout.
func shapes(t testing.TB) []shape {
	t.Helper()
	tcp := func(flags ...func(*layers.TCP)) *layers.TCP {
		h := &layers.TCP{SrcPort: 40000, DstPort: 443, Seq: 7, Ack: 9, ACK: true, Window: 502}
		for _, f := range flags {
			f(h)
		}
		return h
	}
	syn := func(h *layers.TCP) {
		h.SYN, h.ACK = true, false
		h.Options = []layers.TCPOption{{OptionType: layers.TCPOptionKindMSS, OptionLength: 4, OptionData: []byte{5, 0xb4}}}
	}
	udp := func() *layers.UDP { return &layers.UDP{SrcPort: 50000, DstPort: 60000} }
	text := gopacket.Payload("an odd number of bytes!")

	tcp4 := pkt(t, ip4(layers.IPProtocolTCP), tcp(), text)
	tcp6 := pkt(t, ip6(layers.IPProtocolTCP), tcp(), text)
	udp4 := pkt(t, ip4(layers.IPProtocolUDP), udp(), text)
	udp6 := pkt(t, ip6(layers.IPProtocolUDP), udp(), text)
	echo4 := pkt(t, ip4(layers.IPProtocolICMPv4), &layers.ICMPv4{TypeCode: 8 << 8, Id: 77, Seq: 1}, text)
	echo6 := pkt(t, ip6(layers.IPProtocolICMPv6), &layers.ICMPv6{TypeCode: 128 << 8}, gopacket.Payload("\x00\x4d\x00\x01ping"))
	zero := pkt(t, ip4(layers.IPProtocolUDP), udp(), text)
	be.PutUint16(zero[ipv4Len+6:], 0)
	alert := ip4(layers.IPProtocolTCP)
	alert.Options = []layers.IPv4Option{{OptionType: 148, OptionLength: 4, OptionData: []byte{0, 0}}}
	bulk := make(gopacket.Payload, 65535-ipv4Len-tcpLen)
	bulk6 := make(gopacket.Payload, 65535-tcpLen)

	s := []shape{
		{"tcp4", eth(TypeIPv4, tcp4)},
		{"tcp4-syn", eth(TypeIPv4, pkt(t, ip4(layers.IPProtocolTCP), tcp(syn)))},
		{"tcp4-padded", append(eth(TypeIPv4, pkt(t, ip4(layers.IPProtocolTCP), tcp())), 0, 0, 0, 0, 0, 0)},
		{"tcp4-options", eth(TypeIPv4, pkt(t, alert, tcp(), text))},
		{"tcp4-gso", eth(TypeIPv4, pkt(t, ip4(layers.IPProtocolTCP), tcp(), bulk))},
		{"tcp6", eth(TypeIPv6, tcp6)},
		{"tcp6-gso", eth(TypeIPv6, pkt(t, ip6(layers.IPProtocolTCP), tcp(), bulk6))},
		{"udp4", eth(TypeIPv4, udp4)},
		{"udp4-no-checksum", eth(TypeIPv4, zero)},
		{"udp4-empty", eth(TypeIPv4, pkt(t, ip4(layers.IPProtocolUDP), udp()))},
		{"udp6", eth(TypeIPv6, udp6)},
		{"echo4", eth(TypeIPv4, echo4)},
		{"echo4-reply", eth(TypeIPv4, pkt(t, ip4(layers.IPProtocolICMPv4), &layers.ICMPv4{Id: 77, Seq: 1}, text))},
		{"timestamp4", eth(TypeIPv4, pkt(t, ip4(layers.IPProtocolICMPv4), &layers.ICMPv4{TypeCode: 13 << 8, Id: 78}, make(gopacket.Payload, 12)))},
		{"timestamp4-reply", eth(TypeIPv4, pkt(t, ip4(layers.IPProtocolICMPv4), &layers.ICMPv4{TypeCode: 14 << 8, Id: 78}, make(gopacket.Payload, 12)))},
		{"quench4", eth(TypeIPv4, pkt(t, ip4(layers.IPProtocolICMPv4), &layers.ICMPv4{TypeCode: 4 << 8}, gopacket.Payload(udp4[:28])))},
		{"echo6", eth(TypeIPv6, echo6)},
		{"echo6-reply", eth(TypeIPv6, pkt(t, ip6(layers.IPProtocolICMPv6), &layers.ICMPv6{TypeCode: 129 << 8}, gopacket.Payload("\x00\x4d\x00\x01ping")))},
		{"ns6", eth(TypeIPv6, pkt(t, ip6(layers.IPProtocolICMPv6), &layers.ICMPv6{TypeCode: 135 << 8}, make(gopacket.Payload, 28)))},
		{"igmp", eth(TypeIPv4, pkt(t, ip4(layers.IPProtocolIGMP), gopacket.Payload("\x16\x00\x09\x04\xe0\x00\x00\xfb")))},
		{"sctp", eth(TypeIPv4, pkt(t, ip4(layers.IPProtocolSCTP), gopacket.Payload("\x04\xd2\x16\x2e\x00\x00\x00\x00\x00\x00\x00\x00")))},
		{"sctp-data", eth(TypeIPv4, pkt(t, ip4(layers.IPProtocolSCTP), sctp(5001)))},
		{"sctp6", eth(TypeIPv6, pkt(t, ip6(layers.IPProtocolSCTP), sctp(28)))},
		{"no-next-header", eth(TypeIPv6, pkt(t, ip6(layers.IPProtocolNoNextHeader)))},
		{"arp", eth(TypeARP, pkt(t, arpRequest()))},
		{"arp-padded", append(eth(TypeARP, pkt(t, arpRequest())), make([]byte, 18)...)},
		{"stp", append([]byte("\x01\x80\xc2\x00\x00\x00\x02\x00\x00\x00\x00\x0a\x00\x26\x42\x42\x03"), make([]byte, 43)...)},
		{"lldp", eth(0x88cc, []byte{2, 7, 4, 2, 0, 0, 0, 0, 1})},
		{"mpls", eth(0x8847, append([]byte{0, 1, 1, 64}, tcp4...))},
	}
	for _, tag := range []struct {
		name string
		tags []uint16
	}{{"vlan", []uint16{TypeVLAN}}, {"qinq", []uint16{TypeQinQ, TypeVLAN}}, {"vlan-x8", []uint16{
		TypeVLAN, TypeVLAN, TypeVLAN, TypeVLAN, TypeVLAN, TypeVLAN, TypeVLAN, TypeVLAN}}} {
		s = append(s,
			shape{"tcp4-" + tag.name, tagged(eth(TypeIPv4, tcp4), tag.tags...)},
			shape{"udp6-" + tag.name, tagged(eth(TypeIPv6, udp6), tag.tags...)},
			shape{"arp-" + tag.name, tagged(eth(TypeARP, pkt(t, arpRequest())), tag.tags...)})
	}
	for _, ext := range []struct {
		name  string
		first byte
		chain []byte
	}{
		{"hop-by-hop", 0, []byte{6, 0, 5, 2, 0, 0, 1, 0}},
		{"dest-options", 60, []byte{6, 1, 1, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}},
		{"srv6-arrived", 43, append([]byte{6, 2, 4, 0, 0, 0, 0, 0}, c6.AsSlice()...)},
		{"srv6-on-the-way", 43, append([]byte{6, 2, 4, 1, 0, 0, 0, 0}, c6.AsSlice()...)},
		{"atomic-fragment", 44, []byte{6, 0, 0, 0, 1, 2, 3, 4}},
		{"ah", 51, []byte{6, 1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1}},
		{"eight-extensions", 0, bytes.Join([][]byte{
			{60, 0, 1, 4, 0, 0, 0, 0}, {60, 0, 1, 4, 0, 0, 0, 0}, {60, 0, 1, 4, 0, 0, 0, 0}, {60, 0, 1, 4, 0, 0, 0, 0},
			{60, 0, 1, 4, 0, 0, 0, 0}, {60, 0, 1, 4, 0, 0, 0, 0}, {60, 0, 1, 4, 0, 0, 0, 0}, {6, 0, 1, 4, 0, 0, 0, 0}}, nil)},
	} {
		s = append(s, shape{"tcp6-" + ext.name, eth(TypeIPv6, extended(tcp6, ext.first, ext.chain))})
	}
	big4 := pkt(t, ip4(layers.IPProtocolUDP), udp(), make(gopacket.Payload, 100))
	big6 := pkt(t, ip6(layers.IPProtocolUDP), udp(), make(gopacket.Payload, 100))
	for i, at := range []struct{ from, to int }{{0, 48}, {48, 96}, {96, 108}} {
		name := []string{"first", "middle", "last"}[i]
		s = append(s,
			shape{"udp4-fragment-" + name, eth(TypeIPv4, fragment4(big4, at.from, at.to))},
			shape{"udp6-fragment-" + name, eth(TypeIPv6, fragment6(big6, at.from, at.to))})
	}
	// Quotes of long packets, cut to 128 bytes and followed by an extension.
	ext := []byte{0x20, 0, 0, 0, 0, 8, 1, 1, 0, 1, 0x41, 1}
	long4 := pkt(t, ip4(layers.IPProtocolTCP), tcp(), make(gopacket.Payload, 1000))
	long6 := pkt(t, ip6(layers.IPProtocolTCP), tcp(), make(gopacket.Payload, 1000))
	s = append(s,
		shape{"unreachable4-rfc4884-cut", eth(TypeIPv4, pkt(t, ip4(layers.IPProtocolICMPv4),
			&layers.ICMPv4{TypeCode: 3<<8 | 1, Id: 32}, gopacket.Payload(append(long4[:128:128], ext...))))},
		shape{"time-exceeded6-rfc4884-cut", eth(TypeIPv6, pkt(t, ip6(layers.IPProtocolICMPv6),
			&layers.ICMPv6{TypeCode: 3 << 8}, gopacket.Payload(append(append([]byte{16, 0, 0, 0}, long6[:128]...), ext...))))},
		shape{"tcp4-fragment-first", eth(TypeIPv4, fragment4(tcp4, 0, 40))},
		shape{"echo4-fragment-first", eth(TypeIPv4, fragment4(echo4, 0, 16))},
		shape{"echo6-fragment-first", eth(TypeIPv6, fragment6(echo6, 0, 8))})

	for _, q := range []struct {
		name   string
		packet []byte
	}{{"tcp4", tcp4}, {"tcp4-8-bytes", tcp4[:ipv4Len+8]}, {"tcp4-17-bytes", tcp4[:ipv4Len+17]}, {"udp4", udp4}, {"udp4-8-bytes", udp4[:ipv4Len+8]},
		{"udp4-no-checksum", zero}, {"echo4", echo4}, {"fragment4", fragment4(big4, 48, 96)}, {"sctp4", pkt(t, ip4(layers.IPProtocolSCTP), make(gopacket.Payload, 12))},
		{"rfc4884", append(append(udp4[:len(udp4):len(udp4)], make([]byte, 128-len(udp4))...), 0x20, 0, 0, 0, 0, 8, 1, 1, 0, 1, 0x41, 1)}} {
		for _, e := range []struct {
			name string
			typ  layers.ICMPv4TypeCode
		}{{"unreachable4", 3}, {"redirect4", 5}, {"time-exceeded4", 11}, {"parameter4", 12}} {
			h := &layers.ICMPv4{TypeCode: e.typ<<8 | 1, Seq: 1400}
			if q.name == "rfc4884" {
				h.Id = 32 // length of the quote in words, second byte of the field
			}
			s = append(s, shape{e.name + "-" + q.name, eth(TypeIPv4, pkt(t, ip4(layers.IPProtocolICMPv4), h, gopacket.Payload(q.packet)))})
		}
	}
	for _, q := range []struct {
		name   string
		packet []byte
	}{{"tcp6", tcp6}, {"tcp6-8-bytes", tcp6[:ipv6Len+8]}, {"udp6", udp6}, {"echo6", echo6}, {"fragment6", fragment6(big6, 48, 96)},
		{"hop-by-hop6", extended(tcp6, 0, []byte{6, 0, 5, 2, 0, 0, 1, 0})}} {
		for _, e := range []struct {
			name string
			typ  layers.ICMPv6TypeCode
		}{{"unreachable6", 1}, {"too-big6", 2}, {"time-exceeded6", 3}, {"parameter6", 4}} {
			h := &layers.ICMPv6{TypeCode: e.typ << 8}
			s = append(s, shape{e.name + "-" + q.name, eth(TypeIPv6, pkt(t, ip6(layers.IPProtocolICMPv6), h, gopacket.Payload(append([]byte{0, 0, 0, 0}, q.packet...))))})
		}
	}
	return s
}

// sctp is an SCTP packet of n bytes with a true checksum.
func sctp(n int) gopacket.Payload {
	p := make([]byte, n)
	for i := range p {
		p[i] = byte(i * 7)
	}
	FinishChecksum(p, 0, 8)
	return p
}

// shapeNamed returns a copy of one shape.
func shapeNamed(t testing.TB, name string) []byte {
	t.Helper()
	for _, s := range shapes(t) {
		if s.name == name {
			return exact(s.frame)
		}
	}
	t.Fatalf("no frame shape %q", name)
	return nil
}

// exact copies b into memory of exactly its length, so that a read past the
// end panics.
func exact(b []byte) []byte {
	c := make([]byte, len(b))
	copy(c, b)
	return c[:len(b):len(b)]
}

func ip4(proto layers.IPProtocol) *layers.IPv4 {
	return &layers.IPv4{Version: 4, TTL: 64, Id: 0x1234, Flags: layers.IPv4DontFragment, Protocol: proto,
		SrcIP: net.IP(c4.AsSlice()), DstIP: net.IP(w4.AsSlice())}
}

func ip6(next layers.IPProtocol) *layers.IPv6 {
	return &layers.IPv6{Version: 6, HopLimit: 64, NextHeader: next, SrcIP: net.IP(c6.AsSlice()), DstIP: net.IP(w6.AsSlice())}
}

func arpRequest() *layers.ARP {
	return &layers.ARP{AddrType: layers.LinkTypeEthernet, Protocol: layers.EthernetTypeIPv4, HwAddressSize: 6, ProtAddressSize: 4,
		Operation: layers.ARPRequest, SourceHwAddress: macA[:], SourceProtAddress: c4.AsSlice(),
		DstHwAddress: make([]byte, 6), DstProtAddress: w4.AsSlice()}
}

// pkt serializes layers with lengths and checksums computed by gopacket.
func pkt(t testing.TB, ls ...gopacket.SerializableLayer) []byte {
	t.Helper()
	for _, l := range ls {
		network, ok := ls[0].(gopacket.NetworkLayer)
		if c, needs := l.(interface {
			SetNetworkLayerForChecksum(gopacket.NetworkLayer) error
		}); needs && ok {
			if err := c.SetNetworkLayerForChecksum(network); err != nil {
				t.Fatal(err)
			}
		}
	}
	buf := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, ls...); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func eth(etherType uint16, payload []byte) []byte {
	b := append(append([]byte{}, macB[:]...), macA[:]...)
	return append(be.AppendUint16(b, etherType), payload...)
}

func tagged(frame []byte, tags ...uint16) []byte {
	b := append([]byte{}, frame[:12]...)
	for i, tag := range tags {
		b = be.AppendUint16(be.AppendUint16(b, tag), uint16(100+i))
	}
	return append(b, frame[12:]...)
}

// extended puts a chain of extension headers, whose first has number first,
// into an IPv6 packet. The checksum does not cover it.
func extended(packet []byte, first byte, chain []byte) []byte {
	b := append([]byte{}, packet[:ipv6Len]...)
	b[6] = first
	be.PutUint16(b[4:], be.Uint16(b[4:])+uint16(len(chain)))
	return append(append(b, chain...), packet[ipv6Len:]...)
}

// fragment4 cuts bytes from to to of the payload out of a packet.
func fragment4(packet []byte, from, to int) []byte {
	b := append(append([]byte{}, packet[:ipv4Len]...), packet[ipv4Len+from:ipv4Len+to]...)
	be.PutUint16(b[2:], uint16(len(b)))
	frag := uint16(from / 8)
	if ipv4Len+to < len(packet) {
		frag |= 0x2000
	}
	be.PutUint16(b[6:], frag)
	return resum4(b)
}

// resum4 computes the header checksum of an IPv4 packet anew, the slow way.
func resum4(b []byte) []byte {
	be.PutUint16(b[10:], 0)
	be.PutUint16(b[10:], ^slowSum(b[:int(b[0]&15)*4]))
	return b
}

func fragment6(packet []byte, from, to int) []byte {
	b := append(append([]byte{}, packet[:ipv6Len]...), packet[ipv6Len+from:ipv6Len+to]...)
	be.PutUint16(b[4:], uint16(to-from))
	frag := uint16(from)
	if ipv6Len+to < len(packet) {
		frag |= 1
	}
	return extended(b, 44, []byte{packet[6], 0, byte(frag >> 8), byte(frag), 1, 2, 3, 4})
}
