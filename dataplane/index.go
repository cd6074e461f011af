package dataplane

import (
	"encoding/binary"
	"math/bits"
	mrand "math/rand/v2"

	"github.com/vswitch/vswitch/dataplane/header"
)

// connIndex finds flows by tuple: an open-addressed table with linear probing.
// A slot is the tuple's hash in its upper half and a connRef in its lower, 0 is
// free; the tuples stand in the conns, so a slot takes 8 bytes and the hash is
// compared before memory elsewhere is touched. It holds no pointer.
type connIndex struct {
	slots []uint64 // a power of two
	used  int
}

// connRef is the number of a conn, from 1 on, and in the lowest bit whether the
// tuple is that of the replies.
type connRef uint32

const indexStart = 16

// find returns the flow of a tuple, 0 when there is none.
func (ix *connIndex) find(t *conntrack, hash uint32, k *header.Tuple) connRef {
	if ix.used == 0 {
		return 0
	}
	mask := len(ix.slots) - 1
	for i := int(hash) & mask; ; i = (i + 1) & mask {
		v := ix.slots[i]
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

// put enters a flow that is not there yet. It doubles the table when that is
// three quarters full: a shard is small enough to be moved at once.
func (ix *connIndex) put(hash uint32, r connRef) {
	if ix.used*4 >= len(ix.slots)*3 {
		old := ix.slots
		ix.slots = make([]uint64, max(indexStart, 2*len(old)))
		for _, v := range old {
			if v != 0 {
				ix.place(v)
			}
		}
	}
	ix.place(uint64(hash)<<32 | uint64(r))
	ix.used++
}

func (ix *connIndex) place(v uint64) {
	mask := len(ix.slots) - 1
	i := int(v>>32) & mask
	for ix.slots[i] != 0 {
		i = (i + 1) & mask
	}
	ix.slots[i] = v
}

// drop takes a flow out and moves up those behind it that had to give way, so
// that no tombstones lengthen later searches.
func (ix *connIndex) drop(hash uint32, r connRef) {
	mask := len(ix.slots) - 1
	i := int(hash) & mask
	for connRef(ix.slots[i]) != r {
		if ix.slots[i] == 0 {
			return
		}
		i = (i + 1) & mask
	}
	ix.used--
	for j := (i + 1) & mask; ix.slots[j] != 0; j = (j + 1) & mask {
		home := int(ix.slots[j]>>32) & mask
		if (j-home)&mask >= (j-i)&mask {
			ix.slots[i] = ix.slots[j]
			i = j
		}
	}
	ix.slots[i] = 0
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
