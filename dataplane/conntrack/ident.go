package conntrack

import (
	"sync/atomic"

	"github.com/vswitch/vswitch/dataplane/header"
)

// Identifiers number the IPv4 packets that may be fragmented and whose source
// is translated: several containers share an address then, and what they put
// into the identification field would clash (RFC 6864, RFC 7857 section 10).
// Destinations share counters by a hash that cannot be aimed at.
type Identifiers struct {
	keys Keys
	at   [2048]atomic.Uint32
}

// NewIdentifiers begins with numbers that follow from the keys.
func NewIdentifiers(keys Keys) *Identifiers {
	t := &Identifiers{keys: keys}
	for i := range t.at {
		t.at[i].Store(uint32(mix(uint64(i)^t.keys[0], t.keys[1])))
	}
	return t
}

// Next returns the first of n identifications for packets to a destination.
func (t *Identifiers) Next(to *header.Tuple, n int) uint16 {
	h := t.keys.Tuple(&header.Tuple{Dst: to.Dst, Proto: to.Proto})
	return uint16(t.at[h%uint32(len(t.at))].Add(uint32(n)) - uint32(n))
}
