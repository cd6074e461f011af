package dataplane_test

import (
	"encoding/binary"
	"testing"

	"github.com/vswitch/vswitch/dataplane"
	"github.com/vswitch/vswitch/dataplane/conntrack"
	"github.com/vswitch/vswitch/dataplane/frame"
	"github.com/vswitch/vswitch/dataplane/header"
	. "github.com/vswitch/vswitch/dataplane/switchtest"
)

// BenchmarkBegin is the first packet of a flow, by why it is translated. The table is full
// of flows that were never answered: each takes the place of another.
func BenchmarkBegin(b *testing.B) {
	l := New(b)
	l.Publish(8080, "c1", 80)
	for i := range l.Config.Ports {
		l.Config.Ports[i].Quota = conntrack.Quota{Flows: 1 << 30, TCP: 1 << 30, UDP: 1 << 30, ICMP: 1 << 30, Rate: 1 << 30, Burst: 1 << 30}
	}
	l.Install()
	for name := range Stations {
		l.Memory(name).SetSink(func([]byte, frame.Offload) {})
	}
	for _, path := range []struct {
		name, in string
		f        []byte
	}{
		{"masquerade", "c1", UDP("c1", 5000, web, "x")},
		{"published", "up", Inbound(header.ProtoUDP, World+":4000", HostAddr+":8080", 0, "x")},
		{"routed", "c1", Bytes(Packet{EthSrc: MAC("c1"), EthDst: MAC("host1"), Src: "10.1.0.11:5000", Dst: "10.1.0.12:7", Proto: header.ProtoUDP, Payload: []byte("x")})},
	} {
		b.Run(path.name, func(b *testing.B) {
			port := uint16(0)
			var l4 header.Layers
			header.Parse(path.f, &l4)
			in := l.Memory(path.in)
			b.ReportAllocs()
			before := l.Switch.Stats().Drops
			for b.Loop() {
				for range frame.BatchSize {
					port++
					binary.BigEndian.PutUint16(path.f[l4.L4:], port)
					binary.BigEndian.PutUint16(path.f[l4.L4+6:], 0) // no checksum
					in.Inject(path.f, frame.Offload{})
				}
				l.Switch.Step()
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/frame.BatchSize, "ns/flow")
			for why, n := range l.Switch.Stats().Drops {
				if n != before[why] {
					b.Fatalf("%s: %d", dataplane.DropReason(why), n-before[why])
				}
			}
		})
	}
}
