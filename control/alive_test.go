package control

import (
	"strings"
	"testing"
	"time"

	"github.com/vswitch/vswitch/dataplane"
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

// Alive tells a daemon that works from one that hangs, by progress and not by a timer.
func TestAliveSaysWhatHangs(t *testing.T) {
	const limit = 100 * time.Millisecond
	c := inProcess(t)
	lives := func(when string) {
		t.Helper()
		eventually(t, "it lives "+when, func() bool { return c.Alive(limit) == nil })
	}
	hangs := func(when, reason string) {
		t.Helper()
		for range 3 {
			// A busy machine may keep something else from going on for so long.
			eventually(t, "it says "+reason+" "+when, func() bool {
				err := c.Alive(limit)
				if err == nil {
					t.Errorf("it lives %s", when)
				}
				return err == nil || strings.Contains(err.Error(), reason)
			})
		}
	}
	lives("at the start")

	p := &stuckPort{porttest.New("stuck"), make(chan struct{})}
	const id = dataplane.MaxPorts - 1
	if err := c.sw.AddPort(id, porttest.Describe(p)); err != nil {
		t.Fatal(err)
	}
	p.Inject(make([]byte, 60), frame.Offload{})
	eventually(t, "the worker hangs", func() bool { return c.Alive(limit) != nil })
	hangs("while a worker hangs", "is stuck in a turn")
	close(p.leave)
	lives("after the worker went on")
	if err := c.sw.RemovePort(id); err != nil {
		t.Error(err)
	}

	c.mu.Lock()
	hangs("while the lock is held", "lock is not let go")
	c.mu.Unlock()
	lives("after the lock was let go")
}
