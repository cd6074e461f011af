package daemon

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vswitch/vswitch/control"
)

// The watchdog is fed for as long as the daemon lives, and the log says what keeps it.
func TestF05WatchdogStarves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		fed := 0
		var stuck atomic.Bool
		cfg := Config{
			Config:   control.Config{Log: slog.New(slog.NewTextHandler(&log, nil))},
			Watchdog: 10 * time.Second, Alive: func() { fed++ },
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			watchdog(ctx, &cfg, func(limit time.Duration) error {
				if limit != 5*time.Second {
					t.Errorf("limit %s, want half the interval", limit)
				}
				if stuck.Load() {
					return errors.New("worker 0 is stuck")
				}
				return nil
			})
		}()
		after := func(d time.Duration, want int, when string) {
			t.Helper()
			time.Sleep(d)
			synctest.Wait()
			if fed != want {
				t.Errorf("fed %d times %s, want %d", fed, when, want)
			}
		}
		after(25*time.Second, 3, "in 25 s") // at once, after 10 s and after 20 s
		stuck.Store(true)
		after(20*time.Second, 3, "while a worker hangs")
		if n := strings.Count(log.String(), "worker 0 is stuck"); n != 2 {
			t.Errorf("the log says %d times what hangs, want 2:\n%s", n, &log)
		}
		stuck.Store(false)
		after(10*time.Second, 4, "after the worker went on")
		cancel()
		<-done
	})
}
