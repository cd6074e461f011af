package dataplane_test

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/vswitch/vswitch/dataplane/flowmap"
	"github.com/vswitch/vswitch/dataplane/header"
	. "github.com/vswitch/vswitch/dataplane/switchtest"
)

// TestPairsGoRound: directions of more flows than there is room for begin and end in any
// order. No pair of entries is lost or given out twice, and a key leads to its own entry.
func TestPairsGoRound(t *testing.T) {
	const pairs, flows, steps = 6, 10, 3000
	rng := rand.New(rand.NewPCG(3, 4))
	l, maps := NewWithKernel(t, 4096, 2*pairs)
	direction := func(n int) (string, []byte) {
		from, to := "c1", "c2"
		fromPort, toPort := 1000+n/2, 7
		if n%2 == 1 {
			from, to, fromPort, toPort = to, from, toPort, fromPort
		}
		return from, Bytes(Packet{
			EthSrc: MAC(from), EthDst: MAC(to), Proto: header.ProtoUDP, Payload: []byte("x"),
			Src: fmt.Sprintf("%s:%d", Stations[from], fromPort), Dst: fmt.Sprintf("%s:%d", Stations[to], toPort),
		})
	}
	most := 0
	for step := range steps {
		what := ""
		switch n := rng.IntN(20); {
		case n < 12:
			from, b := direction(rng.IntN(2 * flows))
			l.Switch.OfferFrame(l.Port(from), b)
			l.Switch.EnterOffers()
			what = "an offer"
		case n < 16:
			r := &maps.Rows[rng.IntN(len(maps.Rows))]
			r.State = flowmap.Off
			what = "a row turned off"
		case n < 19:
			l.Advance(time.Duration(rng.IntN(700)) * time.Millisecond)
			what = "time"
		default:
			l.Config.Networks[0].MTU ^= 1
			l.Install()
			what = "a change"
		}
		if err := l.Switch.CheckEntries(); err != nil {
			t.Fatalf("after step %d, %s: %v", step, what, err)
		}
		for k, n := range maps.Keys {
			if maps.Rows[n].Key != k {
				t.Fatalf("after step %d, %s: key %+v leads to the entry of %+v", step, what, k, maps.Rows[n].Key)
			}
		}
		most = max(most, len(maps.Keys))
	}
	if most <= pairs {
		t.Errorf("%d rows at most: no pair was ever whole", most)
	}
	// All of it can be had again.
	l.Policy[0].Isolated = true
	l.Install()
	l.Advance(time.Second)
	l.Policy[0].Isolated = false
	l.Install()
	for n := range 2 * pairs {
		from, b := direction(n)
		l.Switch.OfferFrame(l.Port(from), b)
	}
	if rows := l.Switch.EnterOffers(); len(rows) != 2*pairs {
		t.Errorf("%d rows in an empty table with room for %d", len(rows), 2*pairs)
	}
}
