package scenario

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"syscall"
	"time"

	"github.com/vswitch/vswitch/bench/gen"
	"github.com/vswitch/vswitch/bench/report"
	"github.com/vswitch/vswitch/bench/rig"
	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/internal/netlab"
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

// sights are what is looked at while the daemon ends and starts again.
var sights = []struct {
	lost  string
	spec  gen.FrameSpec
	under bool // load: a transfer between two other containers, and connections from outside to a third
}{
	{"frames lost", gen.FrameSpec{Size: 64}, false},
	// Whoever carries flows leaves pieces of datagrams to the daemon.
	{"fragments lost", gen.FrameSpec{Size: fragmentSize, Fragment: true}, false},
	{"frames lost under load", gen.FrameSpec{Size: 64}, true},
	{"fragments lost under load", gen.FrameSpec{Size: fragmentSize, Fragment: true}, true},
}

// fragmentSize leaves 32 bytes to the piece: all but the last have a multiple of 8.
const fragmentSize = 14 + 20 + 32 + 4

// restart ends the daemon and starts it again while two of its containers talk, with more and
// more containers. The kernel's bridge has nobody to end.
func restart(ctx context.Context, opt rig.Options, x Extent) (Findings, error) {
	g := growth{scenario: "restart", title: "end and start of the daemon, by containers", axis: "containers"}
	counts, times := x.of([]int{2, 100}, []int{2, 100, 1000}), x.of([]int{1}, []int{3})[0]
	err := withRigs(ctx, opt, []string{rig.Bridge, rig.VSwitch}, func(r *rig.Rig) error {
		e, err := containers().ends(r)
		if err != nil {
			return err
		}
		lost := func(what, how string) report.Measure {
			return report.Measure{Name: what + ", " + how, Unit: report.Lost, LowerIsBetter: true}
		}
		if r.System == rig.Bridge {
			for _, s := range sights {
				if s.under {
					continue // nothing else is on the kernel's bridge
				}
				n, _, err := ticks(ctx, e, s.spec, func() (time.Duration, error) { return 0, nil })
				if err != nil {
					return err
				}
				for _, how := range endings {
					g.add(r.System, lost(s.lost, how.name), counts[0], n)
				}
			}
			return nil
		}
		const network = "large" // the default one has no room for all
		if _, err := r.API.CreateNetwork(ctx, api.NetworkCreate{Name: network, Subnet: "10.96.0.0/16"}); err != nil {
			return fmt.Errorf("create network: %w", err)
		}
		r.Abandon()
		busy, err := newBusy(ctx, r, network)
		if err != nil {
			return err
		}
		have := 2 // beside the two of the load
		for _, n := range counts {
			for ; have < n; have++ {
				if _, _, err := r.Attach(ctx, api.Attach{Name: fmt.Sprintf("n%d", have), Networks: []api.Connect{{Network: network}}}); err != nil {
					return err
				}
			}
			for _, how := range endings {
				var took []float64
				failed := 0
				for _, s := range sights {
					var gone []float64
					for range times {
						end := func() (int, error) { return 0, nil }
						if s.under {
							end = busy.begin(ctx)
						}
						lost, ready, err := ticks(ctx, e, s.spec, func() (time.Duration, error) { return r.Restart(ctx, how.signal) })
						n, err1 := end()
						if err := errors.Join(err, err1); err != nil {
							return err
						}
						failed += n
						gone = append(gone, lost)
						if !s.under {
							took = append(took, ready.Seconds())
						}
					}
					g.add(r.System, lost(s.lost, how.name), n, report.Quantile(gone, 0.5))
				}
				g.add(r.System, report.Measure{Name: how.name + " until ready", Unit: report.Seconds, LowerIsBetter: true}, n, report.Quantile(took, 0.5))
				g.add(r.System, report.Measure{Name: "new connections under load, " + how.name, Unit: report.Failed, LowerIsBetter: true}, n, float64(failed))
			}
		}
		return nil
	})
	return Findings{Curves: g.curves}, err
}

// busy is the load of a restart.
type busy struct {
	from, to *rig.Container
	outside  *netlab.NS
	host     netip.AddrPort // where outside connects to to
}

func newBusy(ctx context.Context, r *rig.Rig, network string) (b busy, err error) {
	on := []api.Connect{{Network: network}}
	const hostPort = gen.ConnectPort + 2*rig.PublishOffset
	b.outside, b.host = r.World.Outside, netip.AddrPortFrom(netip.MustParseAddr(netlab.HostAddr), hostPort)
	if b.from, _, err = r.Attach(ctx, api.Attach{Name: "from", Networks: on}); err != nil {
		return b, err
	}
	if b.to, _, err = r.Attach(ctx, api.Attach{Name: "to", Networks: on, Publish: []string{fmt.Sprintf("%d:%d", hostPort, gen.ConnectPort)}}); err != nil {
		return b, err
	}
	return b, r.Serve(ctx, b.to)
}

// begin begins it. end waits for it and says how many new connections failed: were refused, or had
// no answer for as long as a program waits.
func (b busy) begin(ctx context.Context) (end func() (failed int, err error)) {
	const window = beforeRestart + afterRestart
	sent, connected := make(chan error, 1), make(chan error, 1)
	var x gen.Exchanges
	go func() {
		_, err := gen.Bulk(ctx, b.from.NS, netip.AddrPortFrom(b.to.Addr, gen.BulkPort), window, 1)
		sent <- err
	}()
	go func() {
		var err error
		x, err = gen.Endure(ctx, b.outside, b.host, window)
		connected <- err
	}()
	return func() (int, error) {
		err := errors.Join(<-sent, <-connected)
		return x.Failed, err
	}
}

// ticks sends tickRate frames a second while something is done, and returns how many are lost.
func ticks(ctx context.Context, e ends, spec gen.FrameSpec, do func() (time.Duration, error)) (lost float64, took time.Duration, err error) {
	type result struct {
		trial
		err error
	}
	sent := make(chan result, 1)
	spec.Rate = tickRate
	go func() {
		t, err := e.frames.send(ctx, spec, beforeRestart+afterRestart)
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
