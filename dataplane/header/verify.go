package header

// ICMPSumOK reports whether the checksum of an ICMP message is right. The frame
// holds the whole message: l is no fragment's.
func ICMPSumOK(b []byte, l *Layers) bool {
	var pseudo uint64
	m := b[l.L4:l.End]
	if l.Flags&FlagIPv6 != 0 {
		pseudo = sum(b[l.L3+8:l.L3+ipv6Len], uint64(len(m))+uint64(ProtoICMPv6))
	}
	return fold(sum(m, pseudo)) == 0xffff
}

// QuotedSumOK reports whether the header checksum of a quoted IPv4 packet is
// right (RFC 5508, REQ-3 a); IPv6 has none.
func QuotedSumOK(b []byte, q *Layers) bool {
	if q.Flags&FlagIPv6 != 0 {
		return true
	}
	h := b[q.L3:]
	return fold(sum(h[:int(h[0]&0xf)*4], 0)) == 0xffff
}

// Translatable reports whether an ICMP error is of a type that a translator
// passes on: destination unreachable, time exceeded, parameter problem and, for
// IPv6, packet too big. A redirect speaks about a link and ends there.
func Translatable(l *Layers) bool {
	return l.Flags&FlagICMPError != 0 && (l.Flags&FlagIPv6 != 0 || l.ICMPType != icmpRedirect)
}

// TooBigMTU returns the MTU that a "too big" error announces, and false when
// the error is another.
func TooBigMTU(b []byte, l *Layers) (uint32, bool) {
	h := b[l.L4:]
	if l.Flags&FlagIPv6 != 0 {
		return be.Uint32(h[4:]), h[0] == icmp6PacketTooBig
	}
	return uint32(be.Uint16(h[6:])), h[0] == icmpUnreachable && h[1] == 4
}
