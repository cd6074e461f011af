package flowtest

import (
	"encoding/binary"

	"github.com/vswitch/vswitch/dataplane/flowmap"
	"github.com/vswitch/vswitch/dataplane/header"
)

// packet is what a row is decided by.
type packet struct {
	key  flowmap.Key
	ip   int    // length of the IP header
	l4   []byte // transport header and payload, as long as the IP header says
	noID bool   // IPv4 without DF
}

func etherType(b []byte) uint16 { return uint16(be16(b[12:])) }

// parse takes whole TCP and UDP packets and ICMP echoes without options or extension headers, whose
// TTL leaves them a hop.
func parse(f *Frame) (p packet, ok bool) {
	if len(f.Data) < header.EthernetLen {
		return p, false
	}
	b := f.Data[header.EthernetLen:]
	var length int
	switch etherType(f.Data) {
	case header.TypeIPv4:
		p.ip = 20
		if len(b) < p.ip+8 || b[0] != 0x45 || be16(b[6:])&0x3fff != 0 || b[8] <= 1 {
			return p, false
		}
		length = be16(b[2:])
		p.key.Proto = b[9]
		p.key.Src, p.key.Dst = mapped(b[12:]), mapped(b[16:])
		p.noID = b[6]&0x40 == 0
	case header.TypeIPv6:
		p.ip = 40
		if len(b) < p.ip+8 || b[0]>>4 != 6 || b[7] <= 1 {
			return p, false
		}
		if n := be16(b[4:]); n > 0 {
			length = p.ip + n
		}
		p.key.Proto = b[6]
		copy(p.key.Src[:], b[8:])
		copy(p.key.Dst[:], b[24:])
	default:
		return p, false
	}
	if length == 0 && f.GSOSize != 0 && len(b) > 0xffff {
		length = len(b)
	}
	if length > len(b) || length < p.ip {
		return p, false
	}
	p.l4 = b[p.ip:length]
	head := b[p.ip:] // of a frame with padding there is more than the packet
	copy(p.key.Ports[:], head)
	switch p.key.Proto {
	case header.ProtoTCP:
		if len(head) < 16 {
			return p, false
		}
		offset := int(head[12]>>4) * 4
		return p, offset >= 20 && offset <= len(p.l4)
	case header.ProtoUDP:
		n := be16(head[4:])
		return p, n >= 8 && n <= len(p.l4)
	}
	return p, p.echo(head)
}

// echo makes the identifier of an ICMP query the port of who asks, and says whether the packet is one,
// or its answer.
func (p *packet) echo(head []byte) bool {
	want, asks, answers := uint8(header.ProtoICMP), 8, 0
	if p.ip != 20 {
		want, asks, answers = header.ProtoICMPv6, 128, 129
	}
	if p.key.Proto != want || len(p.l4) < 8 {
		return false
	}
	switch p.key.Ports = [4]byte{}; be16(head) {
	case asks << 8:
		copy(p.key.Ports[:], head[4:6])
	case answers << 8:
		copy(p.key.Ports[2:], head[4:6])
	default:
		return false
	}
	return true
}

func mapped(b []byte) (a header.Addr) {
	a[10], a[11] = 0xff, 0xff
	copy(a[12:], b[:4])
	return a
}

// head is the length of the transport header.
func (p *packet) head() int {
	if p.key.Proto != header.ProtoTCP {
		return 8
	}
	return int(p.l4[12]>>4) * 4
}

// wireSize is the length of the largest packet that a frame becomes.
func (p *packet) wireSize(f *Frame) int {
	if f.GSOSize == 0 {
		return len(f.Data) - header.EthernetLen
	}
	return int(f.GSOSize) + p.ip + p.head()
}

// tracked is what becomes of a frame of a routed flow.
type tracked int

const (
	leave  tracked = iota // to the switch
	ignore                // it is carried, and moves nothing
	move                  // it is carried, and moves its half
	reset                 // it is carried, and ends the connection
)

const fin, syn, rst, ack = 1, 2, 4, 16

// track holds a segment against the halves of its connection. alone says that nobody is there.
func (p *packet) track(row *flowmap.Entry, o *flowmap.Half, alone bool) tracked {
	if row.Flags&flowmap.NeedsDF != 0 && row.Flags>>flowmap.CounterShift == 0 && p.noID {
		return leave
	}
	if p.key.Proto != header.ProtoTCP {
		return ignore
	}
	s, flags := &row.Half, p.l4[13]
	switch {
	case flags&syn != 0, o.Doubt != 0:
		return leave
	case !alone && (s.Ended == flowmap.HalfRST || o.Ended == flowmap.HalfRST):
		return leave
	case s.Doubt != 0 && (flags&rst != 0 || be32(p.l4[8:]) != o.SeqEnd || !p.fits(s, o)):
		return leave
	case s.Doubt != 0:
		return move
	case flags&rst != 0:
		if seq := be32(p.l4[4:]); seq != s.SeqEnd && seq != o.Ack {
			return leave
		}
		return reset
	case !p.fits(s, o):
		return ignore
	}
	return move
}

// learn takes over what a frame that is carried says of its connection.
func (k *Kernel) learn(p *packet, index uint32, what tracked) {
	s, o := &k.Rows[index].Half, &k.Rows[index^1].Half
	how := uint32(0)
	switch {
	case what == reset:
		how = flowmap.HalfRST
	case what == move:
		p.moves(s)
		s.Doubt = 0
		if p.l4[13]&fin != 0 {
			how = flowmap.HalfFIN
		}
	}
	if s.Ended >= how || s.Ended == flowmap.HalfFIN && o.Ended == flowmap.HalfFIN {
		return
	}
	if s.Ended = how; how == flowmap.HalfRST || o.Ended != 0 {
		k.Ends.Pairs[index/2] = 1
		k.Ends.Rung++
	}
}

func after(a, b uint32) bool { return int32(a-b) > 0 }

// end is the number after the segment.
func (p *packet) end() uint32 {
	return be32(p.l4[4:]) + uint32(len(p.l4)-p.head()) + uint32(p.l4[13]&fin)
}

func (p *packet) fits(s, o *flowmap.Half) bool {
	if seq := be32(p.l4[4:]); after(seq, s.SeqEnd) && after(seq, o.Edge) {
		return false
	}
	if !after(p.end(), s.SeqEnd-o.Window-1) {
		return false
	}
	if p.l4[13]&ack == 0 {
		return false
	}
	n := be32(p.l4[8:])
	return !after(n, o.SeqEnd+128<<10) && after(n, s.Ack-max(min(s.Window, 256<<10), 66000))
}

// moves takes a segment that fits into its half.
func (p *packet) moves(s *flowmap.Half) {
	window := uint32(be16(p.l4[14:])) << (s.Scale & flowmap.ScaleMask)
	if s.Scale&flowmap.ScaleUnknown != 0 {
		window = min(window, flowmap.MostUnknown)
	}
	s.Window = max(s.Window, window)
	if end := p.end(); after(end, s.SeqEnd) {
		s.SeqEnd = end
	}
	n := be32(p.l4[8:])
	if after(n, s.Ack) {
		s.Ack = n
	}
	if edge := n + max(window, 1); after(edge, s.Edge) {
		s.Edge = edge
	}
}

// rewrite is false for what is too short, which then has not changed.
func rewrite(f *Frame, row *flowmap.Entry, ids *flowmap.Identifiers) bool {
	frame := f.Data
	v4 := etherType(frame) == header.TypeIPv4
	ip, ttl, proto, addrs, each := 40, 7, 6, 8, 16
	if v4 {
		ip, ttl, proto, addrs, each = 20, 8, 9, 12, 4
	}
	if len(frame) < header.EthernetLen+ip+4 {
		return false
	}
	b := frame[header.EthernetLen:]
	udp := b[proto] == header.ProtoUDP
	check := ip + 16
	if udp {
		check = ip + 6
	}
	if len(b) < check+2 && row.AddrDiff|row.PortDiff != 0 {
		return false
	}
	// 0 is no checksum in UDP, and no sum that UDP may have.
	for _, diff := range []uint32{row.AddrDiff, row.PortDiff} {
		if diff == 0 {
			continue
		}
		if sum := b[check:]; !udp || sum[0]|sum[1] != 0 {
			adjust(sum, diff)
			if udp && sum[0]|sum[1] == 0 {
				sum[0], sum[1] = 0xff, 0xff
			}
		}
	}
	copy(frame, row.MACs[:])
	copy(b[addrs:addrs+2*each], row.Addrs[:])
	copy(b[ip:], row.Ports[:])
	b[ttl]--
	if v4 {
		adjust(b[10:], row.L3Diff)
		if at := row.Flags >> flowmap.CounterShift; at != 0 && b[6]&0x40 == 0 {
			was, n := binary.NativeEndian.Uint16(b[4:]), uint32(1)
			if f.GSOSize != 0 {
				n = (uint32(len(frame)) + f.GSOSize - 1) / f.GSOSize
			}
			binary.BigEndian.PutUint16(b[4:], uint16(ids.Next[at-1]))
			ids.Next[at-1] += n
			adjust(b[10:], uint32(^was)+uint32(binary.NativeEndian.Uint16(b[4:])))
		}
	}
	return true
}

// adjust adds a difference to a checksum (RFC 1624), both as the machine reads them.
func adjust(check []byte, diff uint32) {
	sum := uint64(^binary.NativeEndian.Uint16(check)) + uint64(diff)
	for sum > 0xffff {
		sum = sum&0xffff + sum>>16
	}
	binary.NativeEndian.PutUint16(check, ^uint16(sum))
}
