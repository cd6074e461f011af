package switchtest

import (
	"encoding/binary"
	"net"
	"net/netip"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

	"github.com/vswitch/vswitch/dataplane/header"
)

// Named is a frame of the corpus.
type Named struct {
	Name  string
	Frame []byte
}

// Corpus is one sound frame of each kind that a parser of the switch, or of one
// like it, has stumbled over, as a station sends it: to the gateway where it has
// an IP header, to all or to a group where that is the kind's way.
func Corpus(station string) []Named {
	src, dst := MAC(station), gatewayMAC(station)
	eth := Packet{EthSrc: src, EthDst: dst}
	addr := Stations[station]
	world := World
	if station == "up" {
		eth.EthSrc, eth.EthDst, addr, world = NextHopMAC, MAC("up"), World, HostAddr
	}
	ip := func(proto, typ, flags uint8, payload string) []byte {
		p := eth
		p.Src, p.Dst, p.Proto, p.Type, p.Flags, p.ID, p.Payload = addr+":5000", world+":8080", proto, typ, flags, 9, []byte(payload)
		if proto == header.ProtoICMP {
			p.Src, p.Dst = addr, world
		}
		return Bytes(p)
	}
	long := string(make([]byte, 1000))
	udp := ip(header.ProtoUDP, 0, 0, "datagram")
	pieces := Fragment(ip(header.ProtoUDP, 0, 0, long), 512)
	group := func(m header.MAC, etherType uint16, payload ...byte) []byte {
		return Ethernet(m, eth.EthSrc, etherType, payload)
	}
	all := []Named{
		{"udp", udp},
		{"udp without checksum", noSum(ip(header.ProtoUDP, 0, 0, "datagram"))},
		{"dns", ip(header.ProtoUDP, 0, 0, "\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x03web\x00\x00\x01\x00\x01")},
		{"tcp syn", ip(header.ProtoTCP, 0, SYN, "")},
		{"tcp data", ip(header.ProtoTCP, 0, ACK|PSH, "GET / HTTP/1.0\r\n\r\n")},
		{"tcp rst", ip(header.ProtoTCP, 0, RST, "")},
		{"echo", ip(header.ProtoICMP, 8, 0, "ping")},
		{"echo reply", ip(header.ProtoICMP, 0, 0, "ping")},
		{"timestamp", ip(header.ProtoICMP, 13, 0, string(make([]byte, 12)))},
		{"unreachable", ip(header.ProtoICMP, 3, 0, string(udp[header.EthernetLen:]))},
		{"time exceeded", ip(header.ProtoICMP, 11, 0, string(udp[header.EthernetLen:]))},
		{"redirect", ip(header.ProtoICMP, 5, 0, string(udp[header.EthernetLen:]))},
		{"first fragment", pieces[0]},
		{"later fragment", pieces[1]},
		{"last fragment", pieces[len(pieces)-1]},
		{"gre", ip(47, 0, 0, "\x00\x00\x08\x00tunnel")},
		{"esp", ip(50, 0, 0, "\x00\x00\x00\x01\x00\x00\x00\x01secret")},
		{"sctp", ip(132, 0, 0, "\x13\x88\x1f\x90\x00\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x14")},
		{"protocol 0", ip(0, 0, 0, "hop-by-hop in IPv4")},
		{"options", withOptions(udp, 7, 7, 4, 0, 0, 0, 0, 1)},
		{"arp request", ARP(header.Broadcast, eth.EthSrc, 1, eth.EthSrc, addr, header.MAC{}, "10.1.0.1")},
		{"arp reply", ARP(dst, eth.EthSrc, 2, eth.EthSrc, addr, dst, "10.1.0.1")},
		{"arp probe", ARP(header.Broadcast, eth.EthSrc, 1, eth.EthSrc, "0.0.0.0", header.MAC{}, addr)},
		{"dhcp discover", dhcp(eth.EthSrc)},
		{"igmp report", ip(2, 0, 0, "\x22\x00\xf9\x02\x00\x00\x00\x01\x04\x00\x00\x00\xef\x01\x01\x01")},
		{"lldp", group(header.MAC{1, 0x80, 0xc2, 0, 0, 0x0e}, 0x88cc, 2, 7, 4, 2, 0, 0, 0, 0, 1, 4, 2, 5, 'e', 6, 2, 0, 120, 0, 0)},
		{"bpdu", group(header.MAC{1, 0x80, 0xc2}, 38, append([]byte{0x42, 0x42, 3}, make([]byte, 35)...)...)},
		{"mpls", group(dst, 0x8847, append([]byte{0, 1, 0, 64, 0, 1, 1, 64}, udp[header.EthernetLen:]...)...)},
		{"tag", Tag(udp, 0x8100, 7)},
		{"priority tag", Tag(udp, 0x8100, 0xe000)},
		{"two tags", Tag(Tag(udp, 0x8100, 7), 0x88a8, 9)},
	}
	return append(all, corpus6(eth.EthSrc, dst)...)
}

// corpus6 is the IPv6 part.
func corpus6(src, gateway header.MAC) []Named {
	ll := netip.MustParseAddr(LinkLocal(src))
	far := netip.MustParseAddr("2001:db8::9")
	nodes := netip.MustParseAddr("ff02::1")
	nodesMAC := header.MAC{0x33, 0x33, 0, 0, 0, 1}
	udp := []byte("\x13\x88\x1f\x90\x00\x0c\x00\x00data")
	ext := func(next uint8, body ...byte) []byte { return append([]byte{next}, body...) }
	hop := ext(17, 0, 1, 4, 0, 0, 0, 0)
	slla := append([]byte{1, 1}, src[:]...)
	target := far.AsSlice()
	nd := func(typ uint8, body ...byte) []byte { return append([]byte{typ, 0, 0, 0}, body...) }
	return []Named{
		{"udp6", Packet6(gateway, src, ll, far, 17, udp)},
		{"tcp6", Packet6(gateway, src, ll, far, 6, append([]byte("\x13\x88\x1f\x90\x00\x00\x00\x01\x00\x00\x00\x00\x50\x02\xff\xff\x00\x00\x00\x00"), "x"...))},
		{"hop-by-hop", Packet6(gateway, src, ll, far, 0, append(hop, udp...))},
		{"destination options", Packet6(gateway, src, ll, far, 60, append(ext(17, 0, 1, 4, 0, 0, 0, 0), udp...))},
		{"routing header 0", Packet6(gateway, src, ll, far, 43, append(ext(17, 0, 0, 0, 0, 0, 0, 0), udp...))},
		{"fragment6", Packet6(gateway, src, ll, far, 44, append(ext(17, 0, 0, 1, 0, 0, 0, 7), append(udp, make([]byte, 4)...)...))},
		{"atomic fragment", Packet6(gateway, src, ll, far, 44, append(ext(17, 0, 0, 0, 0, 0, 0, 7), udp...))},
		{"echo6", Packet6(gateway, src, ll, far, 58, nd(128, 0, 9, 0, 1))},
		{"too big", Packet6(gateway, src, ll, far, 58, nd(2, append([]byte{0, 0, 5, 0}, Packet6(gateway, src, far, ll, 17, udp)[header.EthernetLen:]...)...))},
		{"solicitation", Packet6(nodesMAC, src, ll, nodes, 58, nd(135, append(append(make([]byte, 4), target...), slla...)...))},
		{"advertisement", Packet6(nodesMAC, src, ll, nodes, 58, nd(136, append(append([]byte{0x20, 0, 0, 0}, ll.AsSlice()...), append([]byte{2, 1}, src[:]...)...)...))},
		{"router advertisement", Packet6(nodesMAC, src, ll, nodes, 58, nd(134, append([]byte{64, 0, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0}, slla...)...))},
		{"redirect6", Packet6(nodesMAC, src, ll, nodes, 58, nd(137, append(append(make([]byte, 4), target...), far.AsSlice()...)...))},
		{"mld report", Packet6(header.MAC{0x33, 0x33, 0, 0, 0, 0x16}, src, ll, netip.MustParseAddr("ff02::16"), 0,
			append(ext(58, 0, 5, 2, 0, 0, 1, 0), nd(143, append([]byte{0, 0, 0, 1, 4, 0, 0, 0}, netip.MustParseAddr("ff15::1").AsSlice()...)...)...))},
	}
}

// Packet6 builds a frame and fills in the checksum of ICMPv6, UDP and TCP that follow
// the header at once or behind extension headers.
func Packet6(dst, src header.MAC, from, to netip.Addr, next uint8, payload []byte) []byte {
	h := []byte{0x60, 0, 0, 0, byte(len(payload) >> 8), byte(len(payload)), next, 255}
	h = append(append(h, from.AsSlice()...), to.AsSlice()...)
	f := Ethernet(dst, src, header.TypeIPv6, append(h, payload...))
	at, proto := header.EthernetLen+40, next
	for proto == 0 || proto == 60 || proto == 43 || proto == 44 {
		proto, at = f[at], at+8
	}
	field, ok := map[uint8]int{6: 16, 17: 6, 58: 2}[proto]
	if !ok || at+field+2 > len(f) {
		return f
	}
	sum := uint32(proto) + uint32(len(f)-at)
	for i := header.EthernetLen + 8; i < header.EthernetLen+40; i += 2 {
		sum += uint32(binary.BigEndian.Uint16(f[i:]))
	}
	sum = sum>>16 + sum&0xffff
	binary.BigEndian.PutUint16(f[at+field:], uint16(sum>>16+sum))
	header.FinishChecksum(f, at, field)
	return f
}

func noSum(f []byte) []byte {
	f[header.EthernetLen+26], f[header.EthernetLen+27] = 0, 0
	return f
}

// withOptions puts IPv4 options, a multiple of four bytes, into a frame.
func withOptions(f []byte, options ...byte) []byte {
	at := header.EthernetLen + 20
	out := append(append(append([]byte(nil), f[:at]...), options...), f[at:]...)
	ip := out[header.EthernetLen:]
	ip[0] += byte(len(options) / 4)
	binary.BigEndian.PutUint16(ip[2:], uint16(len(ip)))
	SumIPv4(out)
	return out
}

// SumIPv4 sets the header checksum of an untagged IPv4 frame.
func SumIPv4(f []byte) {
	ip := f[header.EthernetLen:]
	ip = ip[:int(ip[0]&15)*4]
	binary.BigEndian.PutUint16(ip[10:], 0)
	header.FinishChecksum(ip, 0, 10)
}

// Fragment cuts an untagged IPv4 frame into pieces of size bytes of payload, a
// multiple of 8.
func Fragment(f []byte, size int) [][]byte {
	const at = header.EthernetLen + 20
	var pieces [][]byte
	for off := 0; off < len(f)-at; off += size {
		piece := append(append([]byte(nil), f[:at]...), f[at+off:min(at+off+size, len(f))]...)
		flags := uint16(off / 8)
		if at+off+size < len(f) {
			flags |= 0x2000
		}
		binary.BigEndian.PutUint16(piece[header.EthernetLen+2:], uint16(len(piece)-header.EthernetLen))
		binary.BigEndian.PutUint16(piece[header.EthernetLen+6:], flags)
		SumIPv4(piece)
		pieces = append(pieces, piece)
	}
	return pieces
}

func dhcp(src header.MAC) []byte {
	ip := &layers.IPv4{Version: 4, IHL: 5, TTL: 64, Protocol: 17, SrcIP: net.IPv4zero, DstIP: net.IPv4bcast}
	udp := &layers.UDP{SrcPort: 68, DstPort: 67}
	_ = udp.SetNetworkLayerForChecksum(ip) // fails for other families only
	d := &layers.DHCPv4{Operation: layers.DHCPOpRequest, HardwareType: 1, HardwareLen: 6, Xid: 7, ClientHWAddr: src[:],
		Options: layers.DHCPOptions{layers.NewDHCPOption(layers.DHCPOptMessageType, []byte{1}), layers.NewDHCPOption(layers.DHCPOptEnd, nil)}}
	eth := &layers.Ethernet{SrcMAC: src[:], DstMAC: header.Broadcast[:], EthernetType: layers.EthernetTypeIPv4}
	buf := gopacket.NewSerializeBuffer()
	err := gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, eth, ip, udp, d)
	if err != nil {
		panic(err) // a builder's mistake
	}
	return buf.Bytes()
}
