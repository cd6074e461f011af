package dataplane

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/vswitch/vswitch/dataplane/conntrack"
	"github.com/vswitch/vswitch/dataplane/flowmap"
	"github.com/vswitch/vswitch/dataplane/frame"
	"github.com/vswitch/vswitch/dataplane/header"
)

// lookupSizes are the tables that lookups are measured in.
var lookupSizes = []int{1000, 10_000, 100_000, 1_000_000}

// trackedFlow is the i-th of many: containers of a network that talk to the world.
func trackedFlow(i int) header.Tuple {
	return header.Tuple{
		Src: header.AddrFrom4([4]byte{10, 1, byte(i >> 22), byte(i >> 16)}), SrcPort: uint16(i),
		Dst: header.AddrFrom4([4]byte{203, 0, 113, byte(i >> 12)}), DstPort: 443, Proto: header.ProtoUDP,
	}
}

// fill makes a table of n routed flows that were answered, allowed by a snapshot.
func fill(tb testing.TB, n int, s *Snapshot) *conntrack.Table {
	tb.Helper()
	t := conntrack.New(func() int64 { return 0 }, conntrack.Config{Max: n, Ports: make(flowmap.ClaimPlane, flowmap.ClaimWords)})
	var l header.Layers
	for i := range n {
		r := t.Alloc(conntrack.Nobody)
		c := t.At(r)
		c.Init(trackedFlow(i), conntrack.KindRouted, frame.NoPort, conntrack.Nobody)
		c.Reply = header.Tuple{
			Src: c.Orig.Dst, Dst: header.AddrFrom4([4]byte{198, 51, 100, 1}), SrcPort: 443 + uint16(i>>16), DstPort: uint16(i), Proto: header.ProtoUDP,
		}
		c.Revision.Store(uint32(s.revision))
		c.Begin(&l, nil, 1)
		if r == 0 || t.Insert(r) != conntrack.Inserted || !c.Track(t, r|1, &l, nil, 1) {
			tb.Fatalf("flow %d of %d: ref %d", i, n, r)
		}
	}
	return t
}

func randomTuples(flows int, hot bool) []header.Tuple {
	rng := rand.New(rand.NewPCG(1, 2))
	keys := make([]header.Tuple, 1<<16)
	if hot {
		keys = keys[:1024]
	}
	for i := range keys {
		keys[i] = trackedFlow(rng.IntN(flows))
	}
	return keys
}

// BenchmarkConntrackBatch is what a batch of frames pays for its lookups, each of
// another flow at random: the lookups alone, and the whole prerouting stage, which
// also writes to the flows.
func BenchmarkConntrackBatch(b *testing.B) {
	for _, n := range lookupSizes {
		keys := randomTuples(n, false)
		var frames [frame.BatchSize]frame.Frame
		var room [frame.Headroom]byte
		routes := make([]routed, len(frames))
		at := 0
		next := func(to *header.Tuple) {
			*to = keys[at&(len(keys)-1)]
			at++
		}
		b.Run(fmt.Sprintf("lookup/flows=%d", n), func(b *testing.B) {
			t := fill(b, n, new(Snapshot))
			b.ReportAllocs()
			for b.Loop() {
				for i := range routes {
					routes[i].f = &frames[i]
					next(&frames[i].Layers.Tuple)
				}
				fetch(t, routes)
				for i := range routes {
					r, sh := t.LookupHashed(routes[i].hash, &frames[i].Layers.Tuple)
					if r == 0 {
						b.Fatal("not found")
					}
					sh.RUnlock()
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/frame.BatchSize, "ns/frame")
		})
		b.Run(fmt.Sprintf("prerouting/flows=%d", n), func(b *testing.B) {
			w := newStageLab(b).w
			s := w.sw.snapshot.Load()
			w.sw.conntrack = fill(b, n, s)
			b.ReportAllocs()
			for b.Loop() {
				w.now++
				w.routes = w.routes[:len(frames)]
				for i := range w.routes {
					f := &frames[i]
					f.Buf, f.Layers.Kind = room[:], header.KindL4
					w.routes[i] = routed{f: f, in: s.ports[stageUp]}
					next(&f.Layers.Tuple)
				}
				w.prerouting(s)
				if len(w.routes) != len(frames) {
					b.Fatal("not found")
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/frame.BatchSize, "ns/frame")
		})
	}
}
