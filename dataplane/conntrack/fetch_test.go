package conntrack

import (
	"sync"
	"testing"

	"github.com/vswitch/vswitch/dataplane/frame"
	"github.com/vswitch/vswitch/dataplane/header"
)

// While other workers open and end flows, so that indexes grow and conns are reused, a
// batch finds those that were there all the time. The race detector looks on.
func TestConntrackFetchesBesideWriters(t *testing.T) {
	const kept, more = 2 * FetchFrom, 20_000
	ct := fillOf(t, 4*FetchFrom, 4*FetchFrom+more)
	always := func(*Conn) bool { return true }
	var writers sync.WaitGroup
	writers.Go(func() {
		for i := range Ref(2 * FetchFrom) {
			ct.Remove((kept+1+i)<<1, always)
		}
		for i := range more {
			r := ct.Alloc(Nobody)
			c := ct.At(r)
			c.Orig, c.Reply = flow(4*FetchFrom + i)
			c.Tenant, c.nat = Nobody, natNone
			if r == 0 || ct.Insert(r) != Inserted {
				t.Errorf("flow %d: not inserted", i)
				return
			}
		}
	})
	var tuples [frame.BatchSize]header.Tuple
	var hashes [frame.BatchSize]uint32
	var protos [frame.BatchSize]uint8
	for at := 0; at < 20*kept; {
		for i := range tuples {
			tuples[i], _ = flow(at % (4 * FetchFrom)) // half of them end meanwhile
			hashes[i] = ct.Hash(&tuples[i])
			protos[i] = header.ProtoTCP
			at++
		}
		ct.Fetch(hashes[:], protos[:])
		for i := range tuples {
			r, sh := ct.LookupHashed(hashes[i], &tuples[i])
			if sh != nil {
				sh.RUnlock()
			}
			if n := (at - len(tuples) + i) % (4 * FetchFrom); r == 0 && n < kept {
				t.Fatalf("flow %d is not found", n)
			}
		}
	}
	writers.Wait()
}
