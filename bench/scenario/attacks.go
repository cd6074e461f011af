package scenario

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/vswitch/vswitch/bench/gen"
	"github.com/vswitch/vswitch/bench/rig"
	"github.com/vswitch/vswitch/internal/netlab"
)

// Neighbor is somebody who does nothing but connect, while others attack.
type Neighbor struct {
	Name string
	ends func(*rig.Rig) (ends, error)
}

// Neighbors are the containers beside one that attacks, a published port that is attacked, and
// users of the host.
func Neighbors() (list []Neighbor) {
	for _, s := range []Scenario{masquerade(), containers(), published(), localhost()} {
		list = append(list, Neighbor{s.Title, s.ends})
	}
	return list
}

// Keeps connects for window and says how many connections came to be.
func (n Neighbor) Keeps(ctx context.Context, r *rig.Rig, window time.Duration) (gen.Exchanges, error) {
	e, err := n.ends(r)
	if err != nil {
		return gen.Exchanges{}, err
	}
	return gen.Endure(ctx, e.client, e.target(gen.ConnectPort), window)
}

// Attack is what costs others more than its sender.
type Attack struct {
	Name string
	// Alone attacks would take a whole CPU beside others, or hide them.
	Alone bool
	run   func(ctx context.Context, length time.Duration) error
}

// Run attacks for length, or until ctx is done.
func (a Attack) Run(ctx context.Context, length time.Duration) error {
	if err := a.run(ctx, length); err != nil && ctx.Err() == nil {
		return fmt.Errorf("%s: %w", a.Name, err)
	}
	return nil
}

// How many frames a second attackers send. Those that go on together take less than one CPU
// to make.
const (
	floodRate = 3000
	scanRate  = 1000
	loudRate  = 500    // broadcasts
	superRate = 400    // super-frames of 60 KB
	massRate  = 60_000 // small frames, of one attacker by himself
	// again is how many flows floodRate comes back to after two seconds, so that they look
	// like conversations.
	again = 2 * floodRate
	// mostKept is how many connections somebody keeps, nearly his quota.
	mostKept = 16_000
)

// attacker makes streams of frames.
type attacker struct {
	ns       *netlab.NS
	ifname   string
	src, dst net.HardwareAddr
	from, to netip.AddrPort
}

func (a attacker) sends(name string, rate float64, change func(*gen.FrameSpec)) Attack {
	f := gen.FrameSpec{Ifname: a.ifname, Src: a.src, Dst: a.dst, From: a.from, To: a.to, Size: 70, Rate: rate}
	if change != nil {
		change(&f)
	}
	return Attack{Name: name, run: func(ctx context.Context, length time.Duration) error {
		_, err := gen.Frames(ctx, a.ns, f, length)
		return err
	}}
}

// alone is a for itself.
func alone(a Attack) Attack {
	a.Alone = true
	return a
}

// together are attacks of several that begin at once.
func together(name string, all []Attack) Attack {
	return Attack{Name: name, run: func(ctx context.Context, length time.Duration) error {
		var g errgroup.Group
		for _, a := range all {
			g.Go(func() error { return a.Run(ctx, length) })
		}
		return g.Wait()
	}}
}

// inside is an attacker in a container, who sends to the world.
func inside(ctx context.Context, r *rig.Rig, name string) (attacker, error) {
	c, err := r.Further(ctx, name)
	if err != nil {
		return attacker{}, err
	}
	gateway, err := neighbor(c.NS, r.Gateway)
	far := netip.AddrPortFrom(netip.MustParseAddr(netlab.FarAddr), gen.DiscardPort)
	return attacker{c.NS, c.Ifname, c.MAC, gateway, netip.AddrPortFrom(c.Addr, 20000), far}, err
}

// outside is an attacker on the uplink's network, who sends to a published port.
func outside(r *rig.Rig, port uint16) (attacker, error) {
	src, err := r.World.Outside.MAC("eth0")
	if err != nil {
		return attacker{}, err
	}
	dst, err := r.World.Host.MAC("eth0")
	forged, at := netip.MustParseAddrPort("192.0.2.1:20000"), netip.MustParseAddr(netlab.HostAddr)
	return attacker{r.World.Outside, "eth0", src, dst, forged, netip.AddrPortFrom(at, port+rig.PublishOffset)}, err
}

// Attacks are what containers, stations outside and users of the host can do. The uplink
// cuts super-frames by itself, as no device does it for others.
func Attacks(ctx context.Context, r *rig.Rig) ([]Attack, error) {
	loud, err := inside(ctx, r, "loud")
	if err != nil {
		return nil, err
	}
	syns, err := outside(r, gen.BulkPort)
	if err != nil {
		return nil, err
	}
	datagrams, err := outside(r, gen.PingPort)
	if err != nil {
		return nil, err
	}
	if err := r.World.Host.SetOffloads("eth0", false); err != nil {
		return nil, err
	}
	flows := func(n int) func(*gen.FrameSpec) { return func(f *gen.FrameSpec) { f.Flows = n } }
	syn := func(n int, ack bool) func(*gen.FrameSpec) {
		return func(f *gen.FrameSpec) { f.SYN, f.ACK, f.Flows = true, ack, n }
	}
	super := func(size int) func(*gen.FrameSpec) {
		return func(f *gen.FrameSpec) { f.GSO, f.Flows = size, 3 }
	}
	local := loud // within the network
	local.dst, local.to = r.B.MAC, netip.AddrPortFrom(r.B.Addr, gen.DiscardPort)
	scan, all := loud, loud
	scan.to = netip.MustParseAddrPort("198.51.100.20:9")
	all.dst, all.to = net.HardwareAddr{255, 255, 255, 255, 255, 255}, netip.MustParseAddrPort("255.255.255.255:9")
	asks := all
	asks.to = netip.AddrPortFrom(loud.from.Addr(), 0)
	var crowd []Attack
	far := netip.MustParseAddr(netlab.FarAddr)
	strain := func(name string, ns *netlab.NS, s gen.Strain, to netip.AddrPort) Attack {
		return alone(Attack{Name: name, run: func(ctx context.Context, length time.Duration) error {
			return s.Run(ctx, ns, to, length)
		}})
	}
	keeps := func(name string, ns *netlab.NS) Attack {
		return alone(Attack{Name: name, run: func(ctx context.Context, length time.Duration) error {
			sink, err := gen.Sink(ctx, r.World.Outside, far)
			if err != nil {
				return err
			}
			defer sink.Close()
			return gen.Strain{Kind: gen.Keep, Rate: floodRate, Most: mostKept}.Run(ctx, ns, netip.AddrPortFrom(far, gen.SinkPort), length)
		}})
	}
	hostPort := func(port uint16) netip.AddrPort {
		return netip.AddrPortFrom(netip.MustParseAddr(netlab.HostAddr), port+rig.PublishOffset)
	}
	about := datagrams // to the host's address, of flows that nobody has
	about.to = hostPort(gen.PingPort)
	for _, name := range []string{"loud", "louder", "loudest"} {
		one, err := inside(ctx, r, name)
		if err != nil {
			return nil, err
		}
		crowd = append(crowd, one.sends(name, 2*floodRate, flows(40_000)))
	}
	return []Attack{
		syns.sends("SYNs from forged sources", floodRate, syn(4<<20, false)),
		datagrams.sends("datagrams that are answered", floodRate, flows(4<<20)),
		loud.sends("flows out", floodRate, flows(40_000)),
		scan.sends("scan", scanRate, func(f *gen.FrameSpec) { f.Hops = 200 }),
		loud.sends("forged MAC addresses", floodRate, func(f *gen.FrameSpec) { f.MACs = 1000 }),
		loud.sends("super-frames", superRate, super(500)),
		all.sends("broadcasts", loudRate, nil),
		alone(syns.sends("SYN-ACKs", floodRate, syn(4<<20, true))),
		alone(datagrams.sends("datagrams that come again", floodRate, flows(again))),
		alone(loud.sends("SYNs out", floodRate, syn(40_000, false))),
		alone(loud.sends("ICMP queries", floodRate, func(f *gen.FrameSpec) { f.Echo = true })),
		alone(loud.sends("fragments", floodRate, func(f *gen.FrameSpec) { f.Fragment = true })),
		alone(asks.sends("ARP scan of a /16", floodRate, func(f *gen.FrameSpec) { f.ARP, f.Hops = true, 1<<16 })),
		alone(together("three containers' flows out", crowd)),
		alone(loud.sends("super-frames with segments of 8 bytes", superRate, super(8))),
		alone(loud.sends("super-frames with segments of 120 bytes", 10*superRate, super(120))),
		alone(loud.sends("super-frames with segments of 500 bytes", 10*superRate, super(500))),
		alone(loud.sends("super-frames with segments of 1448 bytes", 50*superRate, super(1448))),
		alone(loud.sends("datagrams out in masses", massRate, nil)),
		alone(local.sends("datagrams to a container in masses", massRate, nil)),
		alone(syns.sends("SYNs from forged sources in masses", 10*floodRate, syn(4<<20, false))),
		alone(local.sends("flows to a container in masses", massRate, flows(40_000))),
		alone(loud.sends("fragments in masses", massRate/2, func(f *gen.FrameSpec) { f.Fragment = true })),
		alone(asks.sends("ARP questions in masses", massRate/2, func(f *gen.FrameSpec) { f.ARP, f.Hops = true, 200 })),
		alone(loud.sends("forged MAC addresses in masses", massRate/2, func(f *gen.FrameSpec) { f.MACs = 1 << 16 })),
		alone(loud.sends("ICMP errors out", massRate/2, func(f *gen.FrameSpec) { f.Error, f.Size = true, 78 })),
		alone(about.sends("ICMP errors in", massRate/2, func(f *gen.FrameSpec) { f.Error, f.Size = true, 78 })),
		alone(loud.sends("super-frames of datagrams of 500 bytes", 10*superRate, func(f *gen.FrameSpec) { f.GSO, f.Datagrams, f.Flows = 500, true, 3 })),
		strain("connections out that end", loud.ns, gen.Strain{Kind: gen.Churn, Rate: floodRate}, netip.AddrPortFrom(far, gen.BulkPort)),
		keeps("connections out that stay", loud.ns),
		strain("connections to a container that end", loud.ns, gen.Strain{Kind: gen.Churn, Rate: floodRate}, netip.AddrPortFrom(r.B.Addr, gen.BulkPort)),
		strain("a user's connections that end", r.World.Host, gen.Strain{Kind: gen.Churn, Rate: floodRate}, hostPort(gen.BulkPort)),
		strain("a user's datagrams, each of another socket", r.World.Host, gen.Strain{Kind: gen.Scatter, Rate: 10 * floodRate}, hostPort(gen.PingPort)),
		alone(Attack{Name: "ports that a user of the host holds", run: func(ctx context.Context, length time.Duration) error {
			return gen.Hold(ctx, r.World.Host, length)
		}}),
	}, nil
}
