package readers

import (
	"context"
	"testing"
	"time"
)

// TestTurnsGoRound: a reader who asks once waits for one turn of the reader who asks a hundred
// times, and who leaves takes no turn with him.
func TestTurnsGoRound(t *testing.T) {
	var turns Turns
	hog, one := With(t.Context(), local(7)), With(t.Context(), local(8))
	if err := turns.Begin(hog); err != nil {
		t.Fatal(err)
	}
	waiting := func(want int) {
		t.Helper()
		for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
			turns.mu.Lock()
			n := 0
			for _, l := range turns.ring {
				n += len(l.waiting)
			}
			turns.mu.Unlock()
			if n == want {
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("%d wait, want %d", n, want)
			}
		}
	}
	got := make(chan uint32, 200)
	ask := func(ctx context.Context) {
		if turns.Begin(ctx) == nil {
			got <- From(ctx).UID
			turns.End()
		}
	}
	for range 100 {
		go ask(hog)
	}
	left, leave := context.WithCancel(one)
	go ask(left)
	waiting(101)
	leave()
	waiting(100)
	go ask(one)
	waiting(101)
	turns.End()
	for i := range 101 {
		if who := <-got; (who == 8) != (i == 1) {
			t.Fatalf("turn %d is user %d's", i, who)
		}
	}
	waiting(0)
	if err := turns.Begin(one); err != nil {
		t.Error(err)
	}
}
