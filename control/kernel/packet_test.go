package kernel

import (
	"net"
	"net/netip"
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

	"github.com/vswitch/vswitch/dataplane/header"
)

// The builders read from the outside in: eth(ip4(a, b, tcp(1, 2))).

// eth frames a packet for this host: the device of a test run is lo, whose
// address is zero.
func eth(ip []byte) []byte {
	typ := header.TypeIPv4
	if ip[0]>>4 == 6 {
		typ = header.TypeIPv6
	}
	return frame(net.HardwareAddr{0, 0, 0, 0, 0, 0}, typ, ip)
}

func frame(dst net.HardwareAddr, typ uint16, payload []byte) []byte {
	return serialize(&layers.Ethernet{
		DstMAC: dst, SrcMAC: net.HardwareAddr{2, 0, 0, 0, 0, 1}, EthernetType: layers.EthernetType(typ),
	}, gopacket.Payload(payload))
}

// segment is what IP carries.
type segment struct {
	proto uint8
	bytes []byte
}

func tcp(src, dst uint16) segment {
	return segment{header.ProtoTCP, serialize(&layers.TCP{
		SrcPort: layers.TCPPort(src), DstPort: layers.TCPPort(dst), SYN: true, Window: 1024,
	})}
}

func udp(src, dst uint16) segment {
	return segment{header.ProtoUDP, serialize(&layers.UDP{
		SrcPort: layers.UDPPort(src), DstPort: layers.UDPPort(dst),
	}, gopacket.Payload("data"))}
}

func icmp4(typ, code uint8, id uint16, payload ...byte) segment {
	return segment{header.ProtoICMP, serialize(&layers.ICMPv4{
		TypeCode: layers.CreateICMPv4TypeCode(typ, code), Id: id, Seq: 1,
	}, gopacket.Payload(payload))}
}

func icmp6(typ, code uint8, id uint16, payload ...byte) segment {
	return segment{header.ProtoICMPv6, append([]byte{typ, code, 0, 0, byte(id >> 8), byte(id), 0, 1}, payload...)}
}

// ext puts an IPv6 extension header of 8*(words+1) bytes before a segment.
func ext(proto uint8, words int, s segment) segment {
	b := make([]byte, 8*(words+1))
	b[0], b[1] = s.proto, uint8(words)
	return segment{proto, append(b, s.bytes...)}
}

// frag6 puts an IPv6 fragment header before a segment; the offset counts 8 bytes.
func frag6(offset int, more bool, s segment) segment { return frag6id(7, offset, more, s) }

func frag6id(id byte, offset int, more bool, s segment) segment {
	v := uint16(offset) << 3
	if more {
		v |= 1
	}
	return segment{44, append([]byte{s.proto, 0, byte(v >> 8), byte(v), 0, 0, 0, id}, s.bytes...)}
}

type opt4 func(*layers.IPv4)

func frag4(offset int, more bool) opt4 {
	return func(ip *layers.IPv4) {
		ip.FragOffset = uint16(offset)
		if more {
			ip.Flags |= layers.IPv4MoreFragments
		}
	}
}

// id4 gives the datagram a number.
func id4(id uint16) opt4 { return func(ip *layers.IPv4) { ip.Id = id } }

// options4 adds n bytes of IPv4 options, a multiple of 4.
func options4(n int) opt4 {
	return func(ip *layers.IPv4) {
		for range n {
			ip.Options = append(ip.Options, layers.IPv4Option{OptionType: 1})
		}
	}
}

func ip4(src, dst string, s segment, opts ...opt4) []byte {
	ip := &layers.IPv4{
		Version: 4, TTL: 64, Protocol: layers.IPProtocol(s.proto),
		SrcIP: net.ParseIP(src), DstIP: net.ParseIP(dst),
	}
	for _, o := range opts {
		o(ip)
	}
	return serialize(ip, gopacket.Payload(s.bytes))
}

func ip6(src, dst string, s segment) []byte {
	b := []byte{0x60, 0, 0, 0, byte(len(s.bytes) >> 8), byte(len(s.bytes)), s.proto, 64}
	b = append(b, netip.MustParseAddr(src).AsSlice()...)
	b = append(b, netip.MustParseAddr(dst).AsSlice()...)
	return append(b, s.bytes...)
}

func serialize(l ...gopacket.SerializableLayer) []byte {
	buf := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true}, l...); err != nil {
		panic(err)
	}
	return buf.Bytes()
}

// patch overwrites bytes of a copy of b.
func patch(b []byte, at int, v ...byte) []byte {
	b = append([]byte(nil), b...)
	copy(b[at:], v)
	return b
}

func mustSlot(t testing.TB, k *Kernel, addr string) int {
	t.Helper()
	for slot := 1; slot < 31; slot++ {
		if k.ClaimSlot(netip.MustParseAddr(addr), slot) == nil {
			return slot
		}
	}
	t.Fatalf("no claim slot is left for %s", addr)
	return 0
}
