package conntrack

import (
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"runtime/debug"
	"testing"
	"time"
	"unsafe"

	"github.com/vswitch/vswitch/dataplane/flowmap"
	"github.com/vswitch/vswitch/dataplane/header"
	"github.com/vswitch/vswitch/internal/netlab/labtest"
)

// flow is the i-th of many: containers of a network that talk to the world.
func flow(i int) (orig, reply header.Tuple) {
	orig = header.Tuple{
		Src: header.AddrFrom4([4]byte{10, 1, byte(i >> 22), byte(i >> 16)}), SrcPort: uint16(i),
		Dst: header.AddrFrom4([4]byte{203, 0, 113, byte(i >> 12)}), DstPort: 443, Proto: header.ProtoUDP,
	}
	reply = orig.Reverse()
	reply.Dst = header.AddrFrom4([4]byte{198, 51, 100, 1})
	reply.DstPort, reply.SrcPort = uint16(i), 443+uint16(i>>16)
	return orig, reply
}

// newTable makes a table without mappings.
func newTable(max int) *Table {
	return New(func() int64 { return 0 }, Config{Max: max, Ports: make(flowmap.ClaimPlane, flowmap.ClaimWords)})
}

// fill makes a table of n flows that were answered.
func fill(tb testing.TB, n int) *Table {
	tb.Helper()
	return fillOf(tb, n, n)
}

// fillOf is fill with room for more.
func fillOf(tb testing.TB, n, room int) *Table {
	tb.Helper()
	t := newTable(max(room, 1))
	for i := range n {
		r := t.Alloc(Nobody)
		c := t.At(r)
		c.Orig, c.Reply = flow(i)
		c.Tenant, c.nat = Nobody, natNone
		if r == 0 || t.Insert(r) != Inserted {
			tb.Fatalf("flow %d of %d: ref %d", i, n, r)
		}
		c.become(t, r, stateUDP)
	}
	if t.Len() != n {
		tb.Fatalf("%d flows, want %d", t.Len(), n)
	}
	return t
}

// A random sequence of insertions and removals against a map: every flow is found
// by both tuples, and no other.
func TestConntrackIndexAgainstMap(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	ct := newTable(5000)
	have := map[int]Ref{}
	always := func(*Conn) bool { return true }
	steps := 200_000
	if labtest.UnderRace {
		steps /= 20
	}
	for step := range steps {
		i := rng.IntN(4000)
		if r, ok := have[i]; ok {
			if rng.IntN(2) == 0 {
				if !ct.Remove(r, always) || ct.Remove(r, always) {
					t.Fatalf("step %d: flow %d is not removed once", step, i)
				}
				delete(have, i)
			}
		} else if len(have) < 2000 {
			r := ct.Alloc(Nobody)
			c := ct.At(r)
			c.Orig, c.Reply = flow(i)
			c.Tenant, c.nat = Nobody, natNone
			if ct.Insert(r) != Inserted || ct.Insert(r) != TupleTaken {
				t.Fatalf("step %d: flow %d is not inserted once", step, i)
			}
			have[i] = r
		}
		j := rng.IntN(4000)
		orig, reply := flow(j)
		for dir, k := range []header.Tuple{orig, reply} {
			r, sh := ct.Lookup(&k)
			if sh != nil {
				sh.mu.RUnlock()
			}
			want := have[j]
			if want != 0 {
				want |= Ref(dir)
			}
			if r != want {
				t.Fatalf("step %d: flow %d found as %d, want %d", step, j, r, want)
			}
		}
	}
	if ct.Len() != len(have) || ct.HalfOpen() != len(have) {
		t.Errorf("%d flows, %d half open, want %d", ct.Len(), ct.HalfOpen(), len(have))
	}
}

// Tuples that are alike in all but little spread over shards and cells: no chain
// is long, whatever an attacker knows of the hash but its keys.
func TestConntrackHashSpreads(t *testing.T) {
	ct := fill(t, 100_000)
	longest, sum, n := 0, 0, 0
	for i := range ct.shards {
		ix := &ct.shards[i].index
		if ix.used < 2500 || ix.used > 3750 {
			t.Errorf("shard %d holds %d of 200000 tuples", i, ix.used)
		}
		cells := ix.table.Load().of
		mask := len(cells) - 1
		for at, v := range cells {
			if v != 0 {
				d := (at - int(v>>32)) & mask
				longest, sum, n = max(longest, d), sum+d, n+1
			}
		}
	}
	if mean := float64(sum) / float64(n); mean > 3 || longest > 300 {
		t.Errorf("searches take %.1f steps on average, %d at most", mean, longest)
	}
}

// Sizes that docs/operations.md and ADR 3 and 4 name.
func TestDocumentedSizes(t *testing.T) {
	if got := unsafe.Sizeof(Conn{}); got != 256 {
		t.Errorf("a flow takes %d bytes, documented are 256", got)
	}
	// fetchConn asks for three lines of it, fetchWindow for the last.
	var c Conn
	if at := unsafe.Offsetof(c.bytes) + unsafe.Sizeof(c.bytes); at > 192 {
		t.Errorf("what every frame of a flow needs ends at %d, want 192 at most", at)
	}
	if at := unsafe.Offsetof(c.rows); at < 192 {
		t.Errorf("what TCP needs beside begins at %d, want 192 at least", at)
	}
}

// A million flows take less than 400 MB, as the kernel counts them.
func TestConntrackMemoryOfAMillionFlows(t *testing.T) {
	switch why := "takes a quarter of a gigabyte"; {
	case testing.Short():
		labtest.Short.Skip(t, why)
	case labtest.UnderRace:
		labtest.Racing.Skip(t, why)
	}
	resident := func() int64 {
		debug.FreeOSMemory()
		return residentSet(t)
	}
	before := resident()
	ct := fill(t, 1_000_000)
	grown := resident() - before
	t.Logf("%d MB resident for a million flows", grown>>20)
	if grown > 400_000_000 {
		t.Errorf("a million flows take %d bytes, want 400 MB at most", grown)
	}
	runtime.KeepAlive(ct)
}

// BenchmarkConntrackInsert opens a million flows; the longest of them pays for
// the growth of its shard.
func BenchmarkConntrackInsert(b *testing.B) {
	var worst time.Duration
	for b.Loop() {
		t := newTable(1_000_000)
		for i := range 1_000_000 {
			begun := time.Now()
			r := t.Alloc(Nobody)
			c := t.At(r)
			c.Orig, c.Reply = flow(i)
			c.Tenant = Nobody
			t.Insert(r)
			c.become(t, r, stateUDP)
			worst = max(worst, time.Since(begun))
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/1e6, "ns/flow")
	b.ReportMetric(float64(worst.Microseconds()), "us-longest")
}

// BenchmarkConntrackSweep looks at a million flows, an eighth at a time.
func BenchmarkConntrackSweep(b *testing.B) {
	t := fill(b, 1_000_000)
	var none Timeouts
	limits, err := none.Compile()
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		t.Sweep(0, &limits)
	}
}

// residentSet is the memory of the process that is in RAM, in bytes.
func residentSet(t *testing.T) int64 {
	t.Helper()
	b, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		t.Fatal(err)
	}
	var size, resident int64
	if _, err := fmt.Sscan(string(b), &size, &resident); err != nil {
		t.Fatal(err)
	}
	return resident * int64(os.Getpagesize())
}
