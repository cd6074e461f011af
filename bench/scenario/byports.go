package scenario

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

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
	var figures []report.Figure
	counts := x.of([]int{2, 50, 200}, []int{2, 10, 100, 500, 1000, 2000})
	err := withRigs(ctx, opt, []string{rig.Bridge, rig.VSwitch}, func(r *rig.Rig) error {
		if r.System == rig.Bridge {
			return bridgeByPorts(ctx, &g, r, counts, x)
		}
		var err error
		figures, err = vswitchByPorts(ctx, &g, r, counts, x)
		return err
	})
	return Findings{Figures: figures, Curves: g.curves}, err
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

// Targets with 2,000 containers.
const (
	attachAmong    = 25e-3 // s
	memoryAmong    = 1e9   // B
	slowerAmong    = 1.1   // times, against two containers
	pingpongAmong  = 5e-3  // s, p99 beside a broadcast
	broadcastAmong = 20    // frames/s
)

// vswitchByPorts needs a network with room for all. With the last of counts it looks
// at what the targets speak of.
func vswitchByPorts(ctx context.Context, g *growth, r *rig.Rig, counts []int, x Extent) (found []report.Figure, err error) {
	const network = "large"
	if _, err := r.API.CreateNetwork(ctx, api.NetworkCreate{Name: network, Subnet: "10.96.0.0/16"}); err != nil {
		return nil, fmt.Errorf("create network: %w", err)
	}
	r.Abandon()
	var containers []*rig.Container
	var took []float64
	var rss uint64
	for _, n := range counts {
		took = nil
		for i := len(containers); i < n; i++ {
			c, d, err := r.Attach(ctx, api.Attach{Name: fmt.Sprintf("n%d", i), Networks: []api.Connect{{Network: network}}})
			if err != nil {
				return nil, err
			}
			containers, took = append(containers, c), append(took, d.Seconds())
			if i == 1 {
				if err := r.Serve(ctx, c); err != nil {
					return nil, err
				}
			}
		}
		// A thousand new kernels solicit neighbours and join groups for a while.
		if err := sleep(ctx, time.Duration(len(took))*5*time.Millisecond); err != nil {
			return nil, err
		}
		// Of the way to n only the end is what one more costs there.
		took = took[max(0, len(took)-20):]
		g.add(r.System, timeToAttach, n, report.Quantile(took, 0.5))
		if rss, err = r.RSS(); err != nil {
			return nil, err
		}
		g.add(r.System, memory, n, float64(rss))
		if err := talk(ctx, g, r, containers[0], containers[1], n, x); err != nil {
			return nil, err
		}
	}
	n := counts[len(counts)-1]
	title := fmt.Sprintf("%d containers on one network", n)
	add := func(measure string, unit report.Unit, atMost, value float64, note string) {
		if x.Quick {
			atMost = 0 // the targets are for the full number
		}
		found = append(found, figure("by-ports", title, measure, unit, atMost, value, note))
	}
	add("attach one more", report.Seconds, attachAmong, report.Quantile(took, 0.5), "median of the last 20")
	add("RSS", report.Bytes, memoryAmong, float64(rss), "rings included")
	for _, c := range g.curves {
		if c.System == r.System && c.Measure == rateOf64 {
			first, last := c.Points[0].Value, c.Points[len(c.Points)-1].Value
			add("64-byte frames between two, fewer than with two", "times", slowerAmong, first/last, "rate with two by rate with all")
		}
	}
	p99, err := besideBroadcast(ctx, containers, x)
	if err != nil {
		return found, err
	}
	add("ping-pong beside a broadcast: p99", report.Seconds, pingpongAmong, p99, fmt.Sprintf("%d broadcasts a second to all", broadcastAmong))
	return found, nil
}

// besideBroadcast is the 99th percentile of a ping-pong between the first two while
// the last sends to all.
func besideBroadcast(ctx context.Context, all []*rig.Container, x Extent) (float64, error) {
	loud := all[len(all)-1]
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	done := make(chan error, 1)
	go func() {
		_, err := gen.Frames(ctx, loud.NS, gen.FrameSpec{
			Ifname: loud.Ifname, Src: loud.MAC, Dst: net.HardwareAddr{255, 255, 255, 255, 255, 255},
			From: netip.AddrPortFrom(loud.Addr, framePort), To: netip.AddrPortFrom(netip.AddrFrom4([4]byte{255, 255, 255, 255}), gen.DiscardPort),
			Size: 64, Rate: broadcastAmong,
		}, x.Window+500*time.Millisecond)
		done <- err
	}()
	time.Sleep(250 * time.Millisecond)
	p, err := gen.Ping(ctx, all[0].NS, netip.AddrPortFrom(all[1].Addr, gen.PingPort), x.Window)
	return p.P99.Seconds(), errors.Join(err, <-done)
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
