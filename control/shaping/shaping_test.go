package shaping

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// TestLooks: a kick is one look at queueing disciplines, however many there were; the first flow to
// a port is one at programs, too, and from then on there is one a second, as long as there are
// rows or a chain keeps them away. A look that takes long is one of twenty parts of the time.
func TestLooks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex // guards what follows
		locked := func() func() { mu.Lock(); return mu.Unlock }
		var queues, programs, failed, rows int
		var firsts uint64
		var misses bool
		var takes time.Duration
		l := New(Looks{
			Rows:   func() (int, uint64) { defer locked()(); return rows, firsts },
			Queues: func() error { defer locked()(); queues++; return nil },
			Programs: func() (bool, error) {
				mu.Lock()
				programs++
				pause, missing := takes, misses
				mu.Unlock()
				time.Sleep(pause)
				return missing, errors.New("one")
			},
			Failed: func(error) { defer locked()(); failed++ },
		})
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { l.Run(ctx); close(ended) }()
		want := func(what string, after time.Duration, q, p int) {
			t.Helper()
			time.Sleep(after)
			synctest.Wait()
			defer locked()()
			if queues != q || programs != p || failed != programs {
				t.Errorf("%s: %d looks at queues, %d at programs, %d failed; want %d and %d", what, queues, programs, failed, q, p)
			}
			queues, programs, failed = 0, 0, 0
		}
		want("nothing", 10*time.Second, 0, 0)
		l.Kick()
		l.Kick()
		want("before its time", delay/2, 0, 0)
		l.Kick()
		want("kicked", 100*time.Millisecond, 1, 0)
		set := func(r int, f uint64, m bool, d time.Duration) {
			defer locked()()
			rows, firsts, misses, takes = r, f, m, d
		}
		set(1, 1, false, 0)
		want("a first flow", 2*glance, 1, 1)
		want("while there are rows", 10*every, 10, 10)
		set(0, 2, true, 0)
		want("a chain keeps flows away", 10*every, 10, 10)
		set(0, 2, false, 0)
		want("until it is gone", every, 1, 1)
		want("no more", 10*every, 0, 0)
		set(1, 2, false, 200*time.Millisecond)
		want("a look of 200 ms", 42*time.Second, 10, 10)
		cancel()
		<-ended
	})
}
