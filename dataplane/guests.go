package dataplane

import (
	"hash/maphash"
	"sync/atomic"

	"github.com/vswitch/vswitch/dataplane/header"
)

const (
	guestSets = 1024 // a power of two
	guestWays = 4
)

// guests are the addresses whose TCP connections to published ports were shown to be wanted by both
// sides: who forges addresses has to guess one (Peng, Leckie and Ramamohanarao 2003). Of IPv6 the /64
// is one guest. The latest of a set come first, and the last gives way. Workers and the sweep of
// the flow table write it: of two who write one set at once a guest may be lost.
type guests [guestSets][guestWays]atomic.Uint32 // upper half of the hash

func (g *guests) set(a *header.Addr) (set *[guestWays]atomic.Uint32, mark uint32) {
	b := a[:]
	if !a.Is4() {
		b = a[:8]
	}
	h := maphash.Bytes(floodedSeed, b)
	return &g[h%guestSets], uint32(h>>32) | 1
}

func (g *guests) note(a *header.Addr) {
	set, mark := g.set(a)
	for next, i := mark, 0; i < guestWays; i++ {
		if next = set[i].Swap(next); next == mark {
			return
		}
	}
}

func (g *guests) has(a *header.Addr) bool {
	set, mark := g.set(a)
	for i := range set {
		if set[i].Load() == mark {
			return true
		}
	}
	return false
}
