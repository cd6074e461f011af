package scenario

import (
	"context"
	"fmt"
	"net/netip"

	"github.com/vswitch/vswitch/bench/gen"
	"github.com/vswitch/vswitch/bench/report"
	"github.com/vswitch/vswitch/bench/rig"
	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/internal/netlab"
)

// bridgePorts is the kernel bridge's limit, BR_MAX_PORTS, less one.
const bridgePorts = 1022

// byPorts puts more and more containers on one network. Two of them talk, the
// others are idle, and what the two reach and the next attach costs is measured.
func byPorts(ctx context.Context, opt rig.Options, x Extent) (Findings, error) {
	g := growth{scenario: "by-ports", title: "by containers on one network", axis: "containers"}
	counts := x.of([]int{2, 50, 200}, []int{2, 10, 100, 500, 1000, 2000})
	err := withRigs(ctx, opt, []string{rig.Bridge, rig.VSwitch}, func(r *rig.Rig) error {
		if r.System == rig.Bridge {
			return bridgeByPorts(ctx, &g, r, counts, x)
		}
		return vswitchByPorts(ctx, &g, r, counts, x)
	})
	return Findings{Curves: g.curves}, err
}

// bridgeByPorts has the other ends of all further ports in one namespace.
func bridgeByPorts(ctx context.Context, g *growth, r *rig.Rig, counts []int, x Extent) error {
	crowd, err := netlab.New("crowd")
	if err != nil {
		return err
	}
	defer crowd.Close()
	have := 2
	for _, n := range counts {
		if n > bridgePorts {
			break
		}
		var names []string
		for ; have < n; have++ {
			name := fmt.Sprintf("crowd%d", have)
			if err := netlab.Veth(r.World.Host, name, crowd, name, 1500); err != nil {
				return err
			}
			if err := crowd.SetUp(name); err != nil {
				return err
			}
			names = append(names, name)
		}
		if err := r.AddBridgePorts(names...); err != nil {
			return err
		}
		if err := talk(ctx, g, r, r.A, r.B, n, x); err != nil {
			return err
		}
	}
	return nil
}

// vswitchByPorts needs a network with room for all.
func vswitchByPorts(ctx context.Context, g *growth, r *rig.Rig, counts []int, x Extent) error {
	const network = "large"
	if _, err := r.API.CreateNetwork(ctx, api.NetworkCreate{Name: network, Subnet: "10.96.0.0/16"}); err != nil {
		return fmt.Errorf("create network: %w", err)
	}
	r.Abandon()
	var containers []*rig.Container
	for _, n := range counts {
		var took []float64
		for i := len(containers); i < n; i++ {
			c, d, err := r.Attach(ctx, api.Attach{Name: fmt.Sprintf("n%d", i), Networks: []api.Connect{{Network: network}}})
			if err != nil {
				return err
			}
			containers, took = append(containers, c), append(took, d.Seconds())
			if i == 1 {
				if err := r.Serve(ctx, c); err != nil {
					return err
				}
			}
		}
		// Of the way to n only the end is what one more costs there.
		g.add(r.System, timeToAttach, n, report.Quantile(took[max(0, len(took)-20):], 0.5))
		rss, err := r.RSS()
		if err != nil {
			return err
		}
		g.add(r.System, memory, n, float64(rss))
		if err := talk(ctx, g, r, containers[0], containers[1], n, x); err != nil {
			return err
		}
	}
	return nil
}

// talk measures what a and b reach among n.
func talk(ctx context.Context, g *growth, r *rig.Rig, a, b *rig.Container, n int, x Extent) error {
	p, err := gen.Ping(ctx, a.NS, netip.AddrPortFrom(b.Addr, gen.PingPort), x.Window)
	if err != nil {
		return err
	}
	g.add(r.System, requestRate, n, p.PerSecond())
	f := frameEnds{
		sender: a.NS, senderIfname: a.Ifname, src: a.MAC,
		receiver: b.NS, receiverIfname: b.Ifname, dst: b.MAC,
		from: netip.AddrPortFrom(a.Addr, framePort), to: netip.AddrPortFrom(b.Addr, gen.DiscardPort),
	}
	t, err := f.send(ctx, gen.FrameSpec{Size: 64}, x.Window)
	if err != nil {
		return err
	}
	g.add(r.System, rateOf64, n, t.delivered())
	return nil
}
