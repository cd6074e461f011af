package dataplane_test

import (
	"os"
	"runtime"
	"testing"

	"github.com/vswitch/vswitch/dataplane"
	"github.com/vswitch/vswitch/dataplane/frame"
	. "github.com/vswitch/vswitch/dataplane/switchtest"
)

// heap is what is in use when all garbage is gone.
func heap() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC() // what finalizers held
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// descriptors counts those that this process has open.
func descriptors(t *testing.T) int {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(list)
}

// TestEndedCapturesKeepNothing begins and ends a thousand captures, 25 at a time, each with
// a frame that nobody read. Neither their buffers nor their bells stay.
func TestEndedCapturesKeepNothing(t *testing.T) {
	const at, size = 25, 1 << 20
	l := New(t)
	l.Send("c1", l2(MAC("c2"), MAC("c1"), "x"))
	before, open := heap(), descriptors(t)
	for range 1000 / at {
		var list []*dataplane.Capture
		for range at {
			c, err := dataplane.StartCapture(l.Switch, dataplane.CaptureConfig{
				Ports: []frame.PortID{l.Port("c1"), l.Port("c2")}, Points: dataplane.AllPoints, BufferBytes: size,
			})
			if err != nil {
				t.Fatal(err)
			}
			list = append(list, c)
		}
		l.Send("c1", l2(MAC("c2"), MAC("c1"), "x"))
		for _, c := range list {
			c.Close()
			if taken, _ := c.Counts(l.Port("c1"), dataplane.PointRx); taken != 1 {
				t.Fatalf("a capture has taken %d frames, want 1", taken)
			}
		}
	}
	if now := descriptors(t); now > open {
		t.Errorf("%d descriptors are open, %d were before", now, open)
	}
	if more := heap() - before; more > 8*size {
		t.Errorf("%d MiB stay of captures that have ended", more>>20)
	}
}
