package dataplane_test

import (
	"testing"

	"github.com/vswitch/vswitch/dataplane"
	"github.com/vswitch/vswitch/dataplane/flowmap"
	"github.com/vswitch/vswitch/dataplane/header"
	. "github.com/vswitch/vswitch/dataplane/switchtest"
)

// BenchmarkRevalidate asks a full flow table again, after a change that concerns none
// of its rows: bridged ones, and routed ones of as many connections.
func BenchmarkRevalidate(b *testing.B) {
	for _, kind := range []string{"bridged", "routed"} {
		b.Run(kind, func(b *testing.B) {
			l := fullTable(b, kind)
			other := header.ProtoTCP
			for b.Loop() {
				other ^= header.ProtoTCP ^ header.ProtoUDP
				l.Config.Publish = []dataplane.PublishConfig{{Proto: other, HostFirst: 9000, HostLast: 9000, ContainerAddr: header.AddrFrom(l.Config.Stations[2].Addr), ContainerFirst: 1}}
				l.Install()
			}
			if rows := l.Switch.Stats().Flows.Rows; rows < flowmap.MaxEntries*9/10 {
				b.Fatalf("%d rows are left", rows)
			}
		})
	}
}

// BenchmarkSweep looks at a full flow table whose rows are all idle.
func BenchmarkSweep(b *testing.B) {
	for _, kind := range []string{"bridged", "routed"} {
		b.Run(kind, func(b *testing.B) {
			l := fullTable(b, kind)
			for b.Loop() {
				l.Switch.Sweep()
			}
			if rows := l.Switch.Stats().Flows.Rows; rows < flowmap.MaxEntries*9/10 {
				b.Fatalf("%d rows are left", rows)
			}
		})
	}
}

// fullTable is a switch whose flow table has two rows of each flow.
func fullTable(b *testing.B, kind string) *Lab {
	l, _ := NewWithKernel(b, flowmap.MaxEntries, flowmap.MaxEntries)
	for n := range flowmap.MaxEntries / 2 {
		from := []string{"c1", "c3"}[n%2] // each begins as many flows as it may
		p := Packet{Dst: "10.1.0.12:7", Proto: header.ProtoUDP, Payload: []byte("x"), EthDst: MAC("c2"), DF: true}
		p.EthSrc, p.Src = MAC(from), Stations[from]+":"+itoa(1024+n)
		if kind == "routed" {
			p.Src = Stations[from] + ":" + itoa(1024+n/16)
			p.Dst, p.EthDst = World+":"+itoa(7+n%16), MAC("host1")
		}
		f := Bytes(p)
		l.Send(from, f)
		l.Switch.OfferFrame(l.Port(from), f)
		at, there := "c2", append(l.Got("c2"), l.Got("up")...)[0]
		if kind == "routed" {
			at = "up"
		}
		l.Switch.OfferFrame(l.Port(at), answer(there))
		if n%100 == 99 {
			l.Switch.EnterOffers()
		}
	}
	if rows := l.Switch.Stats().Flows.Rows; rows < flowmap.MaxEntries*9/10 {
		b.Fatalf("%d rows", rows)
	}
	return l
}

// answer is a datagram that goes back.
func answer(f []byte) []byte {
	var l header.Layers
	header.Parse(f, &l)
	return Bytes(Packet{
		EthSrc: l.Dst, EthDst: l.Src, Src: endOf(l.Tuple.Dst, l.Tuple.DstPort), Dst: endOf(l.Tuple.Src, l.Tuple.SrcPort),
		Proto: header.ProtoUDP, DF: true, Payload: []byte("y"),
	})
}

func itoa(n int) string {
	return string([]byte{byte('0' + n/10000), byte('0' + n/1000%10), byte('0' + n/100%10), byte('0' + n/10%10), byte('0' + n%10)})
}
