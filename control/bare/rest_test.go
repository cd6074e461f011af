package bare

import (
	"testing"
	"testing/synctest"
	"time"
)

// TestRest: a process that ends at once is begun again ever later, one that has lived is at once.
func TestRest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, stop := NewRest(), make(chan struct{})
		waits := func(want time.Duration) {
			t.Helper()
			before := time.Now()
			if !r.Wait(stop) || time.Since(before) != want {
				t.Errorf("waited for %v, want %v", time.Since(before), want)
			}
		}
		for _, want := range []time.Duration{1, 2, 4, 8, 16, 32, 60, 60} {
			waits(want * time.Second)
		}
		time.Sleep(2 * time.Minute)
		waits(0)
		close(stop)
		if r.Wait(stop) {
			t.Error("another begins after the end")
		}
	})
}
