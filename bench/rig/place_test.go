package rig_test

import (
	"net/netip"
	"runtime"
	"testing"

	"github.com/vswitch/vswitch/bench/gen"
	"github.com/vswitch/vswitch/bench/rig"
)

// TestPlace: the servers answer wherever they are placed, beside a process that spins, too.
func TestPlace(t *testing.T) {
	r := build(t, rig.Bridge, "")
	to := netip.AddrPortFrom(r.B.Addr, gen.PingPort)
	for _, cpu := range []int{1, min(2, runtime.NumCPU()), 0} {
		if err := r.Place(cpu); err != nil {
			t.Fatal(err)
		}
		if _, err := gen.Ping(t.Context(), gen.On{Namespace: r.A.NS, CPU: 1}, to, window); err != nil {
			t.Errorf("the server on CPU %d: %v", cpu, err)
		}
	}
	s, err := gen.Spin(t.Context(), r.A.NS, 1)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := gen.Ping(t.Context(), gen.On{Namespace: r.A.NS, CPU: 1}, to, window); err != nil {
		t.Error(err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}
