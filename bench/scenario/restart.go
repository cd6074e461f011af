package scenario

import (
	"context"
	"fmt"
	"syscall"
	"time"

	"github.com/vswitch/vswitch/bench/gen"
	"github.com/vswitch/vswitch/bench/report"
	"github.com/vswitch/vswitch/bench/rig"
	"github.com/vswitch/vswitch/control/api"
)

// tickRate is how many frames a second show what a restart loses: as many as milliseconds
// without the switch.
const tickRate = 1000

// The parts of the window of a restart: a flow is to be carried by then, and the daemon back.
const (
	beforeRestart = time.Second
	afterRestart  = 4 * time.Second
)

// endings are the ends of a daemon, by the signal.
var endings = []struct {
	name   string
	signal syscall.Signal
}{{"kill -9", syscall.SIGKILL}, {"SIGTERM", syscall.SIGTERM}}

// restart ends the daemon and starts it again while two of its containers talk, with more and
// more containers. The kernel's bridge has nobody to end.
func restart(ctx context.Context, opt rig.Options, x Extent) (Findings, error) {
	g := growth{scenario: "restart", title: "end and start of the daemon, by containers", axis: "containers"}
	counts, times := x.of([]int{2, 100}, []int{2, 100, 1000}), x.of([]int{1}, []int{5})[0]
	err := withRigs(ctx, opt, []string{rig.Bridge, rig.VSwitch}, func(r *rig.Rig) error {
		e, err := containers().ends(r)
		if err != nil {
			return err
		}
		lost := func(how string) report.Measure {
			return report.Measure{Name: "frames lost, " + how, Unit: report.Lost, LowerIsBetter: true}
		}
		if r.System == rig.Bridge {
			n, _, err := ticks(ctx, e, func() (time.Duration, error) { return 0, nil })
			for _, how := range endings {
				g.add(r.System, lost(how.name), counts[0], n)
			}
			return err
		}
		const network = "large" // the default one has no room for all
		if _, err := r.API.CreateNetwork(ctx, api.NetworkCreate{Name: network, Subnet: "10.96.0.0/16"}); err != nil {
			return fmt.Errorf("create network: %w", err)
		}
		r.Abandon()
		have := 2
		for _, n := range counts {
			for ; have < n; have++ {
				if _, _, err := r.Attach(ctx, api.Attach{Name: fmt.Sprintf("n%d", have), Networks: []api.Connect{{Network: network}}}); err != nil {
					return err
				}
			}
			for _, how := range endings {
				var gone, took []float64
				for range times {
					lost, ready, err := ticks(ctx, e, func() (time.Duration, error) { return r.Restart(ctx, how.signal) })
					if err != nil {
						return err
					}
					gone, took = append(gone, lost), append(took, ready.Seconds())
				}
				g.add(r.System, lost(how.name), n, report.Quantile(gone, 0.5))
				g.add(r.System, report.Measure{Name: how.name + " until ready", Unit: report.Seconds, LowerIsBetter: true}, n, report.Quantile(took, 0.5))
			}
		}
		return nil
	})
	return Findings{Curves: g.curves}, err
}

// ticks sends tickRate frames a second while something is done, and returns how many are lost.
func ticks(ctx context.Context, e ends, do func() (time.Duration, error)) (lost float64, took time.Duration, err error) {
	type result struct {
		trial
		err error
	}
	sent := make(chan result, 1)
	go func() {
		t, err := e.frames.send(ctx, gen.FrameSpec{Size: 64, Rate: tickRate}, beforeRestart+afterRestart)
		sent <- result{t, err}
	}()
	err = sleep(ctx, beforeRestart)
	if err == nil {
		took, err = do()
	}
	t := <-sent
	if err == nil {
		err = t.err
	}
	return max(0, float64(t.sent.Frames)-float64(t.arrived)), took, err
}
