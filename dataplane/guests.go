package dataplane

import (
	"hash/maphash"
	"slices"

	"github.com/vswitch/vswitch/dataplane/header"
)

const (
	guestSets = 1024 // a power of two
	guestWays = 4
)

// guests are the addresses whose flows to published ports were shown to be wanted by both sides:
// who forges addresses has to guess one (Peng, Leckie and Ramamohanarao 2003). Of IPv6 the /64
// is one guest. The latest of a set come first, and the last gives way.
type guests [guestSets][guestWays]uint32 // upper half of the hash

func (g *guests) set(a *header.Addr) (set *[guestWays]uint32, mark uint32) {
	b := a[:]
	if !a.Is4() {
		b = a[:8]
	}
	h := maphash.Bytes(floodedSeed, b)
	return &g[h%guestSets], uint32(h>>32) | 1
}

func (g *guests) note(a *header.Addr) {
	set, mark := g.set(a)
	at := slices.Index(set[:], mark)
	if at < 0 {
		at = guestWays - 1
	}
	copy(set[1:at+1], set[:at])
	set[0] = mark
}

func (g *guests) has(a *header.Addr) bool {
	set, mark := g.set(a)
	return slices.Contains(set[:], mark)
}
