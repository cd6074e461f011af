package kernel

import (
	"encoding/binary"
	"math/rand/v2"
	"slices"

	"github.com/vswitch/vswitch/dataplane/flowmap"
	"github.com/vswitch/vswitch/dataplane/flowmap/flowtest"
	"github.com/vswitch/vswitch/dataplane/header"
)

// source makes frames and rows that reach every corner of the programs: numbers next to
// a border are as likely as all others together.
type source struct{ *rand.Rand }

func pick[T any](s source, of ...T) T { return of[s.IntN(len(of))] }

// often is true all but one time in n.
func (s source) often(n int) bool { return s.IntN(n) != 0 }

func (s source) bytes(b []byte) {
	for i := range b {
		b[i] = byte(s.Uint32())
	}
}

var judged = slices.Concat(packetTests, peerTests)

// testEntries are there: two chunks.
const testEntries = 2 * flowmap.ChunkEntries

// given is a program with a frame, a row and a tally.
func (s source) given(program string) given {
	g := given{program: program, index: pick(s, uint32(0), 3, flowmap.ChunkEntries-1, flowmap.ChunkEntries, testEntries-1), gso: pick(s, uint32(0), 0, 0, 1, 1400, 1448, 65000)}
	if program == programsProgVswHost {
		g.nobody = s.IntN(3) == 0
	}
	if program == programsProgVswForwarded && s.often(4) {
		g.iif = pick(s, uint32(testIfindex), 77, 77) // Linux before 5.16 refuses such a run
	}
	if s.IntN(3) == 0 {
		g.frame = slices.Clone(pick(s, judged...).frame)
	} else {
		g.frame = s.frame()
	}
	if (program == programsProgVswSeal || program == programsProgVswHost) && s.IntN(3) == 0 {
		s.question(&g)
	}
	s.damage(&g)
	g.row = s.row(g.frame, &g.other.Half)
	g.row.Key, g.row.In, g.row.Match = *keyOf(g.frame, program), testIfindex, [12]byte(g.frame)
	if s.often(12) {
		g.key = keyOf(g.frame, program)
		s.nextTo(&g)
	}
	if s.often(8) {
		a := flowmap.Tally{In: s.Uint64N(1 << 40), Taken: s.Uint64N(1 << 40), Lost: pick(s, 0, s.Uint64N(100)), Drained: s.Uint64N(100), Refused: s.Uint64N(100)}
		g.tally = &a
		g.row.LastIn = a.Taken + a.Lost + pick(s, ^uint64(0), 0, 0, 1, s.Uint64N(1000))
	}
	g.cb = [5]uint32{testStamp[0], testStamp[1], g.index, g.row.Generation, uint32(flowtest.Carried)}
	if s.IntN(8) == 0 {
		g.cb[4] = s.Uint32N(8)
	}
	switch s.IntN(6) {
	case 0:
		g.cb[s.IntN(2)]++
	case 1, 4:
		g.cb = [5]uint32{}
	case 2:
		g.cb[2] = pick(s, g.index+1, testEntries, flowmap.MaxEntries, ^uint32(0))
	case 3:
		g.cb[3]++
	}
	return g
}

// frame is one that may have a row: TCP or UDP mostly, of either family.
func (s source) frame() []byte {
	eth := make([]byte, 14)
	if s.IntN(4) == 0 {
		s.bytes(eth[:6])
	}
	if s.IntN(12) == 0 {
		copy(eth[:6], pick(s, "\xff\xff\xff\xff\xff\xff", "\x01\x00\x5e\x00\x00\x05", "\x33\x33\x00\x00\x00\x01"))
	}
	s.bytes(eth[6:12])
	proto := pick(s, header.ProtoTCP, header.ProtoTCP, header.ProtoTCP, header.ProtoUDP, header.ProtoUDP)
	if s.IntN(8) == 0 {
		proto = pick(s, header.ProtoSCTP, header.ProtoICMP, 50)
	}
	payload := make([]byte, pick(s, 0, 1, 7, s.IntN(64), s.IntN(1200)))
	s.bytes(payload)
	l4 := s.transport(proto, payload)
	ttl := pick(s, uint8(64), 255, 2)
	if s.IntN(12) == 0 {
		ttl = pick(s, uint8(0), 1)
	}
	var ip []byte
	if s.often(2) {
		binary.BigEndian.PutUint16(eth[12:], header.TypeIPv4)
		fragment := pick(s, uint16(0), 0x4000, 0x4000, 0x8000, 0x2000, 1, 0x1fff)
		if s.often(6) {
			fragment &= 0xc000
		}
		ip = ip4(peer4, pick(s, host4, host4, host4, "10.9.0.7"), segment{proto, l4}) // or a container of a routed network
		binary.BigEndian.PutUint16(ip[6:], fragment)
		ip[8] = ttl
		s.bytes(ip[10:12])
		s.length(ip[2:4], len(ip))
	} else {
		binary.BigEndian.PutUint16(eth[12:], header.TypeIPv6)
		seg := segment{proto, l4}
		if s.IntN(10) == 0 {
			seg = ext(60, 0, seg)
		}
		ip = ip6(peer6, pick(s, host6, host6, host6, "fd00:9::7"), seg)
		ip[7] = ttl
		s.length(ip[4:6], len(ip)-40)
	}
	if s.IntN(20) == 0 { // a tag in the frame: the kernel takes it off before any program
		return slices.Concat(eth[:12], []byte{0x81, 0, 0, 5}, eth[12:], ip)
	}
	return append(eth, ip...)
}

// length writes one that is right, or not quite.
func (s source) length(b []byte, n int) {
	if !s.often(6) {
		n = pick(s, 0, n-1, n+1, 20, 19, s.IntN(1<<16))
	}
	binary.BigEndian.PutUint16(b, uint16(max(n, 0)))
}

func (s source) transport(proto uint8, payload []byte) []byte {
	switch proto {
	case header.ProtoTCP:
		b := make([]byte, 20)
		s.bytes(b)
		s.port(b[2:], 8006, 9006, 40006)
		if s.often(8) {
			offset := pick(s, 5, 5, 8, 15)
			b[12] = byte(offset << 4)
			b = append(b, make([]byte, offset*4-20)...)
		}
		b[13] = pick(s, byte(0x10), 0x18)
		if s.IntN(3) == 0 {
			b[13] = pick(s, byte(0x11), 0x11, 0x12, 0x14, byte(s.Uint32()))
		}
		return append(b, payload...)
	case header.ProtoUDP:
		b := make([]byte, 8)
		s.bytes(b)
		s.port(b[2:], 8017, 40017, 40019, 40919)
		s.length(b[4:6], 8+len(payload))
		if s.IntN(4) == 0 {
			b[6], b[7] = 0, 0 // no checksum
		}
		return append(b, payload...)
	}
	return append(make([]byte, 8), payload...)
}

// port makes it a claimed one half of the time.
func (s source) port(b []byte, claimed ...uint16) {
	if s.IntN(2) == 0 {
		binary.BigEndian.PutUint16(b, pick(s, claimed...))
	}
}

// damage cuts a frame, pads it, or changes some of its bytes.
func (s source) damage(g *given) {
	switch s.IntN(16) {
	case 0:
		g.frame = g.frame[:max(14, s.IntN(len(g.frame)+1))]
	case 1:
		g.frame = append(g.frame, make([]byte, s.IntN(30))...)
	case 2:
		for range 1 + s.IntN(3) {
			g.frame[s.IntN(len(g.frame))] = byte(s.Uint32())
		}
	case 3:
		b := g.frame[:min(len(g.frame), 80)]
		b[s.IntN(len(b))] ^= 1 << s.IntN(8)
	}
}

// keyOf is the key of a frame that a program looks at, with or without a right to one.
func keyOf(frame []byte, program string) *flowmap.Key {
	k := &flowmap.Key{Side: testIfindex}
	if program == programsProgVswFilter || program == programsProgVswShield {
		k.Side = 0
	}
	b := slices.Concat(frame[14:], make([]byte, 60))
	if binary.BigEndian.Uint16(frame[12:]) == header.TypeIPv6 {
		k.Proto = b[6]
		copy(k.Src[:], b[8:])
		copy(k.Dst[:], b[24:])
		copy(k.Ports[:], b[40:])
	} else {
		k.Proto = b[9]
		k.Src[10], k.Src[11], k.Dst[10], k.Dst[11] = 0xff, 0xff, 0xff, 0xff
		copy(k.Src[12:], b[12:16])
		copy(k.Dst[12:], b[16:20])
		copy(k.Ports[:], b[20:])
	}
	return k
}

// nextTo makes the key another one at times, or what the row was decided by.
func (s source) nextTo(g *given) {
	switch s.IntN(60) {
	case 0:
		g.key.Side++
	case 1:
		g.key.Realm++
	case 2:
		g.key.Ports[s.IntN(4)]++
	case 3:
		g.key.Dst[15]++
	case 4: // the element was reused
		g.row.Key.Src[15]++
	case 5:
		g.row.Key.Ports[3]++
	case 6:
		g.row.In++
	case 7:
		g.row.Match[s.IntN(12)]++
	case 10:
		g.row.Ended = 1
	case 8, 9:
		g.row.Timeout = 1000
		g.row.LastUse = testJiffies - pick(s, uint64(999), 1000, 1001, 1001, testJiffies, 1<<33, ^uint64(0))
		g.other.Timeout = pick(s, uint32(0), 1000, 1000)
		g.other.LastUse = pick(s, uint64(0), testJiffies-1000, testJiffies-1000, testJiffies-1001)
		g.other.Ended = pick(s, uint32(0), 0, 1)
	}
}

// row is one whose numbers are near those of the frame.
func (s source) row(frame []byte, other *flowmap.Half) flowmap.Entry {
	m := flowmap.Entry{
		Decision: flowmap.Decision{
			Out: 1 + s.Uint32N(99), Flags: s.Uint32N(32),
			MTU:    pick(s, 1500, 1500, uint32(len(frame)-14), uint32(len(frame)-15), 0, 1+s.Uint32N(3000), 1500),
			L3Diff: s.diff(), AddrDiff: s.diff(), PortDiff: s.diff(),
		},
		State:  pick(s, flowmap.Active, flowmap.Active, flowmap.Active, s.Uint32N(6)),
		LastIn: s.Uint64(), Packets: s.Uint64(), Bytes: s.Uint64(), Generation: s.Uint32(),
	}
	s.bytes(m.MACs[:])
	s.bytes(m.Addrs[:])
	s.bytes(m.Ports[:])
	b := slices.Concat(frame[14:], make([]byte, 80))
	ip, length := 20, int(binary.BigEndian.Uint16(b[2:]))
	if binary.BigEndian.Uint16(frame[12:]) == header.TypeIPv6 {
		ip, length = 40, int(binary.BigEndian.Uint16(b[4:]))+40
	}
	payload := length - ip - int(b[ip+12]>>4)*4
	seq, ack := binary.BigEndian.Uint32(b[ip+4:]), binary.BigEndian.Uint32(b[ip+8:])
	end := seq + uint32(payload)
	window := pick(s, uint32(0), 1, 65535, 65535, 65999, 66000, 66001, 256<<10-1, 256<<10, 256<<10+1, 16<<20, 16<<20+1, 1<<30, 1<<31-1)
	scale := pick(s, uint32(0), 0, 7, 14, 14|flowmap.ScaleUnknown, s.Uint32())
	// As when everything but this segment has come, and one number next to a border.
	m.Half = flowmap.Half{SeqEnd: seq, Ack: ack, Edge: ack + window, Window: window, Scale: scale}
	*other = flowmap.Half{SeqEnd: ack, Ack: seq, Edge: end, Window: window}
	m.Half.Ended, other.Ended = s.ended(), s.ended()
	switch s.IntN(8) { // who began has not shown that he hears the answers
	case 0:
		m.Half.Doubt = 1
	case 1:
		other.Doubt = 1
	}
	number := pick(s, &m.Half.SeqEnd, &m.Half.Ack, &m.Half.Edge, &m.Half.Window, &other.SeqEnd, &other.Edge, &other.Window)
	*number += pick(s, 0, 1, ^uint32(0), window, -window, window+1, -window-1, 128<<10, 128<<10+1, 1<<32-128<<10, 1<<32-128<<10-1, 65999, 66000, 66001, 256<<10, 256<<10-1, 256<<10+1, -uint32(payload), 1<<31, s.Uint32())
	return m
}

func (s source) ended() uint32 {
	return pick(s, uint32(0), 0, 0, flowmap.HalfFIN, flowmap.HalfFIN, flowmap.HalfRST)
}

func (s source) diff() uint32 { return pick(s, s.Uint32(), s.Uint32N(1<<16), 0, 0xffff, 0xffffffff) }
