package header

import "encoding/binary"

// Lengths and protocol numbers that only the parser needs.
const (
	vlanLen      = 4
	ipv4Len      = 20
	ipv6Len      = 40
	arpLen       = 28
	tcpLen       = 20
	udpLen       = 8
	icmpLen      = 8
	maxVLANs     = 2
	max8023      = 0x600 // below this an EtherType is an 802.3 length
	maxExtension = 8

	protoHopByHop    = 0
	protoRouting     = 43
	protoFragment    = 44
	protoDestOptions = 60
)

var be = binary.BigEndian

// Parse finds the headers of an Ethernet frame. It returns false when the frame
// is malformed; l is then undefined apart from Dst and Src, which are set
// whenever the frame has an Ethernet header. Bytes behind the IP packet are
// padding and end up behind l.End.
//
// Malformed are frames without payload, lengths that contradict each other or
// the frame, transport headers cut short, and packets that a receiver and a
// translator could read differently:
//
//   - IPv4 source routes (RFC 7126, 4.3 and 4.4), IPv6 routing header type 0
//     (RFC 5095), and options whose length is wrong
//   - fragments that end past 65535 bytes, are empty, are not a multiple of 8
//     though more follow, or reach into the TCP header (RFC 1858, RFC 3128),
//     and first fragments without their transport header (RFC 7112)
//   - more than 8 extension headers, hop-by-hop options elsewhere than first,
//     a second fragment header, a jumbo payload
//   - IPv6 with an IPv4-mapped address, which Addr would take for IPv4, and
//     ICMP of the other family
//
// A UDP length below the IP payload is fine (RFC 9868 puts options there); that
// of a GSO frame covers the whole super-frame. An IPv6 atomic fragment is a
// whole packet (RFC 6946).
func Parse(b []byte, l *Layers) bool {
	*l = Layers{}
	if len(b) < EthernetLen {
		return false
	}
	l.Dst, l.Src = MAC(b[0:6]), MAC(b[6:12])
	etherType, at := be.Uint16(b[12:]), EthernetLen
	for (etherType == TypeVLAN || etherType == TypeQinQ) && l.VLANs < maxVLANs {
		if len(b) < at+vlanLen {
			return false
		}
		etherType = be.Uint16(b[at+2:])
		at += vlanLen
		l.VLANs++
	}
	if len(b) == at {
		return false
	}
	l.EtherType, l.L3, l.End = etherType, uint16(at), uint32(len(b))
	switch etherType {
	case TypeIPv4:
		return parseIPv4(b, l, false)
	case TypeIPv6:
		return parseIPv6(b, l, false)
	case TypeARP:
		return parseARP(b, l)
	}
	return true
}

// ParseQuoted finds the headers of the packet that an ICMP error quotes; b and
// l are those of the error, with FlagICMPError. The quote may be cut short
// anywhere behind the first 8 bytes of the transport header (RFC 792), so q.End
// is one past the quoted bytes that are there. Offsets in q count from the start
// of the frame; the Ethernet fields of q are zero. It returns false when too
// little is quoted, or nothing that Parse would accept.
func ParseQuoted(b []byte, l *Layers, q *Layers) bool {
	*q = Layers{}
	at := int(l.L4) + icmpLen
	end := int(l.End)
	// RFC 4884: a length in the ICMP header ends the quote; extensions follow.
	var quoted int
	if l.Flags&FlagIPv6 != 0 {
		switch l.ICMPType {
		case icmp6Unreachable, icmp6TimeExceeded:
			quoted = int(b[l.L4+4]) * 8
		}
	} else {
		switch l.ICMPType {
		case icmpUnreachable, icmpTimeExceeded, icmpParamProblem:
			quoted = int(b[l.L4+5]) * 4
		}
	}
	if quoted != 0 {
		end = min(end, at+quoted)
	}
	q.L3 = uint16(at)
	if l.Flags&FlagIPv6 != 0 {
		q.EtherType = TypeIPv6
		return parseIPv6(b[:end], q, true)
	}
	q.EtherType = TypeIPv4
	return parseIPv4(b[:end], q, true)
}

// parseARP accepts Ethernet/IPv4 (RFC 826); ARP of another hardware or protocol
// is opaque.
func parseARP(b []byte, l *Layers) bool {
	h := b[l.L3:]
	if len(h) < 8 || len(h) < 8+2*(int(h[4])+int(h[5])) {
		return false
	}
	if be.Uint16(h) != 1 || be.Uint16(h[2:]) != TypeIPv4 {
		return true
	}
	l.Kind = KindARP
	l.End = uint32(l.L3) + arpLen
	return h[4] == 6 && h[5] == 4
}

// parseIPv4 reads the packet at l.L3; b ends where the frame or the quote does.
func parseIPv4(b []byte, l *Layers, quoted bool) bool {
	h := b[l.L3:]
	if len(h) < ipv4Len {
		return false
	}
	ihl, total := int(h[0]&0xf)*4, int(be.Uint16(h[2:]))
	if h[0]>>4 != 4 || ihl < ipv4Len || ihl > len(h) || total < ihl {
		return false
	}
	if total <= len(h) {
		h = h[:total]
	} else if !quoted {
		return false
	}
	l.Kind = KindIP
	l.End = uint32(l.L3) + uint32(len(h))
	l.TTL = h[8]
	l.Tuple.Proto = h[9]
	// One store for the half that is not zero: AddrFrom4 costs 4 ns more each.
	be.PutUint64(l.Tuple.Src[8:], 0xffff<<32|uint64(be.Uint32(h[12:])))
	be.PutUint64(l.Tuple.Dst[8:], 0xffff<<32|uint64(be.Uint32(h[16:])))
	if ihl > ipv4Len {
		if !soundIPv4Options(h[ipv4Len:ihl]) {
			return false
		}
		l.Flags |= FlagOptions
	}
	frag := be.Uint16(h[6:])
	if frag&0x4000 != 0 {
		l.Flags |= FlagDontFragment
	}
	if frag&0x3fff != 0 {
		l.FragID = uint32(be.Uint16(h[4:]))
		offset, more := int(frag&0x1fff)*8, frag&0x2000 != 0
		if !parseFragment(l, offset, more, total-ihl) {
			return false
		}
		if l.Flags&FlagFragment != 0 {
			return true
		}
	}
	return parseL4(h[ihl:], l, int(l.L3)+ihl, quoted)
}

// soundIPv4Options follows ip_options_compile of the kernel in what it refuses,
// and refuses source routes on top.
func soundIPv4Options(o []byte) bool {
	for len(o) > 0 {
		switch o[0] {
		case 0: // end of list
			return true
		case 1: // no operation
			o = o[1:]
			continue
		}
		if len(o) < 2 || o[1] < 2 || int(o[1]) > len(o) {
			return false
		}
		switch o[0] {
		case 131, 137: // loose, strict source route
			return false
		case 7: // record route
			if o[1] < 3 || o[2] < 4 {
				return false
			}
		case 68: // timestamp
			if o[1] < 4 || o[2] < 5 {
				return false
			}
		}
		o = o[o[1]:]
	}
	return true
}

// parseFragment sets the fragment flags from what a fragment header says;
// offset and size, that of the payload, are in bytes.
func parseFragment(l *Layers, offset int, more bool, size int) bool {
	if size == 0 || offset+size > 0xffff || (more && size&7 != 0) {
		return false
	}
	if offset == 0 {
		l.Flags |= FlagFirstFragment
		return true
	}
	l.Flags |= FlagFragment
	return l.Tuple.Proto != ProtoTCP || offset >= tcpLen
}

// parseIPv6 reads the packet at l.L3; b ends where the frame or the quote does.
func parseIPv6(b []byte, l *Layers, quoted bool) bool {
	h := b[l.L3:]
	if len(h) < ipv6Len || h[0]>>4 != 6 {
		return false
	}
	total := ipv6Len + int(be.Uint16(h[4:]))
	if total <= len(h) {
		h = h[:total]
	} else if !quoted {
		return false
	}
	l.Kind = KindIP
	l.Flags = FlagIPv6 | FlagDontFragment
	l.End = uint32(l.L3) + uint32(len(h))
	l.TTL = h[7]
	l.Tuple.Src, l.Tuple.Dst = Addr(h[8:24]), Addr(h[24:40])
	l.Tuple.Proto = h[6]
	if l.Tuple.Src.Is4() || l.Tuple.Dst.Is4() {
		return false
	}
	at := ipv6Len
	switch h[6] {
	case protoHopByHop, protoRouting, protoFragment, protoDestOptions:
		if at = skipExtensions(h, l, total); at < 0 {
			return false
		}
		if at == 0 {
			return true
		}
	}
	return parseL4(h[at:], l, int(l.L3)+at, quoted)
}

// skipExtensions walks the extension headers of the IPv6 packet h, whose header
// declares total bytes, and leaves the protocol behind them in l.Tuple.Proto. It
// returns the offset of the transport header in h, 0 when there is none to use,
// -1 when the chain is malformed.
func skipExtensions(h []byte, l *Layers, total int) int {
	l.Flags |= FlagOptions
	at, next := ipv6Len, h[6]
	fragmented, routed := false, false
	for count := 0; ; count++ {
		size := 8
		switch next {
		case protoHopByHop, protoDestOptions, protoRouting, protoFragment:
			if count == maxExtension || len(h)-at < size {
				return -1
			}
		default:
			l.Tuple.Proto = next
			if routed {
				// The pseudo-header of the checksum holds the final destination
				// (RFC 8200, 8.1), not that of the IPv6 header.
				return 0
			}
			return at
		}
		if next != protoFragment {
			size += int(h[at+1]) * 8
			if len(h)-at < size {
				return -1
			}
		}
		switch next {
		case protoHopByHop:
			if count != 0 || !soundIPv6Options(h[at+2:at+size]) {
				return -1
			}
		case protoDestOptions:
			if !soundIPv6Options(h[at+2 : at+size]) {
				return -1
			}
		case protoRouting:
			if h[at+2] == 0 {
				return -1
			}
			routed = routed || h[at+3] != 0
		case protoFragment:
			if fragmented {
				return -1
			}
			fragmented = true
			l.Tuple.Proto = h[at]
			frag := be.Uint16(h[at+2:])
			offset, more := int(frag&0xfff8), frag&1 != 0
			if offset == 0 && !more {
				break
			}
			l.FragID = be.Uint32(h[at+4:])
			if !parseFragment(l, offset, more, total-at-size) {
				return -1
			}
			if l.Flags&FlagFragment != 0 {
				return 0
			}
		}
		next = h[at]
		at += size
	}
}

// soundIPv6Options checks that the options fill their header exactly and hold
// no jumbo payload (RFC 2675), which the payload length contradicts.
func soundIPv6Options(o []byte) bool {
	for len(o) > 0 {
		if o[0] == 0 { // Pad1
			o = o[1:]
			continue
		}
		if len(o) < 2 || int(o[1])+2 > len(o) || o[0] == 0xc2 {
			return false
		}
		o = o[int(o[1])+2:]
	}
	return true
}

// parseL4 reads the transport header h, which starts at offset at of the frame
// and ends with the packet.
func parseL4(h []byte, l *Layers, at int, quoted bool) bool {
	l.L4 = uint16(at)
	switch l.Tuple.Proto {
	case ProtoTCP:
		if len(h) >= tcpLen {
			if size := int(h[12]>>4) * 4; !quoted && (size < tcpLen || size > len(h)) {
				return false
			}
			l.TCPFlags = h[13]
		} else if !quoted || len(h) < 8 {
			return false
		}
	case ProtoUDP:
		if len(h) < udpLen {
			return false
		}
		size := int(be.Uint16(h[4:]))
		if !quoted && (size < udpLen || (size > len(h) && l.Flags&FlagFirstFragment == 0)) {
			return false
		}
	case ProtoSCTP:
		if len(h) < sctpLen && (!quoted || len(h) < 8) {
			return false
		}
	case ProtoICMP, ProtoICMPv6:
		return parseICMP(h, l)
	default:
		return true
	}
	l.Kind = KindL4
	l.Tuple.SrcPort, l.Tuple.DstPort = be.Uint16(h), be.Uint16(h[2:])
	return true
}
