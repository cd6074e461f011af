package pcapfilter

import (
	"encoding/binary"
	"math/rand/v2"
	"net"
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
)

var (
	tMAC = []net.HardwareAddr{{2, 0, 0, 0, 0, 1}, {2, 0, 0, 0, 0, 2}, {255, 255, 255, 255, 255, 255}, {1, 0, 94, 0, 0, 5}}
	tIP4 = []net.IP{{10, 0, 0, 1}, {10, 0, 0, 2}, {10, 1, 2, 3}, {192, 168, 5, 6}, {224, 0, 0, 251}, {255, 255, 255, 255}}
	tIP6 = []net.IP{net.ParseIP("fd00::1"), net.ParseIP("fd00::2"), net.ParseIP("2001:db8:1:2::3"), net.ParseIP("ff02::fb"), net.ParseIP("fe80::1")}
	port = []uint16{80, 443, 53, 22, 8080, 40000, 6000}
)

func one[T any](r *rand.Rand, l []T) T { return l[r.IntN(len(l))] }

// packets are n frames of many kinds: tags, labels, options, extension headers,
// fragments, what is cut short and what is noise.
func packets(t testing.TB, r *rand.Rand, n int) [][]byte {
	t.Helper()
	var list [][]byte
	for range n {
		list = append(list, frame(t, r))
	}
	return list
}

func frame(t testing.TB, r *rand.Rand) []byte {
	t.Helper()
	v6 := r.IntN(3) == 0
	eth := &layers.Ethernet{SrcMAC: one(r, tMAC[:2]), DstMAC: one(r, tMAC), EthernetType: layers.EthernetTypeIPv4}
	if v6 {
		eth.EthernetType = layers.EthernetTypeIPv6
	}
	ls := []gopacket.SerializableLayer{eth}
	switch k := r.IntN(12); k {
	case 0, 1:
		typ := eth.EthernetType
		eth.EthernetType = one(r, []layers.EthernetType{layers.EthernetTypeDot1Q, layers.EthernetTypeQinQ, 0x9100})
		if k == 1 {
			ls = append(ls, &layers.Dot1Q{VLANIdentifier: uint16(r.IntN(3) + 5), Type: layers.EthernetTypeDot1Q})
		}
		ls = append(ls, &layers.Dot1Q{VLANIdentifier: uint16(r.IntN(3) + 5), Priority: uint8(r.IntN(8)), Type: typ})
	case 2:
		eth.EthernetType = layers.EthernetTypeMPLSUnicast
		if r.IntN(2) == 0 {
			ls = append(ls, &layers.MPLS{Label: uint32(r.IntN(3) + 5), TTL: 9})
		}
		ls = append(ls, &layers.MPLS{Label: uint32(r.IntN(3) + 5), StackBottom: true, TTL: 9})
	case 3:
		ppp := layers.PPPTypeIPv4
		if v6 {
			ppp = layers.PPPTypeIPv6
		}
		eth.EthernetType = layers.EthernetTypePPPoESession
		ls = append(ls, &layers.PPPoE{Version: 1, Type: 1, SessionId: uint16(r.IntN(3) + 5)}, &layers.PPP{PPPType: ppp})
	case 4:
		eth.EthernetType = one(r, []layers.EthernetType{layers.EthernetTypeARP, 0x8035})
		arp := &layers.ARP{AddrType: 1, Protocol: 0x800, HwAddressSize: 6, ProtAddressSize: 4, Operation: uint16(r.IntN(4) + 1),
			SourceHwAddress: one(r, tMAC), SourceProtAddress: one(r, tIP4), DstHwAddress: one(r, tMAC), DstProtAddress: one(r, tIP4)}
		return serialize(t, append(ls, arp)...)
	case 5:
		switch r.IntN(3) {
		case 0: // 802.3 with 802.2
			eth.EthernetType, eth.Length = layers.EthernetTypeLLC, 40
			return serialize(t, append(ls, gopacket.Payload(append([]byte{0x42, 0x42, 3}, make([]byte, 37)...)))...)
		case 1:
			eth.EthernetType = layers.EthernetType(r.IntN(65536))
		}
		b := make([]byte, r.IntN(80))
		for i := range b {
			b[i] = byte(r.Uint32())
		}
		return serialize(t, append(ls, gopacket.Payload(b))...)
	}
	proto := one(r, []layers.IPProtocol{6, 6, 17, 17, 132, 1, 58, 2, 47, 50, 51, 103, 112, 9, 44})
	var nl gopacket.NetworkLayer
	if v6 {
		ip := &layers.IPv6{Version: 6, HopLimit: uint8(r.IntN(255)), TrafficClass: uint8(r.IntN(4)), SrcIP: one(r, tIP6), DstIP: one(r, tIP6), NextHeader: proto}
		ls, nl = append(ls, ip), ip
		switch r.IntN(5) {
		case 0: // a fragment
			ip.NextHeader = 44
			frag := make([]byte, 8)
			frag[0] = byte(proto)
			binary.BigEndian.PutUint16(frag[2:], uint16(r.IntN(3)*64))
			ls = append(ls, gopacket.Payload(frag))
		case 1: // destination options
			ip.NextHeader = 60
			ls = append(ls, gopacket.Payload([]byte{byte(proto), 0, 1, 4, 0, 0, 0, 0}))
		}
	} else {
		ip := &layers.IPv4{Version: 4, TTL: uint8(r.IntN(255)), TOS: uint8(r.IntN(4)), Id: uint16(r.Uint32()), SrcIP: one(r, tIP4), DstIP: one(r, tIP4), Protocol: proto}
		if r.IntN(4) == 0 {
			ip.FragOffset = uint16(r.IntN(3) * 20)
			ip.Flags = layers.IPv4Flag(r.IntN(4))
		}
		if r.IntN(5) == 0 {
			ip.Options = []layers.IPv4Option{{OptionType: 148, OptionLength: 4, OptionData: []byte{0, 0}}}
		}
		ls, nl = append(ls, ip), ip
	}
	body := gopacket.Payload(make([]byte, r.IntN(120)))
	for i := range body {
		body[i] = byte(r.Uint32() % 4)
	}
	switch proto {
	case 6:
		f := r.Uint32()
		tcp := &layers.TCP{SrcPort: layers.TCPPort(one(r, port)), DstPort: layers.TCPPort(one(r, port)), Seq: r.Uint32() % 5, Window: uint16(r.IntN(3)),
			SYN: f&1 != 0, ACK: f&2 != 0, FIN: f&4 != 0, RST: f&8 != 0, PSH: f&16 != 0}
		_ = tcp.SetNetworkLayerForChecksum(nl)
		ls = append(ls, tcp)
	case 17:
		udp := &layers.UDP{SrcPort: layers.UDPPort(one(r, port)), DstPort: layers.UDPPort(one(r, port))}
		_ = udp.SetNetworkLayerForChecksum(nl)
		ls = append(ls, udp)
	case 132:
		ls = append(ls, &layers.SCTP{SrcPort: layers.SCTPPort(one(r, port)), DstPort: layers.SCTPPort(one(r, port))})
	case 1, 58:
		ls = append(ls, gopacket.Payload([]byte{one(r, []byte{0, 3, 8, 11, 128, 129, 135, 136}), byte(r.IntN(4)), 0, 0, 0, 5, 0, 7}))
	case 51, 44:
		ls = append(ls, gopacket.Payload([]byte{6, byte(r.IntN(2)), 0, 0, 0, 0, 0, 0}))
	}
	b := serialize(t, append(ls, body)...)
	if r.IntN(12) == 0 {
		b = b[:14+r.IntN(len(b)-14)]
	}
	return b
}

func serialize(t testing.TB, ls ...gopacket.SerializableLayer) []byte {
	t.Helper()
	buf := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, ls...); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}
