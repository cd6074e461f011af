package scenario

import (
	"errors"
	"math"
	"net/netip"
	"testing"
	"time"

	"github.com/vswitch/vswitch/bench/gen"
)

// path loses everything beyond capacity, of a generator that reaches limit.
func path(capacity, limit float64, trials *int) func(float64) (trial, error) {
	return func(rate float64) (trial, error) {
		*trials++
		if rate == 0 || rate > limit {
			rate = limit
		}
		return trial{
			sent:    gen.Sent{Frames: uint64(rate), Elapsed: time.Second},
			arrived: uint64(min(rate, capacity)),
		}, nil
	}
}

func TestSearchFindsTheCapacity(t *testing.T) {
	for _, c := range []struct{ capacity, limit, want float64 }{
		{500e3, 400e3, 400e3}, // the generator is the slower one
		{300e3, 400e3, 300e3},
		{20e3, 400e3, 20e3},
	} {
		trials := 0
		got, err := search(path(c.capacity, c.limit, &trials))
		if err != nil || got > c.want*1.002 || math.Abs(got-c.want) > c.limit/100 {
			t.Errorf("capacity %v of %v: got %v, %v", c.capacity, c.limit, got, err)
		}
		if trials > searchTrials+1 {
			t.Errorf("capacity %v: %d trials, want at most %d", c.capacity, trials, searchTrials+1)
		}
	}
}

func TestSearchSaysWhenEveryRateLoses(t *testing.T) {
	trials := 0
	if got, err := search(path(0, 400e3, &trials)); err == nil {
		t.Errorf("got %v, want an error", got)
	}
	broken := errors.New("broken")
	if _, err := search(func(float64) (trial, error) { return trial{}, broken }); !errors.Is(err, broken) {
		t.Errorf("got %v, want %v", err, broken)
	}
}

func TestARPEntry(t *testing.T) {
	const table = `IP address       HW type     Flags       HW address            Mask     Device
10.88.0.1        0x1         0x2         02:76:0a:58:00:01     *        eth0
10.88.0.7        0x1         0x0         00:00:00:00:00:00     *        eth0
`
	if got := arpEntry(table, netip.MustParseAddr("10.88.0.1")); got.String() != "02:76:0a:58:00:01" {
		t.Errorf("got %v", got)
	}
	for _, addr := range []string{"10.88.0.7", "10.88.0.9"} {
		if got := arpEntry(table, netip.MustParseAddr(addr)); got != nil {
			t.Errorf("%s: got %v, want none", addr, got)
		}
	}
}

// Names are what -only and the guard know rows by.
func TestNamesAreUnique(t *testing.T) {
	for _, s := range Compared() {
		seen := map[string]bool{}
		quick := 0
		for _, l := range s.Loads {
			if l.Quick {
				quick++
			}
			for _, m := range l.Measures {
				if seen[m.Name] {
					t.Errorf("%s: two measures are called %q", s.Name, m.Name)
				}
				seen[m.Name] = true
			}
		}
		if quick == 0 && s.Finer == 0 && !s.Long { // what differs little needs more than the short table's time
			t.Errorf("%s: nothing of it is in the short table", s.Name)
		}
	}
}
