package dataplane

import (
	"encoding/binary"
	"math/bits"
	mrand "math/rand/v2"
	"sync/atomic"

	"github.com/vswitch/vswitch/dataplane/header"
	"github.com/vswitch/vswitch/dataplane/pages"
)

// connIndex finds flows by tuple: an open-addressed table with linear probing.
// A slot is the tuple's hash in its upper half and a connRef in its lower, 0 is
// free; the tuples stand in the conns, so a slot takes 8 bytes and the hash is
// compared before memory elsewhere is touched. It holds no pointer.
type connIndex struct {
	table atomic.Pointer[connSlots] // nil: empty
	used  int
}

// connSlots are a power of two. They are read under the shard's lock, but for
// guess, and written under it by atomic stores.
type connSlots struct{ of []uint64 }

// connRef is the number of a conn, from 1 on, and in the lowest bit whether the
// tuple is that of the replies.
type connRef uint32

const indexStart = 16

// find returns the flow of a tuple, 0 when there is none.
func (ix *connIndex) find(t *conntrack, hash uint32, k *header.Tuple) connRef {
	if ix.used == 0 {
		return 0
	}
	slots := ix.table.Load().of
	mask := len(slots) - 1
	for i := int(hash) & mask; ; i = (i + 1) & mask {
		v := slots[i]
		if v == 0 {
			return 0
		}
		if uint32(v>>32) == hash {
			if r := connRef(v); *t.tuple(r) == *k {
				return r
			}
		}
	}
}

// home is where the search for a hash begins, nil in an empty table. It needs no
// lock.
func (ix *connIndex) home(hash uint32) *uint64 {
	s := ix.table.Load()
	if s == nil {
		return nil
	}
	return &s.of[int(hash)&(len(s.of)-1)]
}

// guess returns the flow that find will look at, most likely. It needs no lock, so
// that the flow may be another one's by then.
func (ix *connIndex) guess(hash uint32) connRef {
	s := ix.table.Load()
	if s == nil {
		return 0
	}
	mask := len(s.of) - 1
	for i, n := int(hash)&mask, 0; n < guessSlots; i, n = (i+1)&mask, n+1 {
		v := atomic.LoadUint64(&s.of[i])
		if v == 0 || uint32(v>>32) == hash {
			return connRef(v)
		}
	}
	return 0
}

// guessSlots is how far guess looks: a cache line.
const guessSlots = 8

// put enters a flow that is not there yet. It doubles the table when that is
// three quarters full: a shard is small enough to be moved at once.
func (ix *connIndex) put(mem *pages.Memory, hash uint32, r connRef) {
	s := ix.table.Load()
	if s == nil || ix.used*4 >= len(s.of)*3 {
		s = ix.grow(mem, s)
	}
	s.place(uint64(hash)<<32 | uint64(r))
	ix.used++
}

func (ix *connIndex) grow(mem *pages.Memory, old *connSlots) *connSlots {
	if old == nil {
		old = new(connSlots)
	}
	s := &connSlots{pages.Take[uint64](mem, max(indexStart, 2*len(old.of)))}
	for _, v := range old.of {
		if v != 0 {
			s.place(v)
		}
	}
	ix.table.Store(s)
	pages.Empty(mem, old.of)
	return s
}

func (s *connSlots) place(v uint64) {
	mask := len(s.of) - 1
	i := int(v>>32) & mask
	for s.of[i] != 0 {
		i = (i + 1) & mask
	}
	atomic.StoreUint64(&s.of[i], v)
}

// drop takes a flow out and moves up those behind it that had to give way, so
// that no tombstones lengthen later searches.
func (ix *connIndex) drop(hash uint32, r connRef) {
	slots := ix.table.Load().of
	mask := len(slots) - 1
	i := int(hash) & mask
	for connRef(slots[i]) != r {
		if slots[i] == 0 {
			return
		}
		i = (i + 1) & mask
	}
	ix.used--
	for j := (i + 1) & mask; slots[j] != 0; j = (j + 1) & mask {
		home := int(slots[j]>>32) & mask
		if (j-home)&mask >= (j-i)&mask {
			atomic.StoreUint64(&slots[i], slots[j])
			i = j
		}
	}
	atomic.StoreUint64(&slots[i], 0)
}

// all goes through the flows by both their tuples.
func (ix *connIndex) all(yield func(connRef) bool) {
	s := ix.table.Load()
	if s == nil {
		return
	}
	for _, v := range s.of {
		if v != 0 && !yield(connRef(v)) {
			return
		}
	}
}

// indexBytes is what the tables of all shards take of memory when a conntrack grows
// to a number of flows: the last ones, as large as chance can make them, and those
// before.
func indexBytes(flows int) int {
	slots := indexStart
	for slots*3/4 < 2*flows/connShards {
		slots *= 2
	}
	return 2 * 2 * slots * connShards * 8
}

// hashKeys make a hash that nobody outside can aim at one shard or chain. They
// are random for each switch.
type hashKeys [4]uint64

func newHashKeys() (k hashKeys) {
	rng := mrand.New(mrand.NewChaCha8(seed()))
	for i := range k {
		k[i] = rng.Uint64()
	}
	return k
}

// tuple hashes all of a tuple, as wyhash does it: two keyed words multiplied to
// 128 bits and folded.
func (k *hashKeys) tuple(t *header.Tuple) uint32 {
	le := binary.LittleEndian
	h := mix(le.Uint64(t.Src[:])^k[0], le.Uint64(t.Src[8:])^k[1])
	h = mix(le.Uint64(t.Dst[:])^k[2]^h, le.Uint64(t.Dst[8:])^k[3])
	h = mix(h^k[0], (uint64(t.SrcPort)<<32|uint64(t.DstPort)<<16|uint64(t.Proto))^k[2])
	return uint32(h ^ h>>32)
}

func mix(a, b uint64) uint64 {
	hi, lo := bits.Mul64(a, b)
	return hi ^ lo
}
