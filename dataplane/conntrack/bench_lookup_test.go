package conntrack

import (
	"fmt"
	"math/rand/v2"
	"testing"

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
					r, sh := t.Lookup(&keys[i&(len(keys)-1)])
					if r == 0 {
						b.Fatal("not found")
					}
					sh.RUnlock()
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
