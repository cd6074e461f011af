package scenario

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/vswitch/vswitch/bench/report"
	"github.com/vswitch/vswitch/bench/rig"
	"github.com/vswitch/vswitch/control/api"
)

// ports attaches containers until there are a hundred and looks at what an idle
// daemon costs then.
func ports(ctx context.Context, opt rig.Options, x Extent) (found Findings, err error) {
	const containers = 100
	watch := 10 * time.Second
	if x.Quick {
		watch = 4 * time.Second
	}
	r, err := rig.Build(ctx, rig.VSwitch, opt)
	if err != nil {
		return found, err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	before, err := r.RSS()
	if err != nil {
		return found, err
	}
	took := make([]float64, 0, containers)
	for i := 2; i < containers; i++ { // every rig has two
		_, d, err := r.Attach(ctx, api.Attach{Name: fmt.Sprintf("c%d", i)})
		if err != nil {
			return found, err
		}
		took = append(took, d.Seconds())
	}
	// The kernel is not done when the last attach is: addresses are announced,
	// groups joined, neighbours solicited.
	if err := sleep(ctx, 3*time.Second); err != nil {
		return found, err
	}
	portCount, framesBefore, err := received(ctx, r)
	if err != nil {
		return found, err
	}
	cpuBefore, err := r.CPU()
	if err != nil {
		return found, err
	}
	start := time.Now()
	if err := sleep(ctx, watch); err != nil {
		return found, err
	}
	elapsed := time.Since(start)
	cpuAfter, err := r.CPU()
	if err != nil {
		return found, err
	}
	_, framesAfter, err := received(ctx, r)
	if err != nil {
		return found, err
	}
	rss, err := r.RSS()
	if err != nil {
		return found, err
	}

	const attach, idle = "attach a container", "idle daemon"
	// Beside the containers' there are the host's TAP device and the uplink.
	all := fmt.Sprintf("%d containers, %d ports", containers, portCount)
	one := fmt.Sprintf("over the API, one after the other, to %d containers", containers)
	found.Figures = []report.Figure{
		figure("attach", attach, "p50", report.Seconds, 15e-3, report.Quantile(took, 0.5), one),
		figure("attach", attach, "p99", report.Seconds, 15e-3, report.Quantile(took, 0.99), one),
		figure("idle", idle, "CPU", report.Cores, 0.005, (cpuAfter-cpuBefore).Seconds()/elapsed.Seconds(),
			// Kernels are never quite silent, and what one sends to a group goes to all.
			fmt.Sprintf("%s, %v, %d frames came in", all, watch, framesAfter-framesBefore)),
		figure("idle", idle, "RSS", report.Bytes, 100e6, float64(rss), all+", rings included"),
		figure("idle", idle, "RSS per port", report.Bytes, 0, (float64(rss)-float64(before))/float64(len(took)), "growth from 2 containers"),
	}
	return found, nil
}

// received is the number of ports and of the frames that came in over them.
func received(ctx context.Context, r *rig.Rig) (ports int, frames uint64, err error) {
	stats, err := r.API.Stats(ctx, api.StatsQuery{})
	if err != nil {
		return 0, 0, fmt.Errorf("stats: %w", err)
	}
	for _, p := range stats.Ports {
		frames += p.RxFrames
	}
	return len(stats.Ports), frames, nil
}

// figure is a cost: less is better.
func figure(name, title, measure string, unit report.Unit, atMost, value float64, note string) report.Figure {
	return report.Figure{
		Scenario: name, Title: title,
		Measure: report.Measure{Name: measure, Unit: unit, LowerIsBetter: true, Bound: atMost},
		Value:   value, Note: note,
	}
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
