package fdb

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/vswitch/vswitch/dataplane/frame"
	"github.com/vswitch/vswitch/dataplane/header"
)

// A worker may have heard a station after the sweep looked at the clock: that is no age of
// 136 years.
func TestWhoWasJustHeardStays(t *testing.T) {
	f, key := New(8, 2), KeyOf(1, 0, header.MAC{2, 0, 0, 0, 0, 1})
	now := int64(time.Hour)
	f.Lock()
	f.LearnLocked(key, 1, 8, Seconds(now)+1)
	f.Unlock()
	for _, step := range []struct {
		after time.Duration
		want  int
	}{{0, 1}, {ageing + time.Second, 1}, {ageing + 2*time.Second, 0}} {
		f.Age(now + int64(step.after))
		f.Lock()
		if got := f.learnedLocked(); got != step.want {
			t.Errorf("%v later the table has %d stations, want %d", step.after, got, step.want)
		}
		f.Unlock()
	}
}

// Whatever comes and goes, each port holds in its list exactly the stations that were
// learned on it, and a full table takes from the port that has most.
func TestSharesFollowTheTable(t *testing.T) {
	const ports, most = 6, 40
	rng := rand.New(rand.NewPCG(1, 2))
	f := New(most, ports)
	exists := func(frame.NetworkID) bool { return true }
	now := int64(time.Hour)
	for step := range 20_000 {
		now += int64(time.Second) / 4
		p := frame.PortID(min(rng.IntN(ports), rng.IntN(ports)))
		key := KeyOf(1, uint16(rng.IntN(2)), header.MAC{2, 0, 0, 0, 0, byte(rng.IntN(120))})
		switch op := rng.IntN(100); {
		case op < 90:
			limit := []int{5, 1000}[rng.IntN(2)]
			f.Lock()
			before, total := f.shares.Held(int(p)), f.learnedLocked()
			giver := f.shares.Giver(int(p))
			had := f.shares.Held(max(giver, 0))
			if got := f.LearnLocked(key, p, limit, Seconds(now)); got == LearnedFull && giver != int(p) && f.shares.Held(giver) != had-1 {
				t.Fatalf("step %d: port %d gave no station: it has %d of %d", step, giver, f.shares.Held(giver), had)
			} else if got == LearnedAtLimit && f.shares.Held(int(p)) != before {
				t.Fatalf("step %d: port %d has %d stations at its limit, before %d", step, p, f.shares.Held(int(p)), before)
			}
			if f.learnedLocked() > max(most, total) {
				t.Fatalf("step %d: %d stations", step, f.learnedLocked())
			}
			f.Unlock()
		case op < 96:
			f.RLock()
			f.HearLocked(key, p, Seconds(now))
			f.RUnlock()
		case op < 97:
			f.Age(now)
		case op < 98:
			f.FlushPort(p)
		case op < 99:
			pinned := make(map[Key]frame.PortID)
			for range rng.IntN(60) { // more than there is room for make it grow
				pinned[KeyOf(1, 0, header.MAC{2, 0, 0, 0, 0, byte(rng.IntN(120))})] = p
			}
			f.SetStatic(pinned, exists)
		}
		if step%10 != 0 {
			continue
		}
		want := make([]int, ports)
		for i := range f.cells {
			if s := &f.cells[i]; s.key.station != 0 && !s.static {
				want[s.port]++
			}
		}
		for p := range ports {
			n := 0
			for i := f.shares.Oldest(p, 0); i != 0; i = f.shares.Next(i) {
				if s := &f.cells[i-1]; s.static || s.key.station == 0 || int(s.port) != p {
					t.Fatalf("step %d: port %d holds cell %d: %+v", step, p, i, s.station)
				}
				n++
			}
			if n != want[p] || f.shares.Held(p) != n {
				t.Fatalf("step %d: port %d holds %d, its list has %d, the table %d", step, p, f.shares.Held(p), n, want[p])
			}
		}
	}
}
