package dataplane_test

import (
	"bytes"
	"runtime"
	"testing"

	"github.com/vswitch/vswitch/dataplane"
	"github.com/vswitch/vswitch/dataplane/frame"
	"github.com/vswitch/vswitch/dataplane/header"
	. "github.com/vswitch/vswitch/dataplane/switchtest"
)

// A turn is of one piece also for its captures: what is installed while it runs does
// not change how they show its frames.
func TestCaptureOfOneSnapshot(t *testing.T) {
	var shown [2][]byte
	for i, installs := range []bool{false, true} {
		l := New(t)
		access := func(name string, vlan uint16, trunk []dataplane.VLANRange) {
			l.Configure(name, func(p *dataplane.PortConfig) { p.VLAN, p.Trunk = vlan, trunk })
		}
		access("c1", 10, nil)
		access("c2", 10, nil)
		access("c3", 5, []dataplane.VLANRange{{First: 10, Last: 10}})
		ran, installed := false, make(chan struct{})
		l.Memory("c1").SetSink(func([]byte, frame.Offload) { // in the middle of the turn
			if ran = true; installs {
				before := l.Switch.Revision()
				go func() { // it returns when the turn is over
					defer close(installed)
					access("c3", 5, nil)
				}()
				for l.Switch.Revision() == before {
					runtime.Gosched()
				}
			}
		})
		l.Memory("c2").SetRoom(0)
		c := openCapture(t, l, dataplane.CaptureConfig{Points: 1 << dataplane.PointDrop}, "c2")
		f := l2(header.MAC{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, MAC("c3"), "to all")
		l.Send("c3", append(append(bytes.Clone(f[:12]), 0x81, 0, 0, 10), f[12:]...))
		if installs {
			<-installed
		}
		got := all(t, c)
		if len(got) != 1 || got[0].Verdict.Reason != dataplane.DropDeviceFull || !ran {
			t.Fatalf("%d records, want that of the full device; drops: %s", len(got), l.Drops())
		}
		shown[i] = got[0].Data
	}
	if !bytes.Equal(shown[0], shown[1]) {
		t.Errorf("with a new snapshot % x, without % x", shown[1], shown[0])
	}
}
