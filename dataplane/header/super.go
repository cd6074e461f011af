package header

// Super is what a TCP super-packet of more than 64 KiB (BIG TCP) is cut by: no length of IP fits
// it, so that its header has none.
type Super struct {
	L3, L4, Payload int // offsets in the frame
	// Strip is how many bytes lie between the IPv6 header and TCP: jumbo options (RFC 2675),
	// which Linux before 7.0 writes. The pieces are without.
	Strip int
}

// ReadSuper finds the parts of such a frame in its first bytes.
func ReadSuper(b []byte) (s Super, ok bool) {
	if len(b) < EthernetLen+60+60 {
		return s, false
	}
	at, typ := EthernetLen, be.Uint16(b[12:])
	for range 2 {
		if typ == TypeVLAN || typ == TypeQinQ {
			typ = be.Uint16(b[at+2:])
			at += 4
		}
	}
	if s.L3 = at; at+60+60 > len(b) {
		return s, false
	}
	switch ip := b[at:]; {
	case typ == TypeIPv4 && ip[0]>>4 == 4 && ip[9] == ProtoTCP && be.Uint16(ip[2:]) == 0 && be.Uint16(ip[6:])&0x3fff == 0:
		if s.L4 = at + int(ip[0]&0xf)*4; s.L4 < at+20 {
			return s, false
		}
	case typ == TypeIPv6 && ip[0]>>4 == 6 && ip[6] == ProtoTCP && be.Uint16(ip[4:]) == 0:
		s.L4 = at + 40
	case typ == TypeIPv6 && ip[0]>>4 == 6 && ip[6] == 0 && be.Uint16(ip[4:]) == 0 &&
		ip[40] == ProtoTCP && ip[41] == 0 && ip[42] == 0xc2 && ip[43] == 4:
		s.L4, s.Strip = at+48, 8
	default:
		return s, false
	}
	s.Payload = s.L4 + int(b[s.L4+12]>>4)*4
	return s, s.Payload >= s.L4+20 && s.Payload <= len(b)
}

// Head is how many bytes the headers of a piece have.
func (s *Super) Head() int { return s.Payload - s.Strip }

// WriteHead writes into head the headers of a piece of the frame that b begins: the payload from
// first to last, of total bytes. A segment has size, and once says that the first alone tells of
// congestion (CWR). The checksum of TCP is partial. The first piece is written last: head may be
// b behind as many bytes as are stripped.
func (s *Super) WriteHead(head, b []byte, first, last, total, size int, once bool) {
	v6 := be.Uint16(b[s.L3-2:]) == TypeIPv6
	copy(head[s.L4-s.Strip:s.Head()], b[s.L4:s.Payload]) // back to front: both may be one
	copy(head[:s.L4-s.Strip], b[:s.L4-s.Strip])
	ip, tcp := head[s.L3:], head[s.L4-s.Strip:s.Head()]
	length := len(tcp) + last - first
	var pseudo uint64
	if v6 {
		ip[6] = ProtoTCP
		be.PutUint16(ip[4:], uint16(length))
		pseudo = sum(ip[8:40], uint64(ProtoTCP)+uint64(length))
	} else {
		h := ip[:s.L4-s.L3]
		be.PutUint16(h[2:], uint16(len(h)+length))
		be.PutUint16(h[4:], be.Uint16(h[4:])+uint16(first/size)) // each segment takes one
		be.PutUint16(h[10:], 0)
		be.PutUint16(h[10:], ^fold(sum(h, 0)))
		pseudo = sum(h[12:20], uint64(ProtoTCP)+uint64(length))
	}
	be.PutUint32(tcp[4:], be.Uint32(tcp[4:])+uint32(first))
	if first > 0 && once {
		tcp[13] &^= TCPCWR
	}
	if last < total {
		tcp[13] &^= TCPFIN | TCPPSH
	}
	be.PutUint16(tcp[TCPChecksum:], fold(pseudo))
}
