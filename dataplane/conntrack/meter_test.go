package conntrack

import (
	"testing"
	"time"
)

func TestMeter(t *testing.T) {
	const s = int64(time.Second)
	var m Meter
	for _, tc := range []struct {
		name         string
		now, created int64
		count, want  uint64
	}{
		{"a flow of ten milliseconds", 10*s + s/100, 10 * s, 1000, 1000},
		{"a second later", 11*s + s/100, 10 * s, 3000, 2000},
		{"two seconds later", 13*s + s/100, 10 * s, 7000, 2000},
		{"idle", 14*s + s/100, 10 * s, 7000, 0},
		{"another flow in its place", 15 * s, 14*s + s/2, 500, 500},
	} {
		if m.Note(tc.now, tc.created, tc.count); m.Rate() != tc.want {
			t.Errorf("%s: %d bytes a second, want %d", tc.name, m.Rate(), tc.want)
		}
	}
}
