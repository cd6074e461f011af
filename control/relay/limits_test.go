package relay

import "testing"

func TestLimits(t *testing.T) {
	for files, want := range map[uint64][2]int{
		1 << 20: {4096, 4096}, 1 << 16: {4096, 4096}, 16384: {1365, 2048}, 4096: {341, 512}, 1024: {85, 128}, 64: {8, 8}, ^uint64(0): {4096, 4096},
	} {
		if c, s := Limits(files); c != want[0] || s != want[1] {
			t.Errorf("%d files: %d connections, %d sessions, want %v", files, c, s, want)
		}
	}
}
