package dataplane

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/vswitch/vswitch/dataplane/flowmap"
	"github.com/vswitch/vswitch/dataplane/flowmap/flowtest"
	"github.com/vswitch/vswitch/dataplane/header"
)

// TestRowIsWhatPostroutingDoes: a row, carried out, makes the same bytes as the
// stages.
func TestRowIsWhatPostroutingDoes(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for n := range 2000 {
		b := randomPacket(rng, n%2 == 1, n%4 >= 2)
		var l header.Layers
		if !header.Parse(b, &l) || !flowable(&l) {
			t.Fatalf("packet %d is no flow's: %+v", n, l)
		}
		to := l.Tuple
		to.SrcPort, to.DstPort = uint16(rng.Uint32()), uint16(rng.Uint32())
		for _, a := range []*header.Addr{&to.Src, &to.Dst} {
			if rng.IntN(3) > 0 {
				binary.BigEndian.PutUint32(a[12:], rng.Uint32())
			}
		}
		h := hop{dst: header.MAC{2, 1, 1, 1, 1, byte(n)}, src: header.MAC{2, 2, 2, 2, 2, byte(n)}}
		m := rewriteOf(&l.Tuple, &to, &h)

		want, got := append([]byte(nil), b...), append([]byte(nil), b...)
		lw := l
		header.SetMACs(want, h.dst, h.src)
		header.DecrementTTL(want, &lw)
		header.Rewrite(want, &lw, to, false)
		flowtest.Execute(got, &flowmap.Entry{Decision: m})
		if d := cmp.Diff(want, got); d != "" {
			t.Fatalf("packet %d, %v to %v (-stages +row):\n%s", n, l.Tuple, to, d)
		}
	}
}

// TestFlowsOfOneSetComeToAnEnd: more flows than the counter has places for take turns of half a
// second, and leave when they are due. All are due after little more than twice as many frames.
func TestFlowsOfOneSetComeToAnEnd(t *testing.T) {
	const flows = 12000
	rng := rand.New(rand.NewPCG(1, 2))
	c := new(flowCounter)
	going := make([]uint32, flows)
	for i := range going {
		going[i] = rng.Uint32()
	}
	for n := range int64(60) {
		going = slices.DeleteFunc(going, func(hash uint32) bool { return c.note(hash, n*5e8).due() })
	}
	if len(going) > 0 {
		t.Errorf("%d of %d flows are not due after 60 frames", len(going), flows)
	}
}

// randomPacket is a TCP or UDP packet with right checksums.
func randomPacket(rng *rand.Rand, v6, udp bool) []byte {
	proto, l4 := header.ProtoTCP, make([]byte, 20+rng.IntN(100))
	l4[12] = 5 << 4
	if udp {
		proto = header.ProtoUDP
	}
	for i := range l4 {
		if i < 12 || i >= 20 {
			l4[i] = byte(rng.Uint32())
		}
	}
	at := 16
	if udp {
		binary.BigEndian.PutUint16(l4[4:], uint16(len(l4)))
		at = 6
	}
	l4[at], l4[at+1] = 0, 0
	src, dst := netip.AddrFrom4([4]byte{10, 1, byte(rng.Uint32()), 7}), netip.AddrFrom4([4]byte{198, 51, 100, byte(rng.Uint32())})
	ip := make([]byte, 20)
	typ := header.TypeIPv4
	if v6 {
		src, dst, ip, typ = netip.MustParseAddr("fd00::7"), netip.MustParseAddr("2001:db8::9"), make([]byte, 40), header.TypeIPv6
		ip[0], ip[6], ip[7] = 0x60, proto, byte(2+rng.IntN(250))
		binary.BigEndian.PutUint16(ip[4:], uint16(len(l4)))
		copy(ip[8:], src.AsSlice())
		copy(ip[24:], dst.AsSlice())
	} else {
		ip[0], ip[8], ip[9] = 0x45, byte(2+rng.IntN(250)), proto
		binary.BigEndian.PutUint16(ip[2:], uint16(20+len(l4)))
		copy(ip[12:], src.AsSlice())
		copy(ip[16:], dst.AsSlice())
		binary.BigEndian.PutUint16(ip[10:], ^sumBytes(0, ip))
	}
	pseudo := sumBytes(uint32(proto)+uint32(len(l4)), append(src.AsSlice(), dst.AsSlice()...))
	sum := ^sumBytes(uint32(pseudo), l4)
	if sum == 0 && udp {
		sum = 0xffff
	}
	binary.BigEndian.PutUint16(l4[at:], sum)
	eth := make([]byte, 14)
	eth[0], eth[6] = 2, 2
	binary.BigEndian.PutUint16(eth[12:], typ)
	return append(append(eth, ip...), l4...)
}

func sumBytes(sum uint32, b []byte) uint16 {
	for ; len(b) >= 2; b = b[2:] {
		sum += uint32(binary.BigEndian.Uint16(b))
	}
	if len(b) == 1 {
		sum += uint32(b[0]) << 8
	}
	return uint16(foldSum(sum))
}
