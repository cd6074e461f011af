package dataplane_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/vswitch/vswitch/dataplane"
	"github.com/vswitch/vswitch/dataplane/conntrack"
	"github.com/vswitch/vswitch/dataplane/frame"
	"github.com/vswitch/vswitch/dataplane/header"
	. "github.com/vswitch/vswitch/dataplane/switchtest"
	"github.com/vswitch/vswitch/internal/netlab/labtest"
)

// reassembler is a plain receiver: it puts IPv4 fragments of one packet together
// and refuses what overlaps (RFC 5722 for IPv6, and what Linux does for both).
type reassembler struct {
	data  []byte
	have  []bool
	total int // 0: the last fragment is missing
	proto uint8
	src   string
	bad   bool
}

func (r *reassembler) add(t *testing.T, f []byte) {
	t.Helper()
	var l header.Layers
	if !header.Parse(f, &l) {
		t.Fatalf("a malformed fragment: %s", Describe(f))
	}
	ip := f[l.L3:l.End]
	sum := uint32(0)
	for i := 0; i < 20; i += 2 {
		sum += uint32(binary.BigEndian.Uint16(ip[i:]))
	}
	if sum = sum>>16 + sum&0xffff; uint16(sum>>16+sum) != 0xffff {
		t.Errorf("a fragment with a wrong header checksum: %s", Describe(f))
	}
	src := l.Tuple.Src.String() + ">" + l.Tuple.Dst.String()
	if r.src != "" && r.src != src {
		t.Errorf("fragments of one packet between %s and %s", r.src, src)
	}
	r.src, r.proto = src, l.Tuple.Proto
	frag := binary.BigEndian.Uint16(ip[6:])
	off, body := int(frag&0x1fff)*8, ip[20:]
	for len(r.data) < off+len(body) {
		r.data, r.have = append(r.data, 0), append(r.have, false)
	}
	for i, b := range body {
		r.bad = r.bad || r.have[off+i] && r.data[off+i] != b
		r.data[off+i], r.have[off+i] = b, true
	}
	if frag&0x2000 == 0 {
		r.total = off + len(body)
	}
}

// packet is the payload of IP, when it is whole.
func (r *reassembler) packet() ([]byte, bool) {
	if r.bad || r.total == 0 || r.total != len(r.data) || slices.Contains(r.have, false) {
		return nil, false
	}
	return r.data, true
}

// sumOK reports whether the UDP or TCP checksum over a reassembled packet is
// right.
func (r *reassembler) sumOK(src, dst [4]byte) bool {
	sum := uint32(r.proto) + uint32(len(r.data))
	for _, b := range [][]byte{src[:], dst[:], append(slices.Clone(r.data), make([]byte, len(r.data)&1)...)} {
		for i := 0; i+1 < len(b); i += 2 {
			sum += uint32(binary.BigEndian.Uint16(b[i:]))
		}
	}
	for sum>>16 != 0 {
		sum = sum>>16 + sum&0xffff
	}
	return sum == 0xffff
}

// What VPP tests its reassembly with, against a switch that translates fragments
// one by one: in order, reversed, at random, doubled, of one byte at the end, of
// many. What the receiver makes of them is what was sent, or nothing.
func TestC27Fragments(t *testing.T) {
	rng := rand.New(rand.NewSource(27))
	payload := make([]byte, 3001)
	rng.Read(payload)
	double := func(p [][]byte) [][]byte { return append(slices.Clone(p), p...) }
	shuffled := func(p [][]byte) [][]byte {
		p = slices.Clone(p)
		rng.Shuffle(len(p), func(i, j int) { p[i], p[j] = p[j], p[i] })
		return p
	}
	reversed := func(p [][]byte) [][]byte { p = slices.Clone(p); slices.Reverse(p); return p }
	for _, tc := range []struct {
		name    string
		size    int
		change  func([][]byte) [][]byte
		arrives bool // the first fragment comes first
	}{
		{"in order", 1480, slices.Clone[[][]byte], true},
		{"one byte at the end", 752, slices.Clone[[][]byte], true},
		{"reversed", 1480, reversed, false},
		{"at random", 800, shuffled, false},
		{"each twice", 1480, double, true},
		{"last twice", 1480, func(p [][]byte) [][]byte { return append(slices.Clone(p), p[len(p)-1]) }, true},
		{"first twice", 1480, func(p [][]byte) [][]byte { return append([][]byte{p[0]}, p...) }, true},
		{"many", 80, slices.Clone[[][]byte], true},
		{"many, reversed", 80, reversed, false},
	} {
		for _, dir := range []string{"out", "in"} {
			l := New(t)
			l.Publish(8080, "c1", 80)
			from, to, src, dst := "c2", "up", HostAddr, World
			whole := UDP("c2", 5000, World+":8080", string(payload))
			if dir == "in" {
				from, to, src, dst = "up", "c1", World, Stations["c1"]
				whole = Inbound(header.ProtoUDP, World+":5000", HostAddr+":8080", 0, string(payload))
			}
			var r reassembler
			for _, f := range tc.change(Fragment(whole, tc.size)) {
				l.Send(from, f)
			}
			for _, f := range l.Got(to) {
				r.add(t, f)
			}
			l.ExpectNothing()
			got, ok := r.packet()
			if !ok {
				if tc.arrives {
					t.Errorf("%s, %s: the datagram did not arrive; drops: %s", tc.name, dir, l.Drops())
				}
				continue
			}
			if !bytes.Equal(got[8:], payload) || !r.sumOK(addr4(src), addr4(dst)) {
				t.Errorf("%s, %s: another datagram arrived than was sent", tc.name, dir)
			}
		}
	}
}

func addr4(s string) [4]byte {
	var a [4]byte
	fmt.Sscanf(s, "%d.%d.%d.%d", &a[0], &a[1], &a[2], &a[3])
	return a
}

// Fragments that no sender makes are dropped: past 65535 bytes, empty, of odd
// length with more to come, within the TCP header, and those that come too late.
func TestC27FragmentsThatAreDropped(t *testing.T) {
	l := New(t)
	l.Publish(8080, "c1", 80)
	fragment := func(whole []byte, offset int, more bool, size int) []byte {
		f := slices.Clone(Fragment(whole, 1480)[0])[:header.EthernetLen+20+size]
		flags := uint16(offset / 8)
		if more {
			flags |= 0x2000
		}
		binary.BigEndian.PutUint16(f[header.EthernetLen+2:], uint16(20+size))
		binary.BigEndian.PutUint16(f[header.EthernetLen+6:], flags)
		SumIPv4(f)
		return f
	}
	udp := Inbound(header.ProtoUDP, World+":5000", HostAddr+":8080", 0, string(make([]byte, 3000)))
	tcp := Inbound(header.ProtoTCP, World+":5000", HostAddr+":8080", ACK, string(make([]byte, 3000)))
	n := uint64(0)
	for _, f := range [][]byte{
		fragment(udp, 65528, false, 16),
		fragment(udp, 65528, false, 8),
		fragment(udp, 1480, true, 0),
		fragment(udp, 1480, true, 1001),
		fragment(tcp, 0, true, 8),
		fragment(tcp, 0, true, 16),
		fragment(tcp, 8, true, 800),
		fragment(tcp, 16, false, 800),
	} {
		n++
		l.Send("up", f)
		l.ExpectDrop("up", dataplane.DropMalformed, n)
	}
	// Overlapping by a little, wholly, or beyond the end that is known (RFC 1858, RFC
	// 5722): it and all that follows of the packet.
	n = 0
	for i, second := range [][]byte{
		fragment(udp, 1472, true, 1480), fragment(udp, 8, true, 800), fragment(udp, 720, false, 800), fragment(udp, 0, true, 800),
	} {
		for _, f := range [][]byte{fragment(udp, 0, true, 1480), second, fragment(udp, 2960, false, 48)} {
			binary.BigEndian.PutUint16(f[header.EthernetLen+4:], uint16(100+i))
			SumIPv4(f)
			l.Send("up", f)
		}
		if got := l.Got("c1"); len(got) != 1 {
			t.Errorf("overlap %d: %d fragments passed, want the first alone", i, len(got))
		}
		if n += 2; l.Dropped("up", dataplane.DropOverlap) != n {
			t.Errorf("overlap %d: %s", i, l.Drops())
		}
	}
	// Behind the end that is known, and an end before what is known.
	for i, rest := range [][][]byte{
		{fragment(udp, 2960, false, 48), fragment(udp, 3008, true, 80), fragment(udp, 1480, true, 1480)},
		{fragment(udp, 2960, true, 80), fragment(udp, 1480, false, 40), fragment(udp, 1520, true, 800)},
	} {
		for _, f := range append([][]byte{fragment(udp, 0, true, 1480)}, rest...) {
			binary.BigEndian.PutUint16(f[header.EthernetLen+4:], uint16(200+i))
			SumIPv4(f)
			l.Send("up", f)
		}
		if got := l.Got("c1"); len(got) != 2 {
			t.Errorf("end %d: %d fragments passed, want the first two", i, len(got))
		}
		if n += 2; l.Dropped("up", dataplane.DropOverlap) != n {
			t.Errorf("end %d: %s", i, l.Drops())
		}
	}
	pieces := Fragment(udp, 1480)
	l.Send("up", pieces[0])
	l.Expect("c1")
	l.Advance(3 * time.Minute)
	l.Send("up", pieces[1])
	if got := l.Got("c1"); len(got) > 0 {
		t.Error("a fragment passed three minutes after the first one")
	}
}

// Fragments leak no memory: half a million, of packets that are never finished,
// leave no more than a first few thousand did.
func TestC34FragmentsLeakNothing(t *testing.T) {
	l := New(t)
	l.Memory("up").SetSink(func([]byte, frame.Offload) {})
	pieces := Fragment(UDP("c1", 5000, web, string(make([]byte, 200))), 64)
	send := func(n int) {
		for i := range n {
			f := pieces[i%2] // of every packet its first fragment, of every second its next
			binary.BigEndian.PutUint16(f[header.EthernetLen+4:], uint16(i/2))
			SumIPv4(f)
			l.Memory("c1").Inject(f, frame.Offload{})
			if i%64 == 63 {
				for l.Switch.Step() > 0 {
				}
			}
			if i%65536 == 65535 {
				l.Advance(time.Second)
			}
		}
	}
	heap := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	send(20_000)
	before := heap()
	send(500_000)
	if after := heap(); after > before+1<<20 {
		t.Errorf("the heap grew from %d to %d bytes", before, after)
	}
}

// A packet in 64k fragments of 8 bytes, again and again: what one packet may
// occupy is bounded, so most of it is dropped, and nothing is searched for long.
func TestC41EndlessFragments(t *testing.T) {
	l := New(t)
	out := 0
	l.Memory("up").SetSink(func([]byte, frame.Offload) { out++ })
	whole := UDP("c1", 5000, web, string(make([]byte, 1400)))
	f := slices.Clone(whole[:header.EthernetLen+20+8])
	binary.BigEndian.PutUint16(f[header.EthernetLen+2:], 28)
	const n = 64 << 10
	start := time.Now()
	for i := range n {
		binary.BigEndian.PutUint16(f[header.EthernetLen+6:], 0x2000|uint16(i%8000))
		SumIPv4(f)
		l.Memory("c1").Inject(f, frame.Offload{})
		if i%64 == 63 {
			for l.Switch.Step() > 0 {
			}
		}
	}
	each := time.Since(start) / n
	t.Logf("%v a fragment, %d of %d went on", each, out, n)
	// 65535 bytes in fragments of a usual size are 46; nine packets were begun.
	if out > 9*64 {
		t.Errorf("%d fragments of 8 bytes went on", out)
	}
	// Searching for each among those before it would cost tens of microseconds.
	if each > 50*time.Microsecond && !labtest.UnderRace {
		t.Errorf("%v for a fragment", each)
	}
	l.Memory("up").SetSink(nil)
	l.Send("c2", UDP("c2", 5000, web, "x"))
	if got := See(t, l.Expect("up")); got.Payload != "x" {
		t.Errorf("behind the fragments %+v left", got)
	}
}

// FuzzFragments sends fragments, six bytes of input each: sender, packet, offset,
// length and whether more follow. What comes out is well formed, and no more than
// went in.
func FuzzFragments(f *testing.F) {
	f.Add([]byte{0, 1, 0, 0, 8, 1, 0, 1, 0, 8, 8, 0})                      // in order
	f.Add([]byte{0, 1, 0, 8, 8, 0, 0, 1, 0, 0, 8, 1})                      // reversed
	f.Add([]byte{1, 1, 0, 0, 8, 1, 1, 1, 0, 4, 8, 0})                      // overlapping
	f.Add([]byte{1, 1, 0, 0, 8, 1, 1, 1, 0, 0, 8, 1, 1, 1, 0, 8, 1, 0})    // doubled
	f.Add([]byte{2, 1, 0x1f, 0xff, 8, 0, 2, 2, 0, 0, 1, 1})                // past the end, tiny
	f.Add([]byte{3, 1, 0, 0, 8, 1, 3, 1, 0, 8, 8, 1, 0xff, 0, 0, 0, 0, 0}) // and time passes
	// One switch for all inputs, emptied in between: to make one takes longer than
	// to use it.
	l := New(f)
	l.Publish(8080, "c1", 80)
	f.Fuzz(func(t *testing.T, in []byte) {
		l.T = t
		l.Switch.FlushConns(conntrack.Selector{})
		l.Advance(10 * time.Minute)
		senders := [][]byte{
			UDP("c1", 5000, web, string(make([]byte, 1400))),
			Inbound(header.ProtoUDP, World+":5000", HostAddr+":8080", 0, string(make([]byte, 1400))),
			Inbound(header.ProtoTCP, World+":5000", HostAddr+":8080", SYN, string(make([]byte, 1400))),
			UDP("c2", 5000, HostAddr+":8080", string(make([]byte, 1400))),
			TCP("c2", 5000, web, SYN, string(make([]byte, 1400))),
		}
		at := []string{"c1", "up", "up", "c2", "c2"}
		sent, got := 0, 0
		for ; len(in) >= 6 && sent < 200; in = in[6:] {
			if in[0] == 0xff {
				l.Advance(time.Duration(in[1]) * 100 * time.Millisecond)
				continue
			}
			who := int(in[0]) % len(senders)
			size := min(int(in[4])*8+int(in[5]>>4), 1400)
			p := slices.Clone(senders[who][:header.EthernetLen+20+size])
			flags := uint16(in[2]&0x1f)<<8 | uint16(in[3]) | uint16(in[5]&1)<<13
			binary.BigEndian.PutUint16(p[header.EthernetLen+2:], uint16(20+size))
			binary.BigEndian.PutUint16(p[header.EthernetLen+4:], uint16(in[1]))
			binary.BigEndian.PutUint16(p[header.EthernetLen+6:], flags)
			SumIPv4(p)
			l.Send(at[who], p)
			sent++
			for name := range Stations {
				for _, out := range l.Got(name) {
					got++
					var ls header.Layers
					if !header.Parse(out, &ls) {
						t.Fatalf("%s got a malformed frame: %x", name, out)
					}
					if name == "up" && ls.Tuple.Src.String() != HostAddr {
						t.Fatalf("%s shows outside", ls.Tuple.Src)
					}
				}
			}
		}
		if got > 2*sent { // an ICMP error may come for each
			t.Errorf("%d frames in, %d out", sent, got)
		}
	})
}
