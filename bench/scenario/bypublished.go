package scenario

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"github.com/vswitch/vswitch/bench/gen"
	"github.com/vswitch/vswitch/bench/rig"
	"github.com/vswitch/vswitch/internal/netlab"
)

// ruleLimit is the largest number of rules that the kernel's side gets: nft
// needs minutes and gigabytes for more.
const ruleLimit = 10_000

// byPublished publishes more and more ports and looks at what a connection to
// one that was there before costs then. Docker writes a rule for each port,
// whatever the range.
func byPublished(ctx context.Context, opt rig.Options, x Extent) (Findings, error) {
	g := growth{scenario: "by-published", title: "by published ports", axis: "published ports"}
	err := withRigs(ctx, opt, []string{rig.Docker, rig.VSwitch}, func(r *rig.Rig) error {
		counts := x.of([]int{1, 1000, 60_000}, []int{1, 100, 1000, 10_000, 60_000})
		done := 0
		for _, n := range counts {
			if r.System == rig.Docker && n > ruleLimit {
				break
			}
			start := time.Now()
			if err := publishMore(ctx, r, done, n); err != nil {
				return err
			}
			g.add(r.System, timeToAdd, n, time.Since(start).Seconds())
			done = n
			if r.System == rig.VSwitch {
				rss, err := r.RSS()
				if err != nil {
					return err
				}
				g.add(r.System, memory, n, float64(rss))
			}
			target := netip.AddrPortFrom(netip.MustParseAddr(netlab.HostAddr), gen.ConnectPort+rig.PublishOffset)
			c, err := gen.Connect(ctx, r.World.Outside, target, x.Window)
			if err != nil {
				return err
			}
			g.add(r.System, connectRate, n, c.PerSecond())
		}
		return nil
	})
	return Findings{Curves: g.curves}, err
}

// The ports of this scenario lie beside those that every rig has: first
// from high up, and for the last few thousand from low.
const (
	highFirst, highCount = 10_000, 55_536
	lowFirst             = 2000
)

// publishMore publishes the ports done to count-1 of this scenario.
func publishMore(ctx context.Context, r *rig.Rig, done, count int) error {
	if r.System == rig.Docker {
		return r.PublishRules(ctx, highFirst+done, count-done)
	}
	var specs []string
	add := func(first, last int) {
		if first <= last {
			specs = append(specs, fmt.Sprintf("%d-%d:%d-%d/tcp", first, last, first, last))
		}
	}
	add(highFirst+done, highFirst+min(count, highCount)-1)
	add(lowFirst+max(0, done-highCount), lowFirst+count-highCount-1)
	if _, err := r.API.Publish(ctx, "a", specs); err != nil {
		return fmt.Errorf("publish %v: %w", specs, err)
	}
	return nil
}
