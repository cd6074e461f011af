package dataplane

import (
	"hash/maphash"

	"github.com/vswitch/vswitch/dataplane/header"
)

// guestPlaces is how many guests a worker remembers, a power of two.
const guestPlaces = 4096

// guests are the addresses whose flows to published ports were shown to be wanted by both sides:
// who forges addresses has to guess one (Peng, Leckie and Ramamohanarao 2003). Of IPv6 the /64
// is one guest. A later one takes the place of another.
type guests [guestPlaces]uint32 // upper half of the hash

func (g *guests) place(a *header.Addr) (at *uint32, mark uint32) {
	b := a[:]
	if !a.Is4() {
		b = a[:8]
	}
	h := maphash.Bytes(floodedSeed, b)
	return &g[h%guestPlaces], uint32(h>>32) | 1
}

func (g *guests) note(a *header.Addr) {
	at, mark := g.place(a)
	*at = mark
}

func (g *guests) has(a *header.Addr) bool {
	at, mark := g.place(a)
	return *at == mark
}
