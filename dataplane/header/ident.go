package header

// SetID gives an IPv4 packet another identification. The caller leaves packets
// with DF alone: theirs means nothing (RFC 6864, 4.1).
func SetID(b []byte, l *Layers, id uint16) {
	h := b[l.L3:]
	diff := diff16(be.Uint16(h[4:]), id)
	be.PutUint16(h[4:], id)
	update(h, 10, diff)
	if l.Flags&(FlagFragment|FlagFirstFragment) != 0 {
		l.FragID = uint32(id)
	}
}

// FragmentRange is the part of its datagram's payload that a fragment holds, in
// bytes from the start of that payload, and whether more follow. l has
// FlagFragment or FlagFirstFragment.
func FragmentRange(b []byte, l *Layers) (from, to int, more bool) {
	if l.Flags&FlagIPv6 != 0 {
		at := fragmentHeader(b, l)
		frag := be.Uint16(b[at+2:])
		from = int(frag &^ 7)
		return from, from + int(l.End) - at - 8, frag&1 != 0
	}
	h := b[l.L3:]
	frag := be.Uint16(h[6:])
	from = int(frag&0x1fff) * 8
	return from, from + int(l.End) - int(l.L3) - int(h[0]&0xf)*4, frag&0x2000 != 0
}

// fragmentHeader walks to the fragment header that Parse has found sound.
func fragmentHeader(b []byte, l *Layers) int {
	at, next := int(l.L3)+ipv6Len, b[l.L3+6]
	for next != protoFragment {
		next = b[at]
		at += 8 + int(b[at+1])*8
	}
	return at
}

// AppendFragment appends to out a fragment of the IPv4 packet in b: its
// Ethernet and IP headers and the payload from offset on, which is a multiple
// of 8, at most size bytes of it. It returns the offset behind, equal to the
// payload's length at the end. The options that RFC 791 does not copy become no
// operations in all fragments but the first, as the kernel does it.
func AppendFragment(out, b []byte, l *Layers, offset, size int) ([]byte, int) {
	payload := int(l.L3) + int(b[l.L3]&0xf)*4
	data := b[payload:l.End]
	end := min(offset+size, len(data))
	start := len(out) + int(l.L3)
	out = append(append(out, b[:payload]...), data[offset:end]...)
	h := out[start:]
	frag := be.Uint16(h[6:])
	more := frag & 0x2000 // of a packet that is a fragment itself
	if end < len(data) {
		more = 0x2000
	}
	be.PutUint16(h[2:], uint16(len(h)))
	be.PutUint16(h[6:], frag&0x1fff+uint16(offset/8)|more)
	ihl := int(h[0]&0xf) * 4
	if offset > 0 {
		blankOptions(h[ipv4Len:ihl])
	}
	be.PutUint16(h[10:], 0)
	be.PutUint16(h[10:], ^fold(sum(h[:ihl], 0)))
	return out, end
}

// blankOptions replaces the options without the copied flag.
func blankOptions(o []byte) {
	for len(o) > 0 && o[0] != 0 {
		if o[0] == 1 {
			o = o[1:]
			continue
		}
		size := int(o[1])
		if o[0]&0x80 == 0 {
			for i := range o[:size] {
				o[i] = 1
			}
		}
		o = o[size:]
	}
}
