package header

import (
	"math/rand/v2"
	"testing"
)

func TestSumAgainstSlow(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	b := make([]byte, 65536)
	for i := range b {
		b[i] = byte(rnd.Uint32())
	}
	for n := range 300 {
		if got, want := fold(sum(b[:n], 0)), slowSum(b[:n]); got != want {
			t.Errorf("%d bytes: sum %#04x, want %#04x", n, got, want)
		}
	}
	ones := make([]byte, len(b))
	for i := range ones {
		ones[i] = 0xff
	}
	for _, c := range [][]byte{b, b[1:], b[:65535], ones, make([]byte, 100)} {
		if got, want := fold(sum(c, 0)), slowSum(c); got != want {
			t.Errorf("%d bytes: sum %#04x, want %#04x", len(c), got, want)
		}
	}
	if got, want := fold(sum(ones[:32], ^uint64(0))), uint16(0xffff); got != want {
		t.Errorf("start and bytes all ones: sum %#04x, want %#04x", got, want)
	}
}

// TestUpdateExhaustive changes a word of a small packet to every value: the
// update must give what adding up anew gives, the zeros included.
func TestUpdateExhaustive(t *testing.T) {
	for _, from := range []uint16{0, 1, 0x5555, 0xfffe, 0xffff} {
		for _, other := range []uint16{0x0001, 0xdd2f, 0xffff} {
			for to := range 0x10000 {
				b := be.AppendUint16(be.AppendUint16(nil, from), other)
				b = be.AppendUint16(b, ^slowSum(b))
				be.PutUint16(b, uint16(to))
				update(b, 4, diff16(from, uint16(to)))
				if got, want := be.Uint16(b[4:]), ^slowSum(b[:4]); got != want {
					t.Fatalf("%#04x to %#04x beside %#04x: checksum %#04x, want %#04x", from, to, other, got, want)
				}
			}
		}
	}
}

// TestUpdateRFC1624 is the example of RFC 1624, section 4, on which the method
// of RFC 1141 fails.
func TestUpdateRFC1624(t *testing.T) {
	b := []byte{0xdd, 0x2f}
	update(b, 0, diff16(0x5555, 0x3285))
	if got := be.Uint16(b); got != 0 {
		t.Errorf("checksum %#04x, want 0x0000", got)
	}
}

func TestFinishChecksum(t *testing.T) {
	for _, c := range []struct {
		name          string
		start, offset int
		in, want      []byte
	}{
		{"adds all behind start", 1, 2, []byte{9, 1, 2, 0, 3, 4, 5}, []byte{9, 1, 2, 0, 0, 4, 5}},
		{"a sum of all ones", 0, 0, []byte{0xff, 0xfe, 0, 1}, []byte{0xff, 0xff, 0, 1}},
		{"beyond the frame", 2, 2, []byte{1, 2, 3, 4, 5}, []byte{1, 2, 3, 4, 5}},
		{"start beyond the frame", 7, 0, []byte{1, 2}, []byte{1, 2}},
		{"negative", -1, 0, []byte{1, 2}, []byte{1, 2}},
	} {
		b := exact(c.in)
		FinishChecksum(b, c.start, c.offset)
		if c.name == "adds all behind start" {
			be.PutUint16(c.want[3:], ^slowSum(c.in[1:]))
		}
		if string(b) != string(c.want) {
			t.Errorf("%s: %x, want %x", c.name, b, c.want)
		}
	}
}

func BenchmarkFinishChecksum(b *testing.B) {
	f := make([]byte, 65535)
	b.SetBytes(int64(len(f)))
	for b.Loop() {
		FinishChecksum(f, 34, 16)
	}
}
