package control

import (
	"encoding/binary"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/vswitch/vswitch/dataplane/header"
	"github.com/vswitch/vswitch/dataplane/switchtest"
)

// oddFrame is a frame of a flow, known by its tag.
type oddFrame struct {
	mark, what string
	f          *spokenFlow
	side       int
	frame      []byte
	forged     bool // of a stranger: passed on once at most
	reset      bool // and never
}

// TestS60S61S64KernelDoesWhatTheStagesDo: odd packets and forged segments in flows of every
// way come out as by the stages, byte for byte and as often: a forged RST nowhere, nothing
// twice. And then the numbers of each connection are what they were.
func TestS60S61S64KernelDoesWhatTheStagesDo(t *testing.T) {
	var told [2]map[string][]string
	var odds [2][]oddFrame
	seed := rand.Uint64()
	arrived := 0
	for i, noFlowTable := range []bool{true, false} {
		s := newSpoken(t, noFlowTable)
		for _, v6 := range []bool{false, true} {
			for _, proto := range []uint8{header.ProtoTCP, header.ProtoUDP} {
				s.begin("bridged", "c1", "c2", proto, v6)
				s.begin("masqueraded", "c1", "x", proto, v6)
				s.begin("published", "x", "c1", proto, v6)
				s.begin("hairpin", "c2", "c1", proto, v6)
				s.begin("host", "c1", "h", proto, v6)
				s.begin("from the host", "h", "c2", proto, v6)
				s.begin("between networks", "c3", "c1", proto, v6)
				s.begin("by the gateway", "c1", "c2", proto, v6)
			}
		}
		s.carries()
		odds[i] = s.odds(rand.New(rand.NewPCG(seed, 60)))
		for n, o := range odds[i] {
			s.send(o.f, o.side, o.frame)
			if n%20 == 0 {
				time.Sleep(5 * time.Millisecond) // no queue of the kernel is full
			}
		}
		told[i] = s.settles(arrived)
		for _, list := range told[i] {
			arrived += len(list)
		}
		s.carries()
		for _, f := range s.flows {
			if f.proto == header.ProtoTCP && f.tracked && !strings.HasPrefix(f.name, "by the gateway") { // which no list of translations shows
				s.ends(f)
			}
		}
	}
	for n, o := range odds[0] {
		if string(o.frame) != string(odds[1][n].frame) {
			t.Fatalf("%s of %s is another frame: % x, % x", o.what, o.f.name, o.frame, odds[1][n].frame)
		}
		for i, by := range []string{"the stages", "the kernel's side"} {
			if copies := len(told[i][o.mark]); o.forged && copies > 1 || o.reset && copies > 0 {
				t.Errorf("%s of %s passes %d times by %s", o.what, o.f.name, copies, by)
			}
		}
	}
	if arrived < len(odds[0]) {
		t.Errorf("%d frames arrived of %d: the test has become weak", arrived/2, len(odds[0]))
	}
	for _, d := range differences(told[1], told[0]) {
		for _, o := range odds[1] {
			if strings.HasPrefix(d, o.mark) {
				t.Errorf("%s of %s, side %d: %s", o.what, o.f.name, o.side, d)
			}
		}
	}
}

// odds are the odd frames of all flows, both ways.
func (s *spoken) odds(r *rand.Rand) (list []oddFrame) {
	for _, f := range s.flows {
		for side := range 2 {
			add := func(what string, change func(b []byte) []byte, size ...int) {
				o := oddFrame{mark: s.mark(), what: what, f: f, side: side}
				payload := []byte(o.mark)
				if len(size) > 0 {
					payload = append(payload, make([]byte, size[0]-f.headers()-len(payload))...)
				}
				o.frame = change(f.frame(side, switchtest.ACK, 0, 0, payload))
				if len(o.frame) <= header.EthernetLen+1400 || f.at[side] == s.stations["x"] {
					list = append(list, o)
				}
			}
			f.oddLengths(add)
			f.oddHeaders(add, s.stations["c2"].mac)
			if f.proto == header.ProtoUDP {
				continue
			}
			for range 40 {
				o := oddFrame{mark: s.mark(), what: "a forged segment", f: f, side: side, forged: f.tracked}
				flags := []uint8{switchtest.RST, switchtest.RST | switchtest.ACK, switchtest.SYN, switchtest.ACK, switchtest.ACK | switchtest.PSH, switchtest.FIN | switchtest.ACK, switchtest.SYN | switchtest.RST, switchtest.SYN | switchtest.ACK, 0xff}[r.IntN(9)]
				far := 1<<21 + r.Uint32N(1<<31)
				if flags&switchtest.RST != 0 && r.IntN(2) == 0 {
					far = 1 + r.Uint32N(60000) // in the window, and not exact
				}
				o.reset = o.forged && flags&switchtest.RST != 0
				o.frame = f.frame(side, flags, far, r.Uint32(), []byte(o.mark))
				list = append(list, o)
			}
		}
	}
	return list
}

// headers is the length of a flow's headers after that of Ethernet.
func (f *spokenFlow) headers() int {
	n := 28
	if f.proto == header.ProtoTCP {
		n = 40
	}
	if f.v6 {
		n += 20
	}
	return n
}

// ip and l4 are where the parts of a frame begin.
func (f *spokenFlow) l4() int {
	if f.v6 {
		return header.EthernetLen + 40
	}
	return header.EthernetLen + 20
}

func asIs(b []byte) []byte { return b }

// oddLengths are lengths that lie, padding, and packets around the MTUs.
func (f *spokenFlow) oddLengths(add func(what string, change func([]byte) []byte, size ...int)) {
	for _, n := range []int{1399, 1400, 1401, 1473, 1500} {
		add("a packet of the size of an MTU", asIs, n)
	}
	for _, n := range []int{1, 10, 255, 256} {
		add("padding", func(b []byte) []byte { return append(b, make([]byte, n)...) })
	}
	at := 16
	if f.v6 {
		at = 18
	}
	for _, by := range []uint16{^uint16(0), 1, 100, 1 << 15} {
		add("a wrong length of the packet", f.word(at, func(n uint16) uint16 { return n + by }))
	}
	add("length 0", f.word(at, func(uint16) uint16 { return 0 }))
	if f.proto == header.ProtoUDP {
		for _, n := range []uint16{0, 7, 8, 9, 300} {
			add("a wrong length of the datagram", f.word(f.l4()+4, func(uint16) uint16 { return n }))
		}
		add("no checksum", f.word(f.l4()+6, func(uint16) uint16 { return 0 }))
		add("a wrong checksum", f.word(f.l4()+6, func(n uint16) uint16 { return n ^ 0x5a }))
		return
	}
	for _, n := range []byte{0, 4, 8, 15} {
		add("a wrong data offset", f.octet(f.l4()+12, func(byte) byte { return n << 4 }))
	}
	add("a wrong checksum", f.word(f.l4()+16, func(n uint16) uint16 { return n ^ 0x5a }))
	for _, flags := range []byte{0, switchtest.PSH, switchtest.SYN | switchtest.FIN, 0x29} {
		add("odd flags", f.octet(f.l4()+13, func(byte) byte { return flags }))
	}
}

// oddHeaders are fields that no row was decided by.
func (f *spokenFlow) oddHeaders(add func(what string, change func([]byte) []byte, size ...int), other header.MAC) {
	add("as it should be", asIs)
	ttl := 22
	if f.v6 {
		ttl = 21
	}
	for _, n := range []byte{2, 255} {
		add("another TTL", f.octet(ttl, func(byte) byte { return n }))
	}
	for _, n := range []byte{1, 3, 0xb8, 0xff} {
		add("a traffic class", f.octet(15, func(byte) byte { return n }))
	}
	for _, n := range []byte{0x44, 0x4f, 0x55, 0x75} {
		add("another version or length of the header", f.octet(14, func(byte) byte { return n }))
	}
	if !f.v6 {
		for _, n := range []uint16{0, 0x8000, 0x2000, 0x4001} {
			add("another fragment word", f.word(20, func(uint16) uint16 { return n }))
		}
		add("options", func(b []byte) []byte {
			b = append(b[:34:34], append([]byte{0x94, 4, 0, 0}, b[34:]...)...)
			b[14] = 0x46
			binary.BigEndian.PutUint16(b[16:], binary.BigEndian.Uint16(b[16:])+4)
			return sumIPv4(b)
		})
	} else {
		for _, n := range []byte{0, 44, 60} {
			add("an extension header", func(b []byte) []byte {
				b = append(b[:54:54], append([]byte{b[20], 0, 0, 0, 0, 0, 0, 0}, b[54:]...)...)
				b[20] = n
				binary.BigEndian.PutUint16(b[18:], binary.BigEndian.Uint16(b[18:])+8)
				return b
			})
		}
	}
	add("another sender's MAC address", func(b []byte) []byte { copy(b[6:12], other[:]); return b })
	for _, mac := range []string{"\xff\xff\xff\xff\xff\xff", "\x01\x00\x5e\x00\x00\x05", "\x33\x33\x00\x00\x00\x01", "\x02\xaa\xbb\xcc\xdd\xee"} {
		add("another destination's MAC address", func(b []byte) []byte { copy(b, mac); return b })
	}
	for _, tci := range []uint16{0, 0xe000, 10} {
		add("a tag", func(b []byte) []byte { return switchtest.Tag(b, header.TypeVLAN, tci) })
	}
	add("two tags", func(b []byte) []byte {
		return switchtest.Tag(switchtest.Tag(b, header.TypeVLAN, 0), header.TypeVLAN, 0)
	})
}

// word and octet change a field, and make the checksum of an IPv4 header right.
func (f *spokenFlow) word(at int, to func(uint16) uint16) func([]byte) []byte {
	return func(b []byte) []byte {
		binary.BigEndian.PutUint16(b[at:], to(binary.BigEndian.Uint16(b[at:])))
		return sumIPv4(b)
	}
}

func (f *spokenFlow) octet(at int, to func(byte) byte) func([]byte) []byte {
	return func(b []byte) []byte {
		b[at] = to(b[at])
		return sumIPv4(b)
	}
}

func sumIPv4(b []byte) []byte {
	if n := int(b[14]&15) * 4; binary.BigEndian.Uint16(b[12:]) == header.TypeIPv4 && n >= 20 && len(b) >= 14+n {
		b[24], b[25] = 0, 0
		header.FinishChecksum(b[14:14+n], 0, 10)
	}
	return b
}

// ends shows that a connection is as it was: its FIN is noticed, and the exact RST ends it.
func (s *spoken) ends(f *spokenFlow) {
	s.t.Helper()
	pass := func(side int, flags uint8, state string) {
		s.t.Helper()
		s.send(f, side, f.frame(side, flags, 0, 0, nil))
		eventually(s.t, f.name+" is "+state, func() bool { return s.connection(f).State == state })
	}
	pass(0, switchtest.ACK, "established")
	pass(0, switchtest.FIN|switchtest.ACK, "client-fin")
	f.seq[0]++
	pass(1, switchtest.RST|switchtest.ACK, "transitory")
}
