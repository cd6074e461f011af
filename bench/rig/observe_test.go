package rig_test

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/vswitch/vswitch/bench/gen"
	"github.com/vswitch/vswitch/bench/rig"
)

// A capture whose reader has gone is over in the daemon too, whatever the reader did
// before: the next measurement is one without it.
func TestCaptureIsOverWhenItEnds(t *testing.T) {
	r := build(t, rig.VSwitch, program(t))
	running := func(want string) bool {
		text, err := r.Scrape(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return strings.Contains(text, "\nvswitch_captures_running "+want+"\n")
	}
	for _, reader := range []rig.Reader{rig.ToFile, rig.Stalled, rig.FullDisk} {
		end, err := r.Capture(t.Context(), "a", reader)
		if err != nil {
			t.Fatal(err)
		}
		if reader != rig.FullDisk && !running("1") {
			t.Errorf("%s: no capture is running", reader)
		}
		if _, err := gen.Frames(t.Context(), r.A.NS, gen.FrameSpec{
			Ifname: r.A.Ifname, Src: r.A.MAC, Dst: r.B.MAC, Size: 64,
			From: netip.AddrPortFrom(r.A.Addr, 9), To: netip.AddrPortFrom(r.B.Addr, 9),
		}, 500*time.Millisecond); err != nil {
			t.Error(err)
		}
		start := time.Now()
		if err := end(); err != nil {
			t.Error(err)
		}
		for !running("0") {
			if time.Since(start) > 30*time.Second {
				t.Fatalf("a capture %s runs on without its reader", reader)
			}
			time.Sleep(time.Millisecond)
		}
		t.Logf("a capture %s was over after %v", reader, time.Since(start))
	}
}
