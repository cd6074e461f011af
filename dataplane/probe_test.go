package dataplane_test

import (
	"strings"
	"testing"
	"time"

	"github.com/vswitch/vswitch/dataplane"
	"github.com/vswitch/vswitch/dataplane/frame"
	"github.com/vswitch/vswitch/dataplane/port"
	"github.com/vswitch/vswitch/dataplane/port/porttest"
)

// holding is a port that keeps the worker inside Receive while a test wants it.
type holding struct {
	*porttest.Port
	entered chan struct{} // closed by the first Receive
	leave   chan struct{}
}

func (h *holding) Receive(b *frame.Batch, a *port.Arena) error {
	select {
	case <-h.entered:
	default:
		close(h.entered)
	}
	<-h.leave
	return h.Port.Receive(b, a)
}

func TestProbe(t *testing.T) {
	for _, spin := range []time.Duration{-1, time.Hour} { // workers that sleep, and that poll
		sw, err := dataplane.New(dataplane.Config{Workers: 2, Spin: spin})
		if err != nil {
			t.Fatal(err)
		}
		h := &holding{porttest.New("c1"), make(chan struct{}), make(chan struct{})}
		if err := sw.AddPort(0, porttest.Describe(h)); err != nil {
			t.Fatal(err)
		}
		sw.Start()
		for range 10 {
			if err := sw.Probe(10 * time.Second); err != nil {
				t.Errorf("idle: %v", err)
			}
		}
		h.Inject(make([]byte, 60), frame.Offload{})
		<-h.entered
		if err := sw.Probe(50 * time.Millisecond); err == nil || !strings.Contains(err.Error(), "worker 0 is stuck in a turn") {
			t.Errorf("a worker that hangs in a turn: %v", err)
		}
		close(h.leave)
		if err := sw.Probe(10 * time.Second); err != nil {
			t.Errorf("it went on: %v", err)
		}
		if err := sw.Close(); err != nil {
			t.Error(err)
		}
	}
}

// A switch whose workers never began makes no turn.
func TestProbeBeforeStart(t *testing.T) {
	sw, err := dataplane.New(dataplane.Config{Workers: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer sw.Close()
	if err := sw.Probe(time.Millisecond); err == nil || !strings.Contains(err.Error(), "no turn") {
		t.Errorf("got %v", err)
	}
}
