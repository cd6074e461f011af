package dataplane

import (
	"sync/atomic"

	"github.com/vswitch/vswitch/dataplane/header"
)

// identifiers number the IPv4 packets that may be fragmented and whose source
// is translated: several containers share an address then, and what they put
// into the identification field would clash (RFC 6864, RFC 7857 section 10).
// Destinations share counters by a hash that cannot be aimed at.
type identifiers struct {
	keys hashKeys
	at   [2048]atomic.Uint32
}

func newIdentifiers() *identifiers {
	t := &identifiers{keys: newHashKeys()}
	for i := range t.at {
		t.at[i].Store(uint32(mix(uint64(i)^t.keys[0], t.keys[1])))
	}
	return t
}

// next returns the first of n identifications for packets to a destination.
func (t *identifiers) next(to *header.Tuple, n int) uint16 {
	h := t.keys.tuple(&header.Tuple{Dst: to.Dst, Proto: to.Proto})
	return uint16(t.at[h%uint32(len(t.at))].Add(uint32(n)) - uint32(n))
}
