package pages

import (
	"runtime"
	"testing"
)

// What Take returns is zero and nobody else's, whether it has room for it or not.
func TestTake(t *testing.T) {
	owner := new([]uint64)
	p := New(owner, 3*hugePage)
	var all [][]uint64
	for _, n := range []int{16, 16, 32, 4096, 100_000, 200_000, 1_000_000} {
		got := Take[uint64](p, n)
		if len(got) != n {
			t.Fatalf("got %d values, want %d", len(got), n)
		}
		for i := range got {
			if got[i] != 0 {
				t.Fatalf("value %d of %d is %d, want 0", i, n, got[i])
			}
			got[i] = uint64(n)
		}
		all = append(all, got)
	}
	Empty(p, all[4])
	Empty(p, all[6])
	for i, values := range all {
		for j, v := range values {
			if v != uint64(len(values)) && (i != 4 || v != 0) {
				t.Fatalf("value %d of %d is %d", j, len(values), v)
			}
		}
	}
	runtime.KeepAlive(owner)
}
