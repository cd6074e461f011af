package dataplane_test

import (
	"testing"
	"time"

	"github.com/vswitch/vswitch/dataplane"
	"github.com/vswitch/vswitch/dataplane/frame"
	"github.com/vswitch/vswitch/dataplane/header"
	. "github.com/vswitch/vswitch/dataplane/switchtest"
)

func TestLastDropsNameTheFrame(t *testing.T) {
	l := guarded(t)
	l.Send("c1", Bytes(From("c1", web, Packet{Src: "10.1.0.99:5000", Proto: header.ProtoUDP})))
	l.Advance(time.Second)
	for range 3 {
		l.Send("c1", UDP("c1", 5000, "10.2.0.11:53", "x"))
		l.Got("c1") // the ICMP error
	}
	l.Send("c2", l2(header.Broadcast, header.MAC{1, 1, 1, 1, 1, 1}, "x"))
	l.Advance(time.Second)
	list := l.Switch.LastDrops([]frame.PortID{l.Port("c1")})
	if len(list) != 2 {
		t.Fatalf("%d rows, want 2: %+v", len(list), list)
	}
	if d := list[0]; d.Reason != dataplane.DropIsolated || d.Count != 3 || d.Ago != time.Second || d.Tuple.Dst.String() != "10.2.0.11" || d.Tuple.DstPort != 53 || d.Src != MAC("c1") || d.Port != l.Port("c1") {
		t.Errorf("the latest: %+v", d)
	}
	if d := list[1]; d.Reason != dataplane.DropSpoofedIP || d.Count != 1 || d.Ago != 2*time.Second || d.Tuple.Src.String() != "10.1.0.99" {
		t.Errorf("the one before: %+v", d)
	}
	all := l.Switch.LastDrops(nil)
	if len(all) != 3 || all[1].Port != l.Port("c2") {
		t.Errorf("of all ports: %+v", all)
	}
	for _, d := range all {
		if d.Reason == dataplane.DropBadSource && (d.Tuple != header.Tuple{} || d.EtherType != 0x88b5) {
			t.Errorf("not IP: %+v", d)
		}
	}
}

// A flood of different frames is noted a little, and rests; what comes after it is
// seen again.
func TestLastDropsOfAFlood(t *testing.T) {
	l := guarded(t)
	flood := func(n int) {
		for i := range n {
			l.Memory("c1").Inject(Bytes(From("c1", web, Packet{Src: "10.1.0.99:5000", Dst: web, Proto: header.ProtoUDP, ID: uint16(i), Payload: []byte{byte(i)}})), none)
			l.Memory("c1").Inject(Bytes(From("c1", web, Packet{Src: "10.1.0.98:5000", Dst: web, Proto: header.ProtoUDP, ID: uint16(i)})), none)
		}
		for l.Switch.Step() > 0 {
		}
	}
	flood(100)
	var noted uint64
	for _, d := range l.Switch.LastDrops(nil) {
		noted += d.Count
	}
	if noted != 16 {
		t.Errorf("%d of 200 drops at one moment noted, want 16", noted)
	}
	l.Advance(time.Second)
	l.Send("c1", UDP("c1", 5000, "10.2.0.11:53", "x"))
	if list := l.Switch.LastDrops(nil); list[0].Reason != dataplane.DropIsolated || len(list) != 16 {
		t.Errorf("after the flood: %d rows, first %+v", len(list), list[0])
	}
}

// What a drop costs, beside counting it: noted, or like the last one.
func BenchmarkDrops(b *testing.B) {
	for name, frames := range map[string][][]byte{
		"one kind": {Bytes(From("c1", web, Packet{Src: "10.1.0.99:5000", Proto: header.ProtoUDP}))},
		"many":     {Bytes(From("c1", web, Packet{Src: "10.1.0.99:5000", Proto: header.ProtoUDP})), Bytes(From("c1", web, Packet{Src: "10.1.0.98:5000", Proto: header.ProtoUDP}))},
	} {
		b.Run(name, func(b *testing.B) {
			l := guarded(b)
			for b.Loop() {
				for i := range frame.BatchSize {
					l.Memory("c1").Inject(frames[i%len(frames)], none)
				}
				l.Switch.Step()
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/frame.BatchSize, "ns/frame")
		})
	}
}
