package dataplane

import (
	"math/rand/v2"
	"net/netip"
	"testing"

	"github.com/gaissmai/bart"

	"github.com/vswitch/vswitch/dataplane/header"
)

// TestAddrSet holds sets of random prefixes, one inside the other, against the table that they
// were made of: at their bounds, beside them and anywhere.
func TestAddrSet(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for round := range 200 {
		s := &Snapshot{fib: new(bart.Table[*route])}
		var cfg SnapshotConfig
		var near []netip.Addr
		for range rng.IntN(12) {
			a := netip.AddrFrom4([4]byte{[]byte{0, 10, 255}[rng.IntN(3)], byte(rng.IntN(2)) * 255, 0, byte(rng.IntN(4))})
			if rng.IntN(2) == 0 {
				a = netip.AddrFrom16([16]byte{0: []byte{0, 0xfd, 0xff}[rng.IntN(3)], 1: byte(rng.IntN(2)) * 255, 14: 1, 15: byte(rng.IntN(4))})
			}
			p := netip.PrefixFrom(a, []int{0, 1, 8, 9, 30, 31, a.BitLen()}[rng.IntN(7)]).Masked()
			r := RouteConfig{Prefix: p, Kind: []RouteKind{RouteLocal, RouteUplink, RouteUnreachable}[rng.IntN(3)]}
			cfg.Routes = append(cfg.Routes, r)
			s.fib.Insert(p, &route{RouteConfig: r})
			near = append(near, p.Addr(), lastOf(p))
		}
		// Of two routes of one prefix the last one counts, for both.
		set := s.oursOf(&cfg)
		for _, a := range near {
			for _, a := range []netip.Addr{a, a.Next(), a.Prev()} {
				if a := header.AddrFrom(a); a != (header.Addr{}) {
					if got, want := set.has(&a), s.lookup(a).ours(); got != want {
						t.Fatalf("round %d: %v is in %v: %v, want %v; routes %v", round, a, set, got, want, cfg.Routes)
					}
				}
			}
		}
		for range 100 {
			a := header.AddrFrom4([4]byte{byte(rng.Uint32()), byte(rng.Uint32()), 0, byte(rng.IntN(4))})
			if rng.IntN(2) == 0 {
				a = header.Addr{0: byte(rng.Uint32()), 15: 1}
			}
			if got, want := set.has(&a), s.lookup(a).ours(); got != want {
				t.Fatalf("round %d: %v is in %v: %v, want %v; routes %v", round, a, set, got, want, cfg.Routes)
			}
		}
	}
}
