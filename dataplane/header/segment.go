package header

// AppendSegment appends to out the index-th segment of a TCP or UDP packet that
// is cut into pieces of size bytes of payload, a frame with lengths, sequence
// number, flags, identification and checksums as a device that segments writes
// them. It returns false in more for the last. b and l belong together; l is of
// a whole packet with KindL4.
func AppendSegment(out, b []byte, l *Layers, index, size int) (segment []byte, more bool) {
	payload := PayloadOffset(b, l)
	data := b[payload:l.End]
	from := min(index*size, len(data))
	to := min(from+size, len(data))
	more = to < len(data)
	start := len(out)
	out = append(append(out, b[:payload]...), data[from:to]...)
	s := out[start:]
	ip, l4 := s[l.L3:], s[l.L4:]
	var pseudo uint64
	if l.Flags&FlagIPv6 != 0 {
		be.PutUint16(ip[4:], uint16(len(ip)-ipv6Len))
		pseudo = sum(ip[8:ipv6Len], 0)
	} else {
		be.PutUint16(ip[2:], uint16(len(ip)))
		be.PutUint16(ip[4:], be.Uint16(ip[4:])+uint16(index))
		be.PutUint16(ip[10:], 0)
		be.PutUint16(ip[10:], ^fold(sum(ip[:int(ip[0]&0xf)*4], 0)))
		pseudo = sum(ip[12:ipv4Len], 0)
	}
	at := 6
	if l.Tuple.Proto == ProtoTCP {
		const fin, psh, cwr = 0x01, 0x08, 0x80
		at = 16
		be.PutUint32(l4[4:], be.Uint32(l4[4:])+uint32(from))
		if more {
			l4[13] &^= fin | psh
		}
		if index > 0 {
			l4[13] &^= cwr
		}
	} else {
		be.PutUint16(l4[4:], uint16(len(l4)))
	}
	be.PutUint16(l4[at:], 0)
	check := ^fold(sum(l4, pseudo+uint64(len(l4))+uint64(l.Tuple.Proto)))
	if check == 0 && l.Tuple.Proto == ProtoUDP {
		check = 0xffff
	}
	be.PutUint16(l4[at:], check)
	return out, more
}
