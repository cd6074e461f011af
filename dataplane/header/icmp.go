package header

// ICMP and ICMPv6 types that the switch tells apart.
const (
	icmpEchoReply      = 0
	icmpUnreachable    = 3
	icmpRedirect       = 5
	icmpEcho           = 8
	icmpTimeExceeded   = 11
	icmpParamProblem   = 12
	icmpTimestamp      = 13
	icmpTimestampReply = 14
	icmp6Unreachable   = 1
	icmp6PacketTooBig  = 2
	icmp6TimeExceeded  = 3
	icmp6ParamProblem  = 4
	icmp6Echo          = 128
	icmp6EchoReply     = 129
	icmp6Redirect      = 137

	icmp6Informational = 128 // this bit is clear in all errors
	icmp6UnknownOption = 2   // a code of icmp6ParamProblem
)

// MaxICMPErrorLen is the room in bytes that AppendICMPError needs behind out.
const MaxICMPErrorLen = EthernetLen + maxVLANs*vlanLen + 1280

// parseICMP reads an ICMP message of either family. Source quench is no error
// here: it is to be ignored (RFC 6633), so nothing should translate it.
func parseICMP(h []byte, l *Layers) bool {
	v6 := l.Flags&FlagIPv6 != 0
	if len(h) < icmpLen || v6 != (l.Tuple.Proto == ProtoICMPv6) {
		return false
	}
	l.ICMPType = h[0]
	if v6 {
		switch h[0] {
		case icmp6Unreachable, icmp6PacketTooBig, icmp6TimeExceeded, icmp6ParamProblem:
			l.Flags |= FlagICMPError
		case icmp6Echo:
			l.Kind, l.Tuple.SrcPort = KindL4, be.Uint16(h[4:])
		case icmp6EchoReply:
			l.Kind, l.Tuple.DstPort = KindL4, be.Uint16(h[4:])
		}
		return true
	}
	switch h[0] {
	case icmpUnreachable, icmpRedirect, icmpTimeExceeded, icmpParamProblem:
		l.Flags |= FlagICMPError
	case icmpEcho, icmpTimestamp:
		l.Kind, l.Tuple.SrcPort = KindL4, be.Uint16(h[4:])
	case icmpEchoReply, icmpTimestampReply:
		l.Kind, l.Tuple.DstPort = KindL4, be.Uint16(h[4:])
	}
	return true
}

// queryAsks reports whether an ICMP message of KindL4 is the question, which
// carries its identifier as the source port.
func queryAsks(l *Layers) bool {
	switch l.ICMPType {
	case icmpEcho, icmpTimestamp, icmp6Echo:
		return true
	}
	return false
}

// AppendICMPError appends to out the Ethernet frame of an ICMP error about the
// packet in orig, from mac and src back to its sender, with orig's VLAN tags.
// typ and code are those of the packet's family, info is bytes 4 to 7 of the
// ICMP header (MTU or pointer). The quote is as long as IPv4 hosts must take
// (576 bytes, RFC 1812 4.3.2.3) or IPv6 links carry (1280, RFC 4443 2.4 c). out
// must have room for MaxICMPErrorLen more bytes; orig is borrowed.
//
// It returns nil when no error may be sent: about an ICMP error, a redirect or
// an unknown ICMP type, a fragment other than the first, a group destination on
// either layer or a source that is no single host (RFC 1122 3.2.2, RFC 1812
// 4.3.2.7, RFC 4443 2.4 e). Whether an address is a subnet's broadcast and how
// often errors go out (RFC 1812 4.3.2.8) is left to the caller.
func AppendICMPError(out, orig []byte, l *Layers, mac MAC, src Addr, typ, code uint8, info uint32) []byte {
	if l.Kind < KindIP || src.Is4() == (l.Flags&FlagIPv6 != 0) || !answerable(l, typ, code) {
		return nil
	}
	out = append(out, l.Src[:]...)
	out = append(out, mac[:]...)
	out = append(out, orig[12:l.L3]...)
	l3 := len(out)
	quote := orig[l.L3:l.End]
	if l.Flags&FlagIPv6 != 0 {
		quote = quote[:min(len(quote), 1280-ipv6Len-icmpLen)]
		out = append(out, 0x60, 0, 0, 0, 0, 0, ProtoICMPv6, 64)
		be.PutUint16(out[l3+4:], uint16(icmpLen+len(quote)))
		out = append(out, src[:]...)
		out = append(out, l.Tuple.Src[:]...)
	} else {
		quote = quote[:min(len(quote), 576-ipv4Len-icmpLen)]
		// Precedence 6 with the type of service of the packet (RFC 1812,
		// 4.3.2.5); identification 0 with DF (RFC 6864, 4.1).
		out = append(out, 0x45, 0xc0|quote[1]&0x1c, 0, 0, 0, 0, 0x40, 0, 64, ProtoICMP, 0, 0)
		be.PutUint16(out[l3+2:], uint16(ipv4Len+icmpLen+len(quote)))
		out = append(out, src[12:]...)
		out = append(out, l.Tuple.Src[12:]...)
		be.PutUint16(out[l3+10:], ^fold(sum(out[l3:], 0)))
	}
	l4 := len(out)
	out = append(out, typ, code, 0, 0)
	out = be.AppendUint32(out, info)
	out = append(out, quote...)
	var pseudo uint64
	if l.Flags&FlagIPv6 != 0 {
		pseudo = sum(out[l3+8:l4], uint64(len(out)-l4)+uint64(ProtoICMPv6))
	}
	be.PutUint16(out[l4+2:], ^fold(sum(out[l4:], pseudo)))
	return out
}

// answerable reports whether an ICMP error may be sent about the packet of l.
func answerable(l *Layers, typ, code uint8) bool {
	src, dst := l.Tuple.Src, l.Tuple.Dst
	if l.Src.IsMulticast() || !singleHost(src) {
		return false
	}
	if l.Flags&FlagIPv6 == 0 {
		switch {
		case l.Flags&FlagFragment != 0, l.Dst.IsMulticast(), dst[12] >= 224:
			return false
		case l.Tuple.Proto == ProtoICMP:
			return l.Kind == KindL4
		}
		return true
	}
	if l.Dst.IsMulticast() || dst[0] == 0xff {
		// The two errors that multicast senders need (RFC 4443, 2.4 e.3).
		if typ != icmp6PacketTooBig && !(typ == icmp6ParamProblem && code == icmp6UnknownOption) {
			return false
		}
	}
	if l.Tuple.Proto == ProtoICMPv6 {
		// A later fragment has ICMPType 0 and counts as an error.
		return l.ICMPType&icmp6Informational != 0 && l.ICMPType != icmp6Redirect
	}
	return true
}

// singleHost reports whether a names one host on the wire.
func singleHost(a Addr) bool {
	if a.Is4() {
		return a[12] != 0 && a[12] != 127 && a[12] < 224
	}
	return a[0] != 0xff && a != Addr{} && a != Addr{15: 1}
}
