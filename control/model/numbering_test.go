package model

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

func mustTake(t *testing.T, n *Numbering[string], key string) int {
	t.Helper()
	got, ok := n.Take(key)
	if !ok {
		t.Fatalf("no number for %s", key)
	}
	return got
}

func TestNumberingGoesRound(t *testing.T) {
	n := NewNumbering[string](4, false)
	n.Begin(2)
	var got []int
	for _, key := range []string{"a", "b", "c", "d"} {
		got = append(got, mustTake(t, n, key))
	}
	if want := []int{3, 4, 1, 2}; !slices.Equal(got, want) {
		t.Errorf("after 2: got %v, want %v", got, want)
	}
	if again := mustTake(t, n, "b"); again != 4 {
		t.Errorf("b has %d, then 4", again)
	}
	if got, ok := n.Take("e"); ok {
		t.Errorf("a fifth of four numbers: %d", got)
	}
	n.Free(4)
	n.Free(3)
	for i, want := range []int{4, 3} {
		if got := mustTake(t, n, fmt.Sprint("new", i)); got != want {
			t.Errorf("got %d, want %d: it was free for longest", got, want)
		}
	}
	for _, bad := range []int{-1, 0, 5, 1 << 40} {
		fresh := NewNumbering[string](4, false)
		fresh.Begin(bad)
		if got := mustTake(t, fresh, "a"); got != 1 {
			t.Errorf("after %d, which is none: %d, want 1", bad, got)
		}
	}
}

// A number that was freed comes back only when all others have had their turn.
func TestNumberingLetsNumbersWait(t *testing.T) {
	n := NewNumbering[string](10, false)
	mustTake(t, n, "a")
	n.Free(1)
	for i := range 9 {
		if got := mustTake(t, n, fmt.Sprint(i)); got == 1 {
			t.Fatalf("1 is given out again after %d others", i)
		}
	}
	if got := mustTake(t, n, "last"); got != 1 {
		t.Errorf("the last free number: got %d, want 1", got)
	}
}

func TestNumberingOnce(t *testing.T) {
	n := NewNumbering[string](2, true)
	n.Keep("kept", 1)
	n.Free(mustTake(t, n, "a"))
	if got, ok := n.Take("b"); ok {
		t.Errorf("%d is given out a second time", got)
	}
	if got := mustTake(t, n, "kept"); got != 1 {
		t.Errorf("a number that was kept: got %d, want 1", got)
	}
}

func TestNumberingKeeps(t *testing.T) {
	n := NewNumbering[string](4, false)
	for _, k := range []struct {
		key  string
		n    int
		want bool
	}{
		{"a", 3, true}, {"b", 3, false}, {"a", 2, false}, {"c", 0, false}, {"d", 5, false}, {"e", -1, false}, {"f", 1, true},
	} {
		if got := n.Keep(k.key, k.n); got != k.want {
			t.Errorf("keep %s, %d: %t, want %t", k.key, k.n, got, k.want)
		}
	}
	if got := mustTake(t, n, "b"); got != 2 {
		t.Errorf("b: %d, want the first that is nobody's, 2", got)
	}
	if got := mustTake(t, n, "a"); got != 3 {
		t.Errorf("a: %d, want its own, 3", got)
	}
	n.GiveBack(3)
	if got := mustTake(t, n, "a"); got != 3 {
		t.Errorf("a came back: %d, want 3", got)
	}
	n.GiveBack(3)
	mustTake(t, n, "x")                       // 4, the last that is nobody's
	if got := mustTake(t, n, "y"); got != 1 { // f's, which was away for longest
		t.Errorf("y: %d, want 1", got)
	}
	if got, want := n.List(), []KeyNumber[string]{{"a", 3}, {"y", 1}, {"b", 2}, {"x", 4}}; !slices.Equal(got, want) {
		t.Errorf("list: %v, want %v", got, want)
	}
	mustTake(t, n, "f") // takes a's
	if got, ok := n.Take("a"); ok {
		t.Errorf("a: %d, but all are in use", got)
	}
}

// Two interfaces may change names with each other.
func TestNumberingRename(t *testing.T) {
	n := NewNumbering[string](4, false)
	mustTake(t, n, "eth0")
	mustTake(t, n, "eth1")
	n.Rename(1, "eth1")
	n.Rename(2, "eth0")
	if got, want := n.List(), []KeyNumber[string]{{"eth1", 1}, {"eth0", 2}}; !slices.Equal(got, want) {
		t.Errorf("list: %v, want %v", got, want)
	}
	n.GiveBack(2)
	n.Rename(1, "eth0")
	n.Free(1)
	if got := n.List(); len(got) != 0 {
		t.Errorf("list: %v, want none", got)
	}
	if got := mustTake(t, n, "eth0"); got != 3 {
		t.Errorf("eth0: %d, want 3", got)
	}
}

// TestNumberingRandom: no number is two keys' that are in use.
func TestNumberingRandom(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for _, once := range []bool{false, true} {
		n, used, freed := NewNumbering[string](20, once), make(map[string]int), make(map[int]bool)
		for range 5000 {
			key := fmt.Sprint(r.IntN(60))
			got, in := used[key]
			switch {
			case !in:
				got, ok := n.Take(key)
				if !ok {
					if len(used)+len(freed) < 20 {
						t.Fatalf("none of 20 is free, %d are in use", len(used))
					}
					continue
				}
				for o, m := range used {
					if m == got {
						t.Fatalf("%d is %s's and %s's", got, o, key)
					}
				}
				if once && freed[got] || got < 1 || got > 20 {
					t.Fatalf("%d is given out", got)
				}
				used[key] = got
				continue
			case r.IntN(2) == 0 && !once:
				n.GiveBack(got)
			default:
				n.Free(got)
				if once {
					freed[got] = true
				}
			}
			delete(used, key)
		}
	}
}
