package scenario

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	"github.com/vswitch/vswitch/bench/gen"
	"github.com/vswitch/vswitch/bench/report"
	"github.com/vswitch/vswitch/bench/rig"
	"github.com/vswitch/vswitch/internal/netlab"
)

// growth collects the curves of one scenario.
type growth struct {
	scenario, title, axis string
	curves                []report.Curve
}

// add adds a point to the curve of system and measure, in the order of x.
func (g *growth) add(system string, m report.Measure, x int, value float64) {
	p := report.Point{X: float64(x), Value: value}
	for i := range g.curves {
		if c := &g.curves[i]; c.System == system && c.Measure == m {
			c.Points = append(c.Points, p)
			return
		}
	}
	g.curves = append(g.curves, report.Curve{
		Scenario: g.scenario, Title: g.title, Axis: g.axis, System: system, Measure: m, Points: []report.Point{p},
	})
}

// Measures of curves.
var (
	rateOf64     = report.Measure{Name: "64-byte frames", Unit: report.FramesPerSec}
	requestRate  = report.Measure{Name: "TCP request/response", Unit: report.PerSecond}
	connectRate  = report.Measure{Name: "TCP connect+request", Unit: report.PerSecond}
	timeToAttach = report.Measure{Name: "time to attach one more", Unit: report.Seconds, LowerIsBetter: true}
	timeToAdd    = report.Measure{Name: "time to publish them", Unit: report.Seconds, LowerIsBetter: true}
	memory       = report.Measure{Name: "RSS of the daemon", Unit: report.Bytes, LowerIsBetter: true}
)

// withRigs runs fn on one system after the other. One that fails does not keep
// the next from being measured.
func withRigs(ctx context.Context, opt rig.Options, systems []string, fn func(*rig.Rig) error) error {
	var errs []error
	for _, system := range systems {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err := rig.Available(system); err != nil {
			errs = append(errs, err)
			continue
		}
		r, err := rig.Build(ctx, system, opt)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if err := errors.Join(fn(r), r.Close()); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", system, err))
		}
	}
	return errors.Join(errs...)
}

// byMACs lets a container send from more and more addresses, all of which have
// to be learned.
func byMACs(ctx context.Context, opt rig.Options, x Extent) (Findings, error) {
	g := growth{scenario: "by-macs", title: "by MAC addresses", axis: "MAC addresses"}
	// A guarded container has one address: the guard would drop all others.
	err := withRigs(ctx, opt, []string{rig.Bridge, rig.Unguarded}, func(r *rig.Rig) error {
		e, err := containers().ends(r)
		if err != nil {
			return err
		}
		for _, n := range x.of([]int{1, 1000}, []int{1, 10, 100, 1000, 8000}) {
			t, err := e.frames.send(ctx, gen.FrameSpec{Size: 64, MACs: n}, x.Window)
			if err != nil {
				return err
			}
			g.add(r.System, rateOf64, n, t.delivered())
		}
		return nil
	})
	return Findings{Curves: g.curves}, err
}

// byFlows sends from outside to a published port in more and more flows, each of
// which NAT tracks. The first pass, which opens the flows, is not measured. A
// system that tracks fewer flows than there are drops some; what is counted is
// what arrives. The other direction would show the quota that a container has.
func byFlows(ctx context.Context, opt rig.Options, x Extent) (Findings, error) {
	// Nobody answers, and half of a table is for flows that were answered.
	opt.MaxFlows = 5 << 19
	g := growth{scenario: "by-flows", title: "by flows, outside to published port", axis: "flows"}
	err := withRigs(ctx, opt, []string{rig.Docker, rig.VSwitch}, func(r *rig.Rig) error {
		e, err := published().ends(r)
		if err != nil {
			return err
		}
		e.frames.from = netip.AddrPortFrom(netip.MustParseAddr(netlab.FarAddr), framePort)
		for _, n := range x.of([]int{1, 10_000}, []int{1, 100, 10_000, 100_000, 1_000_000}) {
			spec := gen.FrameSpec{Size: 64, Flows: n, Frames: uint64(n)}
			if _, err := e.frames.send(ctx, spec, 10*x.Window); err != nil {
				return err
			}
			spec.Frames = 0
			t, err := e.frames.send(ctx, spec, x.Window)
			if err != nil {
				return err
			}
			g.add(r.System, rateOf64, n, t.delivered())
		}
		return nil
	})
	return Findings{Curves: g.curves}, err
}
