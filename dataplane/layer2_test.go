package dataplane_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/vswitch/vswitch/dataplane"
	"github.com/vswitch/vswitch/dataplane/frame"
	"github.com/vswitch/vswitch/dataplane/header"
	. "github.com/vswitch/vswitch/dataplane/switchtest"
)

// layer2Corpus is a frame of each kind that the layer 2 stages tell apart, from
// c2.
func layer2Corpus() [][]byte {
	c2, ll := MAC("c2"), LinkLocal(MAC("c2"))
	return [][]byte{
		WhoHas("c2", "10.1.0.11"),
		ARP(header.Broadcast, c2, 1, c2, "0.0.0.0", header.MAC{}, "10.1.0.99"),
		Solicit("c2", IPv6("c1")),
		ND(GroupMAC("ff02::1"), c2, ll, "ff02::1", header.ICMP6NeighborAdvert, IPv6("c2"), 2, c2),
		ND(GroupMAC("ff02::1"), c2, ll, "ff02::1", header.ICMP6RouterAdvert, "", 1, c2),
		v3("c2", "239.1.2.3", 4),
		mldv2("c2", "ff0e::1", 4),
		igmp("c2", "224.0.0.1", 0x11, make([]byte, 8)),
		stream("c2", "239.1.2.3"),
		Tag(l2(header.Broadcast, c2, "tagged"), header.TypeVLAN, 10),
		Tag(WhoHas("c2", "10.1.0.11"), header.TypeVLAN, 10),
		Tag(Tag(l2(header.Broadcast, c2, "twice"), header.TypeVLAN, 10), header.TypeQinQ, 10),
		Tag(UDP("c2", 5000, web, "x"), header.TypeVLAN, 0),
		Bytes(Packet{EthSrc: c2, EthDst: header.Broadcast, Src: "0.0.0.0:68", Dst: "255.255.255.255:67", Proto: header.ProtoUDP, Payload: make([]byte, 240)}),
	}
}

// With guards, VLANs, answers and snooping a turn allocates nothing either.
func TestTurnNoAllocsAtLayer2(t *testing.T) {
	for i, f := range layer2Corpus() {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			l := guarded(t)
			l.Configure("c3", func(p *dataplane.PortConfig) {
				p.Guarded, p.Trunk, p.VLAN = false, []dataplane.VLANRange{{First: 10, Last: 10}}, 5
			})
			for name := range Stations {
				l.Memory(name).SetSink(func([]byte, frame.Offload) {})
			}
			l.Send("host1", query())
			for _, from := range []string{"c2", "c3"} {
				const turns = 20
				for range (turns + 5) * 8 {
					l.Memory(from).Inject(f, frame.Offload{})
				}
				for l.Memory(from).Waiting() > 0 {
					l.Switch.Step()
				}
				for range (turns + 1) * 8 {
					l.Memory(from).Inject(f, frame.Offload{})
				}
				if allocs := testing.AllocsPerRun(turns, func() { l.Switch.Step() }); allocs != 0 {
					t.Errorf("%v allocations in a turn of %s, want none", allocs, from)
				}
			}
		})
	}
}

// BenchmarkGuards is the turn of a batch with guards on and off: what a container
// sends to its neighbour, to the gateway, and what goes to a trunk.
func BenchmarkGuards(b *testing.B) {
	neighbour := func(dst string) []byte {
		return Bytes(Packet{EthSrc: MAC("c1"), EthDst: MAC(dst), Src: "10.1.0.11:5000", Dst: "10.1.0.12:80", Proto: header.ProtoTCP, Flags: ACK})
	}
	udp6 := V6(MAC("c2"), MAC("c1"), IPv6("c1"), IPv6("c2"), header.ProtoUDP, 64, append([]byte{1, 1, 1, 2, 0, 26, 0, 0}, make([]byte, 18)...))
	for _, tc := range []struct {
		name string
		f    []byte
	}{
		{"bridged-ipv4", neighbour("c2")}, {"bridged-ipv6", udp6}, {"masquerade", UDP("c1", 5000, web, "x")},
	} {
		for _, guard := range []string{"off", "on"} {
			b.Run(tc.name+"/guard="+guard, func(b *testing.B) {
				l := guarded(b)
				l.Configure("c1", func(p *dataplane.PortConfig) { p.Guarded = guard == "on" })
				turnBench(b, l, tc.f)
			})
		}
	}
	b.Run("to a trunk", func(b *testing.B) {
		l := guarded(b)
		l.Configure("c1", func(p *dataplane.PortConfig) { p.VLAN = 10 })
		l.Configure("c3", func(p *dataplane.PortConfig) {
			p.Guarded, p.Trunk = false, []dataplane.VLANRange{{First: 10, Last: 10}}
		})
		l.Send("c3", Tag(l2(MAC("c1"), stranger, "here"), header.TypeVLAN, 10))
		f := neighbour("c2")
		copy(f, stranger[:])
		turnBench(b, l, f)
	})
}

// turnBench measures the turns alone, without the filling of the port.
func turnBench(b *testing.B, l *Lab, f []byte) {
	for name := range Stations {
		l.Memory(name).SetSink(func([]byte, frame.Offload) {})
	}
	in, spent := l.Memory("c1"), time.Duration(0)
	b.ReportAllocs()
	for b.Loop() {
		for range frame.BatchSize {
			in.Inject(f, frame.Offload{})
		}
		start := time.Now()
		l.Switch.Step()
		spent += time.Since(start)
	}
	b.ReportMetric(float64(spent.Nanoseconds())/float64(b.N)/frame.BatchSize, "turn-ns/frame")
	if d := l.Drops(); d != "[]" {
		b.Fatal(d)
	}
}
