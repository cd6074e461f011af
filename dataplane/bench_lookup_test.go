package dataplane

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/vswitch/vswitch/dataplane/frame"
	"github.com/vswitch/vswitch/dataplane/header"
)

// lookupSizes are the tables that lookups are measured in.
var lookupSizes = []int{1000, 10_000, 100_000, 1_000_000}

// BenchmarkConntrackLookup finds flows one at a time: the same thousand again and
// again, which shows the table's own cost, and at random, where each lookup waits
// for memory once the table is larger than the caches.
func BenchmarkConntrackLookup(b *testing.B) {
	for _, hot := range []bool{true, false} {
		for _, n := range lookupSizes {
			b.Run(fmt.Sprintf("flows=%d/hot=%v", n, hot), func(b *testing.B) {
				t := fill(b, n)
				keys := randomTuples(n, hot)
				i := 0
				b.ReportAllocs()
				for b.Loop() {
					r, sh := t.lookup(&keys[i&(len(keys)-1)])
					if r == 0 {
						b.Fatal("not found")
					}
					sh.mu.RUnlock()
					i++
				}
			})
		}
	}
}

func randomTuples(flows int, hot bool) []header.Tuple {
	rng := rand.New(rand.NewPCG(1, 2))
	keys := make([]header.Tuple, 1<<16)
	if hot {
		keys = keys[:1024]
	}
	for i := range keys {
		keys[i], _ = flow(rng.IntN(flows))
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
			t := fill(b, n)
			b.ReportAllocs()
			for b.Loop() {
				for i := range routes {
					routes[i].f = &frames[i]
					next(&frames[i].Layers.Tuple)
				}
				t.fetch(routes)
				for i := range routes {
					r, sh := t.lookupHashed(routes[i].hash, &frames[i].Layers.Tuple)
					if r == 0 {
						b.Fatal("not found")
					}
					sh.mu.RUnlock()
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/frame.BatchSize, "ns/frame")
		})
		b.Run(fmt.Sprintf("prerouting/flows=%d", n), func(b *testing.B) {
			w := newStageLab(b).w
			w.sw.conntrack = fill(b, n)
			s := w.sw.snapshot.Load()
			for r := connRef(2); r <= connRef(n)<<1; r += 2 {
				c := w.sw.conntrack.at(r)
				c.kind = ConnRouted
				c.revision.Store(uint32(s.revision))
			}
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
