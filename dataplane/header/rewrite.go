package header

// SetMACs writes the Ethernet addresses.
func SetMACs(b []byte, dst, src MAC) {
	copy(b[0:6], dst[:])
	copy(b[6:12], src[:])
}

// DecrementTTL takes one from the TTL or hop limit, in b and in l. The caller
// has made sure that it is greater than 1.
func DecrementTTL(b []byte, l *Layers) {
	l.TTL--
	at := int(l.L3)
	if l.Flags&FlagIPv6 != 0 {
		b[at+7]--
		return
	}
	b[at+8]--
	update(b, at+10, diff16(0x0100, 0))
}

// Rewrite gives the packet the addresses and ports of to, in b and in l.Tuple,
// and keeps its checksums as true as they were. The addresses in to have the
// family of the packet; to.Proto is ignored. Of a fragment other than the first
// only the addresses change, and of a packet below KindL4 too; ICMP queries
// carry their identifier by the rule of Tuple.
//
// partial says that the transport checksum is partial: frame.CsumPartial with
// CsumStart equal to l.L4. Its field then holds the sum of the pseudo-header, so
// that ports do not change it. A partial checksum further inside (a tunnel)
// leaves the outer one finished. Ports of an SCTP packet change only where
// PortsChangeable says so.
func Rewrite(b []byte, l *Layers, to Tuple, partial bool) {
	diff := rewriteAddrs(b, l, &to.Src, &to.Dst)
	if l.L4 == 0 {
		return
	}
	at := int(l.L4)
	if partial {
		switch l.Tuple.Proto {
		case ProtoTCP:
			updatePartial(b, at+16, diff)
		case ProtoUDP:
			updatePartial(b, at+6, diff)
		case ProtoICMPv6:
			updatePartial(b, at+2, diff)
		}
		rewritePorts(b, l, to)
		return
	}
	if l.Tuple.Proto == ProtoSCTP {
		if l.Kind == KindL4 {
			was := [4]byte(b[at:])
			rewritePorts(b, l, to)
			updateSCTP(b[:l.End], at, was, int(l.Behind))
		}
		return
	}
	ports := rewritePorts(b, l, to)
	switch l.Tuple.Proto {
	case ProtoTCP:
		update(b, at+16, diff+ports)
	case ProtoUDP:
		updateUDP(b, at+6, diff+ports)
	case ProtoICMP: // no pseudo-header
		update(b, at+2, ports)
	case ProtoICMPv6:
		update(b, at+2, diff+ports)
	}
}

// RewriteError gives an ICMP error the addresses src and dst, and the packet it
// quotes the tuple quoted, in b, l.Tuple and q.Tuple. The quoted IP checksum, as
// much of the quoted transport checksum as was quoted, and the ICMP checksum
// follow. What stands behind the quote (RFC 4884 extensions) is not touched.
func RewriteError(b []byte, l, q *Layers, src, dst Addr, quoted Tuple) {
	outer := rewriteAddrs(b, l, &src, &dst)
	if l.Flags&FlagIPv6 == 0 {
		outer = 0 // no pseudo-header
	}
	inner := int(q.L3) + 10
	var ipsum, l4sum uint16
	if q.Flags&FlagIPv6 == 0 {
		ipsum = be.Uint16(b[inner:])
	}
	addrs := rewriteAddrs(b, q, &quoted.Src, &quoted.Dst)
	all := outer + addrs
	if q.Flags&FlagIPv6 == 0 {
		all += diff16(ipsum, be.Uint16(b[inner:]))
	}
	if q.L4 != 0 {
		ports := rewritePorts(b, q, quoted)
		all += ports
		var field int
		diff := addrs + ports
		switch q.Tuple.Proto {
		case ProtoTCP:
			field = int(q.L4) + 16
		case ProtoUDP:
			field = int(q.L4) + 6
		case ProtoICMP:
			field, diff = int(q.L4)+2, ports
		case ProtoICMPv6:
			field = int(q.L4) + 2
		}
		if field != 0 && field+2 <= int(q.End) {
			l4sum = be.Uint16(b[field:])
			if q.Tuple.Proto == ProtoUDP {
				updateUDP(b, field, diff)
			} else {
				update(b, field, diff)
			}
			all += diff16(l4sum, be.Uint16(b[field:]))
		}
	}
	update(b, int(l.L4)+2, all)
}

// rewriteAddrs writes the addresses and the IPv4 header checksum, and returns
// the difference that the pseudo-header sees.
func rewriteAddrs(b []byte, l *Layers, src, dst *Addr) uint64 {
	diff := diffAddr(&l.Tuple.Src, src) + diffAddr(&l.Tuple.Dst, dst)
	l.Tuple.Src, l.Tuple.Dst = *src, *dst
	h := b[l.L3:]
	if l.Flags&FlagIPv6 != 0 {
		copy(h[8:24], src[:])
		copy(h[24:40], dst[:])
		return diff
	}
	update(h, 10, diff)
	copy(h[12:16], src[12:])
	copy(h[16:20], dst[12:])
	return diff
}

// rewritePorts writes the ports or the query identifier of a packet of KindL4
// and returns the difference.
func rewritePorts(b []byte, l *Layers, to Tuple) uint64 {
	if l.Kind != KindL4 {
		return 0
	}
	h := b[l.L4:]
	switch l.Tuple.Proto {
	case ProtoICMP, ProtoICMPv6:
		from, id := be.Uint16(h[4:]), to.DstPort
		l.Tuple.SrcPort, l.Tuple.DstPort = 0, to.DstPort
		if queryAsks(l) {
			id = to.SrcPort
			l.Tuple.SrcPort, l.Tuple.DstPort = to.SrcPort, 0
		}
		be.PutUint16(h[4:], id)
		return diff16(from, id)
	}
	diff := diff16(l.Tuple.SrcPort, to.SrcPort) + diff16(l.Tuple.DstPort, to.DstPort)
	be.PutUint16(h, to.SrcPort)
	be.PutUint16(h[2:], to.DstPort)
	l.Tuple.SrcPort, l.Tuple.DstPort = to.SrcPort, to.DstPort
	return diff
}
