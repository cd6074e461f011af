package dataplane

import (
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

	"github.com/vswitch/vswitch/dataplane/conntrack"
	"github.com/vswitch/vswitch/dataplane/frame"
	"github.com/vswitch/vswitch/dataplane/header"
	"github.com/vswitch/vswitch/dataplane/port/porttest"
)

// stages are those of turn, in its order.
var stages = slices.Concat(walk[:], []struct {
	name string
	run  func(*worker, *Snapshot)
}{
	{"flush", func(w *worker, _ *Snapshot) { w.flush() }},
	{"settle", func(w *worker, _ *Snapshot) { w.settle() }},
})

// stageLab is a switch whose turns are taken by hand: two containers, the
// host's device and an uplink.
type stageLab struct {
	w         *worker
	ports     []*porttest.Port
	delivered int
}

const (
	stageA, stageB, stageHost, stageUp = frame.PortID(0), frame.PortID(1), frame.PortID(2), frame.PortID(3)
	stageAddrA, stageAddrB             = "10.1.0.11", "10.1.0.12"
	stageGateway, stageUplink          = "10.1.0.1", "198.51.100.1"
	stageNextHop, stageWorld           = "198.51.100.9", "203.0.113.9"
)

func stageMAC(id frame.PortID) header.MAC { return header.MAC{2, 0, 0, 0, 0, byte(id)} }

func newStageLab(b *testing.B) *stageLab {
	b.Helper()
	sw, err := New(Config{Workers: 1})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { sw.Close() })
	l := &stageLab{w: sw.workers[0]}
	for i, name := range []string{"a", "b", "host", "up"} {
		p := porttest.New(name)
		if err := sw.AddPort(frame.PortID(i), porttest.Describe(p)); err != nil {
			b.Fatal(err)
		}
		p.SetSink(func([]byte, frame.Offload) { l.delivered++ })
		l.ports = append(l.ports, p)
	}
	addr := netip.MustParseAddr
	err = sw.Install(SnapshotConfig{
		Networks: []NetworkConfig{{
			ID: 1, HostPort: stageHost, GatewayMAC: stageMAC(stageHost), MTU: 1500,
			Gateways: []netip.Addr{addr(stageGateway)}, Subnets: []netip.Prefix{netip.MustParsePrefix("10.1.0.0/24")},
		}},
		Ports: []PortConfig{
			{ID: stageA, Network: 1, MAC: stageMAC(stageA)}, {ID: stageB, Network: 1, MAC: stageMAC(stageB)},
			{ID: stageHost, Kind: PortHost, Network: 1, MAC: stageMAC(stageHost)}, {ID: stageUp, Kind: PortUplink},
		},
		Stations: []StationConfig{
			{Addr: addr(stageAddrA), Network: 1, MAC: stageMAC(stageA), Port: stageA},
			{Addr: addr(stageAddrB), Network: 1, MAC: stageMAC(stageB), Port: stageB},
		},
		Uplinks: []UplinkConfig{{Port: stageUp, MAC: stageMAC(stageUp), MTU: 1500, Slots: map[netip.Addr]int{addr(stageUplink): 1}}},
		Routes: []RouteConfig{
			{Prefix: netip.MustParsePrefix(stageUplink + "/32"), Kind: RouteLocal},
			{Prefix: netip.MustParsePrefix("0.0.0.0/0"), Kind: RouteUplink, Uplink: stageUp, Via: addr(stageNextHop), Source: addr(stageUplink)},
		},
		Publish:         []PublishConfig{{Proto: header.ProtoUDP, HostFirst: 8080, HostLast: 8080, ContainerAddr: header.AddrFrom(addr(stageAddrB)), ContainerFirst: 80}},
		MasqueradePorts: []conntrack.PortRange{{First: 61000, Last: 65535}},
		Rules: []Rule{
			{ID: 1, Direction: Out, From: Selector{Sides: SideContainer}, To: Selector{Sides: SideOutside}},
			{ID: 2, Direction: In, To: Selector{Sides: SideContainer}, Via: ViaPublished | ViaPublishedInside},
		},
	})
	if err != nil {
		b.Fatal(err)
	}
	sw.SetNeighbors(map[NeighborKey]header.MAC{
		{Uplink: stageUp, Addr: header.AddrFrom(addr(stageNextHop))}: {2, 0, 0, 0, 9, 9},
	})
	return l
}

// turn carries a full batch of f, which came in at id, through the stages and
// returns what the timed one took.
func (l *stageLab) turn(id frame.PortID, f []byte, timed int) time.Duration {
	w, p := l.w, l.ports[id]
	for range frame.BatchSize {
		p.Inject(f, frame.Offload{})
	}
	w.arena.Reset()
	w.batch.Begin(frame.Unlimited)
	_ = p.Receive(&w.batch, w.arena) // it has frames
	w.now = w.sw.now()
	w.received(id, w.sw.ports[id].Load(), 0)
	s := w.sw.snapshot.Load()
	w.tags.reset()
	w.spare.reset()
	var took time.Duration
	for i, stage := range stages {
		if i != timed {
			stage.run(w, s)
			continue
		}
		start := time.Now()
		stage.run(w, s)
		took = time.Since(start)
	}
	p.Release()
	return took
}

func stageFrame(b *testing.B, dst, src header.MAC, from, to string, sport, dport uint16) []byte {
	b.Helper()
	eth := &layers.Ethernet{SrcMAC: src[:], DstMAC: dst[:], EthernetType: layers.EthernetTypeIPv4}
	ip := &layers.IPv4{Version: 4, TTL: 64, Protocol: layers.IPProtocolUDP, SrcIP: net.ParseIP(from), DstIP: net.ParseIP(to)}
	udp := &layers.UDP{SrcPort: layers.UDPPort(sport), DstPort: layers.UDPPort(dport)}
	if err := udp.SetNetworkLayerForChecksum(ip); err != nil {
		b.Fatal(err)
	}
	buf := gopacket.NewSerializeBuffer()
	opt := gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}
	if err := gopacket.SerializeLayers(buf, opt, eth, ip, udp, gopacket.Payload("eighteen bytes of it")); err != nil {
		b.Fatal(err)
	}
	return buf.Bytes()
}

// What each stage costs of a frame's way, over full batches of one established
// flow. A batch takes two looks at the clock, about a nanosecond a frame.
func BenchmarkStage(b *testing.B) {
	a, bb, host, up := stageMAC(stageA), stageMAC(stageB), stageMAC(stageHost), stageMAC(stageUp)
	for _, path := range []struct {
		name string
		in   frame.PortID
		f    []byte
	}{
		{"bridged", stageA, stageFrame(b, bb, a, stageAddrA, stageAddrB, 5000, 9)},
		{"masquerade", stageA, stageFrame(b, host, a, stageAddrA, stageWorld, 5000, 9)},
		{"published", stageUp, stageFrame(b, up, header.MAC{2, 0, 0, 0, 9, 9}, stageWorld, stageUplink, 5000, 8080)},
	} {
		for i, stage := range stages {
			b.Run(path.name+"/"+stage.name, func(b *testing.B) {
				l := newStageLab(b)
				l.turn(path.in, path.f, -1) // opens the flow
				b.ReportAllocs()
				l.delivered = 0
				var took time.Duration
				for b.Loop() {
					took += l.turn(path.in, path.f, i)
				}
				if want := b.N * frame.BatchSize; l.delivered != want {
					b.Fatalf("%d frames were delivered, want %d: the stages are not those of turn any more", l.delivered, want)
				}
				b.ReportMetric(float64(took.Nanoseconds())/float64(b.N), "ns/op")
				b.ReportMetric(float64(took.Nanoseconds())/float64(b.N)/frame.BatchSize, "ns/frame")
			})
		}
	}
}
