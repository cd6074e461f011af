package header

// ICMPv6 types of neighbour discovery (RFC 4861).
const (
	ICMP6RouterSolicit    uint8 = 133
	ICMP6RouterAdvert     uint8 = 134
	ICMP6NeighborSolicit  uint8 = 135
	ICMP6NeighborAdvert   uint8 = 136
	ICMP6Redirect         uint8 = 137
	ndSourceLinkAddress         = 1
	ndTargetLinkAddress         = 2
	ndSolicitedOverride         = 0x60 // flags of an advertisement
	ndRouter                    = 0x80
	ndHopLimit                  = 255
	neighborAdvertPayload       = 32 // with a target link-layer address
)

// Operations of ARP.
const (
	ARPRequest uint16 = 1
	ARPReply   uint16 = 2
)

// MaxNeighborLen is the room in bytes that AppendARPReply and
// AppendNeighborAdvert need behind out.
const MaxNeighborLen = EthernetLen + ipv6Len + neighborAdvertPayload

// AllNodes is ff02::1.
var AllNodes = Addr{0: 0xff, 1: 0x02, 15: 1}

// ARP is an ARP message of Ethernet and IPv4 (RFC 826).
type ARP struct {
	Op                   uint16
	SenderMAC, TargetMAC MAC
	Sender, Target       Addr
}

// ReadARP reads the ARP message of a frame for which Parse said KindARP.
func ReadARP(b []byte, l *Layers) ARP {
	h := b[l.L3 : l.L3+arpLen]
	return ARP{
		Op:        be.Uint16(h[6:]),
		SenderMAC: MAC(h[8:14]), Sender: AddrFrom4([4]byte(h[14:18])),
		TargetMAC: MAC(h[18:24]), Target: AddrFrom4([4]byte(h[24:28])),
	}
}

// Neighbor is a message of neighbour discovery, types 133 to 137.
type Neighbor struct {
	Target Addr // of a solicitation, an advertisement or a redirect
	// LinkAddr is the source link-layer address of a solicitation, the target's
	// of an advertisement; HasLinkAddr says whether there is one.
	LinkAddr    MAC
	HasLinkAddr bool
}

// ReadNeighbor reads the neighbour discovery message of a frame for which Parse
// found ICMPv6 with a header (L4 not 0). It returns false when it is none or
// malformed: a hop limit other than 255, which it got beyond the link, options
// that do not fill it (RFC 4861, 6.1 and 7.1), or two different link-layer
// addresses.
func ReadNeighbor(b []byte, l *Layers, n *Neighbor) bool {
	*n = Neighbor{}
	if l.TTL != ndHopLimit || b[l.L4+1] != 0 {
		return false
	}
	h, options := b[l.L4:l.End], 8
	want := byte(ndSourceLinkAddress)
	switch l.ICMPType {
	case ICMP6RouterSolicit:
	case ICMP6RouterAdvert:
		options = 16
	case ICMP6NeighborSolicit:
		options = 24
	case ICMP6NeighborAdvert:
		options, want = 24, ndTargetLinkAddress
	case ICMP6Redirect:
		options, want = 40, ndTargetLinkAddress
	default:
		return false
	}
	if len(h) < options {
		return false
	}
	if options >= 24 {
		n.Target = Addr(h[8:24])
	}
	for o := h[options:]; len(o) > 0; {
		if len(o) < 8 || o[1] == 0 || int(o[1])*8 > len(o) {
			return false
		}
		if o[0] == want {
			mac := MAC(o[2:8])
			if n.HasLinkAddr && n.LinkAddr != mac {
				return false
			}
			n.LinkAddr, n.HasLinkAddr = mac, true
		}
		o = o[int(o[1])*8:]
	}
	return true
}

// AppendARPReply appends to out the frame that tells the sender of a request
// that mac has the address it asked for. out must have room for MaxNeighborLen
// more bytes.
func AppendARPReply(out []byte, req *ARP, mac MAC) []byte {
	out = append(out, req.SenderMAC[:]...)
	out = append(out, mac[:]...)
	out = append(out, 0x08, 0x06, 0, 1, 0x08, 0, 6, 4, 0, byte(ARPReply))
	out = append(out, mac[:]...)
	out = append(out, req.Target[12:]...)
	out = append(out, req.SenderMAC[:]...)
	return append(out, req.Sender[12:]...)
}

// Announcement is the frame by which a station tells all others that it has an address: an ARP
// announcement (RFC 5227, 3) or an unsolicited advertisement (RFC 4861, 7.2.6).
func Announcement(mac MAC, a Addr) []byte {
	out := make([]byte, 0, MaxNeighborLen)
	if !a.Is4() {
		return AppendNeighborAdvert(out, MAC{}, Addr{}, a, mac, false)
	}
	out = append(out, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff)
	out = append(out, mac[:]...)
	out = append(out, 0x08, 0x06, 0, 1, 0x08, 0, 6, 4, 0, byte(ARPRequest))
	out = append(out, mac[:]...)
	out = append(out, a[12:]...)
	out = append(out, 0, 0, 0, 0, 0, 0)
	return append(out, a[12:]...)
}

// AppendNeighborAdvert appends to out the frame that tells who solicited
// target, at dst and behind dstMAC, that mac has it. A solicitation from the
// unspecified address, of duplicate address detection, is answered to all nodes
// (RFC 4861, 7.2.4). out must have room for MaxNeighborLen more bytes.
func AppendNeighborAdvert(out []byte, dstMAC MAC, dst, target Addr, mac MAC, router bool) []byte {
	flags := byte(ndSolicitedOverride)
	if dst == (Addr{}) {
		dst, dstMAC, flags = AllNodes, MAC{0x33, 0x33, 0, 0, 0, 1}, flags&0x20
	}
	if router {
		flags |= ndRouter
	}
	out = append(out, dstMAC[:]...)
	out = append(out, mac[:]...)
	out = append(out, 0x86, 0xdd, 0x60, 0, 0, 0, 0, neighborAdvertPayload, ProtoICMPv6, ndHopLimit)
	at := len(out)
	out = append(out, target[:]...)
	out = append(out, dst[:]...)
	out = append(out, ICMP6NeighborAdvert, 0, 0, 0, flags, 0, 0, 0)
	out = append(out, target[:]...)
	out = append(out, ndTargetLinkAddress, 1)
	out = append(out, mac[:]...)
	check := ^fold(sum(out[at:], uint64(ProtoICMPv6)+neighborAdvertPayload))
	be.PutUint16(out[at+2*len(target)+2:], check)
	return out
}
