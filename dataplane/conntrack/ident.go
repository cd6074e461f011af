package conntrack

import (
	"sync/atomic"

	"github.com/vswitch/vswitch/dataplane/flowmap"
	"github.com/vswitch/vswitch/dataplane/header"
)

// Identifiers number the IPv4 packets that may be fragmented and whose source
// is translated: several containers share an address then, and what they put
// into the identification field would clash (RFC 6864, RFC 7857 section 10).
// Destinations share counters by a hash that cannot be aimed at.
type Identifiers struct {
	keys   Keys
	at     *[flowmap.MaxCounters]uint32
	shared bool
}

// NewIdentifiers goes on with memory that the BPF programs share, nil: there is none. Where nobody
// has begun there it begins with numbers that follow from the keys.
func NewIdentifiers(keys Keys, memory *flowmap.Identifiers) *Identifiers {
	t := &Identifiers{shared: memory != nil}
	if memory == nil {
		memory = new(flowmap.Identifiers)
	}
	if memory.Keys == (Keys{}) {
		for i := range memory.Next {
			memory.Next[i] = uint32(mix(uint64(i)^keys[0], keys[1]))
		}
		memory.Keys = keys
	}
	t.keys, t.at = memory.Keys, &memory.Next
	return t
}

// Next returns the first of n identifications for packets to a destination.
func (t *Identifiers) Next(to *header.Tuple, n int) uint16 {
	return uint16(atomic.AddUint32(&t.at[t.counter(to)], uint32(n)) - uint32(n))
}

// Flags lead the programs to the counter of a destination, where they share it.
func (t *Identifiers) Flags(to *header.Tuple) uint32 {
	if !t.shared {
		return 0
	}
	return (t.counter(to) + 1) << flowmap.CounterShift
}

func (t *Identifiers) counter(to *header.Tuple) uint32 {
	return t.keys.Tuple(&header.Tuple{Dst: to.Dst, Proto: to.Proto}) % uint32(len(t.at))
}
