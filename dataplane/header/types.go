package header

import "net/netip"

// EtherTypes and IP protocol numbers the switch looks at; everything else is
// carried untouched at layer 2.
const (
	TypeIPv4 uint16 = 0x0800
	TypeARP  uint16 = 0x0806
	TypeVLAN uint16 = 0x8100
	TypeQinQ uint16 = 0x88A8
	TypeIPv6 uint16 = 0x86DD

	ProtoICMP   uint8 = 1
	ProtoTCP    uint8 = 6
	ProtoUDP    uint8 = 17
	ProtoICMPv6 uint8 = 58
	ProtoSCTP   uint8 = 132
)

// EthernetLen is the length of an untagged Ethernet header in bytes.
const EthernetLen = 14

// MAC is a 48-bit Ethernet address.
type MAC [6]byte

// Broadcast is the all-ones Ethernet address.
var Broadcast = MAC{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}

// Addr is an IPv4 or IPv6 address in 16 bytes, IPv4 in its ::ffff:a.b.c.d form,
// so that both families share one path and a Tuple holds no pointer.
type Addr [16]byte

// Tuple names one direction of a flow. It is comparable and pointer-free.
//
// For ICMP queries the identifier is the port of the side that asked: a request
// carries it in SrcPort with DstPort 0, a reply in DstPort with SrcPort 0, so
// that Reverse of a request is the tuple of its reply.
type Tuple struct {
	Src, Dst         Addr
	SrcPort, DstPort uint16
	Proto            uint8
}

// Reverse returns the tuple of the answering direction.
func (t Tuple) Reverse() Tuple {
	return Tuple{Src: t.Dst, Dst: t.Src, SrcPort: t.DstPort, DstPort: t.SrcPort, Proto: t.Proto}
}

// Kind says which fields of Layers are valid.
type Kind uint8

// Kinds are cumulative: KindL4 implies KindIP.
const (
	KindL2 Kind = iota // Ethernet only: unknown EtherType, 802.3/LLC
	KindARP
	KindIP // IP header checked; Tuple.Src, Dst and Proto valid
	KindL4 // and ports or query identifier valid
)

// Flags are facts about an IP packet, valid iff Kind >= KindIP.
type Flags uint8

// Fragment flags follow RFC 791 and RFC 8200; a packet with neither
// FlagFragment nor FlagFirstFragment is whole.
const (
	FlagIPv6          Flags = 1 << iota
	FlagFragment            // a fragment with a non-zero offset: no L4 header here
	FlagFirstFragment       // offset zero, more to come: the L4 header is here
	FlagDontFragment        // IPv4 DF, always set for IPv6
	FlagICMPError           // ICMP or ICMPv6 error that quotes another packet
	FlagOptions             // IPv4 options or IPv6 extension headers are present
)

// Layers are the offsets and facts that Parse found in a frame. Offsets count
// bytes from the start of the Ethernet header.
type Layers struct {
	Dst, Src  MAC
	EtherType uint16 // of the payload behind any VLAN tags
	VLANs     uint8  // VLAN tags in the frame, 0 to 2
	Kind      Kind
	Flags     Flags
	TTL       uint8  // TTL or hop limit, valid iff Kind >= KindIP
	TCPFlags  uint8  // valid iff Kind == KindL4 and Tuple.Proto == ProtoTCP
	ICMPType  uint8  // valid iff Tuple.Proto is ICMP or ICMPv6 and L4 != 0
	L3        uint16 // offset of the IP or ARP header
	L4        uint16 // offset of the transport header; 0 when Kind < KindIP or none can be used (FlagFragment, IPv6 source routes)
	FragID    uint32 // identification of the datagram, valid iff FlagFragment or FlagFirstFragment
	End       uint32 // offset one past the IP packet: what lies behind is Ethernet padding
	Behind    uint16 // of a first fragment the bytes that follow in others; 0: Parse cannot know
	Tuple     Tuple
}

// AddrFrom4 maps an IPv4 address.
func AddrFrom4(a [4]byte) Addr {
	return Addr{10: 0xff, 11: 0xff, 12: a[0], 13: a[1], 14: a[2], 15: a[3]}
}

// AddrFrom converts from net/netip; the zone is dropped and an invalid address
// becomes the zero Addr.
func AddrFrom(a netip.Addr) Addr {
	if !a.IsValid() {
		return Addr{}
	}
	return Addr(a.As16())
}

// Is4 reports whether a is an IPv4 address.
func (a Addr) Is4() bool {
	return *(*[12]byte)(a[:12]) == [12]byte{10: 0xff, 11: 0xff}
}

// NetIP converts to net/netip; IPv4 comes back unmapped, the zero Addr invalid.
func (a Addr) NetIP() netip.Addr {
	if a == (Addr{}) {
		return netip.Addr{}
	}
	return netip.AddrFrom16(a).Unmap()
}

// String returns the usual text form.
func (a Addr) String() string { return a.NetIP().String() }
