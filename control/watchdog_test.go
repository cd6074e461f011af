package control

import (
	"context"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/vswitch/vswitch/dataplane/frame"
	"github.com/vswitch/vswitch/dataplane/port"
	"github.com/vswitch/vswitch/dataplane/port/porttest"
)

// stuckPort keeps a worker inside Receive until leave is closed.
type stuckPort struct {
	*porttest.Port
	leave chan struct{}
}

func (p *stuckPort) Receive(b *frame.Batch, a *port.Arena) error {
	<-p.leave
	return p.Port.Receive(b, a)
}

// The watchdog is fed by progress, not by a timer.
func TestWatchdogStarves(t *testing.T) {
	const interval = 200 * time.Millisecond
	log := new(logBuffer)
	c := inProcessIn(t, t.TempDir(), slog.New(slog.NewTextHandler(log, nil)))
	fed := make(chan struct{}, 1000)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		c.watchdog(ctx, interval, func() { fed <- struct{}{} })
	}()
	defer func() { cancel(); <-ended }()
	await := func(when string) {
		t.Helper()
		select {
		case <-fed:
		case <-time.After(10 * time.Second):
			t.Fatalf("not fed %s:\n%s", when, log)
		}
	}
	starve := func(when, reason string) {
		t.Helper()
		seen := strings.Count(log.String(), reason)
		for deadline := time.Now().Add(10 * time.Second); strings.Count(log.String(), reason) == seen; time.Sleep(5 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("the log does not say %q %s:\n%s", reason, when, log)
			}
		}
		for len(fed) > 0 { // what came before the first complaint
			<-fed
		}
		time.Sleep(3 * interval)
		if len(fed) > 0 {
			t.Errorf("fed %s", when)
		}
	}
	await("at the start")
	await("again")

	p := &stuckPort{porttest.New("stuck"), make(chan struct{})}
	id, err := c.sw.AddPort(p)
	if err != nil {
		t.Fatal(err)
	}
	p.Inject(make([]byte, 60), frame.Offload{})
	starve("while a worker hangs", "is stuck in a turn")
	close(p.leave)
	await("after the worker went on")
	if err := c.sw.RemovePort(id); err != nil {
		t.Error(err)
	}

	c.mu.Lock()
	starve("while the lock is held", "lock is not let go")
	c.mu.Unlock()
	await("after the lock was let go")
}
