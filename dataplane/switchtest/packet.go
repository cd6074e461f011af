package switchtest

import (
	"net"
	"net/netip"
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

	"github.com/vswitch/vswitch/dataplane/header"
)

// TCP flags.
const (
	FIN = 1 << iota
	SYN
	RST
	PSH
	ACK
)

// Packet is a frame to build. Addresses are "10.1.0.11:80" or "[fd00:1::11]:80",
// without the port for protocols that have none.
type Packet struct {
	EthSrc, EthDst header.MAC
	Src, Dst       string
	Proto          uint8
	Flags          uint8 // TCP
	Seq, Ack       uint32
	ID             uint16 // ICMP echo identifier
	Type, Code     uint8  // ICMP
	MTU            uint16 // of an ICMP error, in the place of an echo's sequence number
	TTL            uint8  // 0: 64
	DF             bool
	IPID           uint16 // 0: 7
	Options        []layers.TCPOption
	Payload        []byte
}

// From builds a packet that a container sends by its gateway.
func From(station, dst string, p Packet) Packet {
	p.EthSrc, p.EthDst = MAC(station), gatewayMAC(station)
	p.Dst = dst
	return p
}

// gatewayMAC is the MAC address of a station's gateway; the uplink's is the
// host itself, seen from the next hop.
func gatewayMAC(station string) header.MAC {
	if n, ok := networkOf[station]; ok {
		return MAC([]string{"", "host1", "host2", "host3"}[n])
	}
	if station == second {
		return MAC(second)
	}
	return MAC("up")
}

// UDP is a datagram from a container by its gateway; sport and dst as in
// "10.1.0.11:5000".
func UDP(station string, sport uint16, dst string, payload string) []byte {
	return Bytes(From(station, dst, Packet{
		Src: netip.AddrPortFrom(netip.MustParseAddr(Stations[station]), sport).String(), Proto: header.ProtoUDP, Payload: []byte(payload),
	}))
}

// TCP is a segment from a container by its gateway.
func TCP(station string, sport uint16, dst string, flags uint8, payload string) []byte {
	return Bytes(From(station, dst, Packet{
		Src: netip.AddrPortFrom(netip.MustParseAddr(Stations[station]), sport).String(), Proto: header.ProtoTCP, Flags: flags, Payload: []byte(payload),
	}))
}

// Inbound is a packet that arrives by the uplink from the next hop.
func Inbound(proto uint8, src, dst string, flags uint8, payload string) []byte {
	return Bytes(Packet{EthSrc: NextHopMAC, EthDst: MAC("up"), Src: src, Dst: dst, Proto: proto, Flags: flags, Payload: []byte(payload)})
}

// Bytes builds the frame with all checksums right.
func Bytes(p Packet) []byte {
	src, sport := split(p.Src)
	dst, dport := split(p.Dst)
	if p.TTL == 0 {
		p.TTL = 64
	}
	if p.IPID == 0 {
		p.IPID = 7
	}
	seq := uint16(1)
	if p.MTU != 0 {
		seq = p.MTU
	}
	eth := &layers.Ethernet{SrcMAC: net.HardwareAddr(p.EthSrc[:]), DstMAC: net.HardwareAddr(p.EthDst[:])}
	var ip interface {
		gopacket.SerializableLayer
		gopacket.NetworkLayer
	}
	if IsIPv6(p.Src) {
		eth.EthernetType = layers.EthernetTypeIPv6
		ip = &layers.IPv6{Version: 6, HopLimit: p.TTL, NextHeader: layers.IPProtocol(p.Proto), SrcIP: src, DstIP: dst}
	} else {
		eth.EthernetType = layers.EthernetTypeIPv4
		ip4 := &layers.IPv4{Version: 4, IHL: 5, TTL: p.TTL, Protocol: layers.IPProtocol(p.Proto), SrcIP: src, DstIP: dst, Id: p.IPID}
		if p.DF {
			ip4.Flags = layers.IPv4DontFragment
		}
		ip = ip4
	}
	stack := []gopacket.SerializableLayer{eth, ip}
	switch p.Proto {
	case header.ProtoUDP:
		u := &layers.UDP{SrcPort: layers.UDPPort(sport), DstPort: layers.UDPPort(dport)}
		_ = u.SetNetworkLayerForChecksum(ip) // fails for other families only
		stack = append(stack, u)
	case header.ProtoTCP:
		t := &layers.TCP{
			SrcPort: layers.TCPPort(sport), DstPort: layers.TCPPort(dport), Seq: p.Seq, Ack: p.Ack, Window: 65535,
			FIN: p.Flags&FIN != 0, SYN: p.Flags&SYN != 0, RST: p.Flags&RST != 0, PSH: p.Flags&PSH != 0, ACK: p.Flags&ACK != 0,
			Options: p.Options,
		}
		_ = t.SetNetworkLayerForChecksum(ip)
		stack = append(stack, t)
	case header.ProtoICMP:
		stack = append(stack, &layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(p.Type, p.Code), Id: p.ID, Seq: seq})
	case header.ProtoICMPv6:
		ic := &layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(p.Type, p.Code)}
		_ = ic.SetNetworkLayerForChecksum(ip)
		stack = append(stack, ic)
		p.Payload = append([]byte{byte(p.ID >> 8), byte(p.ID), byte(seq >> 8), byte(seq)}, p.Payload...)
	}
	buf := gopacket.NewSerializeBuffer()
	err := gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true},
		append(stack, gopacket.Payload(p.Payload))...)
	if err != nil {
		panic(err) // a builder's mistake
	}
	return buf.Bytes()
}

func split(s string) (net.IP, uint16) {
	if ap, err := netip.ParseAddrPort(s); err == nil {
		return ap.Addr().AsSlice(), ap.Port()
	}
	return netip.MustParseAddr(s).AsSlice(), 0
}

// Seen is what a test looks at in a frame that came out.
type Seen struct {
	EthSrc, EthDst header.MAC
	header.Tuple
	TTL     uint8
	Flags   uint8
	Payload string
}

// See reads a frame.
func See(t testing.TB, f []byte) Seen {
	t.Helper()
	var l header.Layers
	if !header.Parse(f, &l) {
		t.Fatalf("the switch sent a malformed frame: %s", Describe(f))
	}
	s := Seen{EthSrc: l.Src, EthDst: l.Dst, Tuple: l.Tuple, TTL: l.TTL, Flags: l.TCPFlags}
	if p := gopacket.NewPacket(f, layers.LayerTypeEthernet, gopacket.Default).ApplicationLayer(); p != nil {
		s.Payload = string(p.Payload())
	}
	return s
}

// From and To print the ends of what was seen.
func (s Seen) From() string { return end(s.Src, s.SrcPort) }

// To prints the destination.
func (s Seen) To() string { return end(s.Dst, s.DstPort) }

func end(a header.Addr, port uint16) string { return netip.AddrPortFrom(a.NetIP(), port).String() }

// CheckSums fails the test when a checksum in the frame is wrong.
func CheckSums(t testing.TB, f []byte) {
	t.Helper()
	p := gopacket.NewPacket(f, layers.LayerTypeEthernet, gopacket.Default)
	if tr, ok := p.TransportLayer().(interface {
		SetNetworkLayerForChecksum(gopacket.NetworkLayer) error
	}); ok {
		_ = tr.SetNetworkLayerForChecksum(p.NetworkLayer()) // an IP layer always fits
	}
	if ic, ok := p.Layer(layers.LayerTypeICMPv6).(*layers.ICMPv6); ok {
		_ = ic.SetNetworkLayerForChecksum(p.NetworkLayer())
	}
	err, bad := p.VerifyChecksums()
	if err != nil {
		t.Errorf("checksums of %s: %v", Describe(f), err)
	}
	for _, m := range bad {
		t.Errorf("%s checksum %#x, want %#x in %s", m.Layer.LayerType(), m.Actual, m.Correct, Describe(f))
	}
}
