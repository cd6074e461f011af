package conntrack

import (
	"crypto/rand"
	"encoding/binary"
	"math/bits"
	mrand "math/rand/v2"

	"github.com/vswitch/vswitch/dataplane/header"
)

// Keys make a hash that nobody outside can aim at one shard or chain. They
// are random for each switch.
type Keys [4]uint64

// NewKeys makes new ones.
func NewKeys() (k Keys) {
	rng := NewRand()
	for i := range k {
		k[i] = rng.Uint64()
	}
	return k
}

// Tuple hashes all of a tuple, as wyhash does it: two keyed words multiplied to
// 128 bits and folded.
func (k *Keys) Tuple(t *header.Tuple) uint32 {
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

// Pair hashes a tuple so that its reverse has the same hash.
func (k *Keys) Pair(t *header.Tuple) uint32 {
	le := binary.LittleEndian
	side := func(a *header.Addr, port uint16) uint64 {
		return mix(le.Uint64(a[:])^k[0]^uint64(port), le.Uint64(a[8:])^k[1])
	}
	h := mix(side(&t.Src, t.SrcPort)+side(&t.Dst, t.DstPort)^k[2], uint64(t.Proto)^k[3])
	return uint32(h ^ h>>32)
}

// NewRand makes a source of numbers that nobody outside can predict, for one goroutine.
func NewRand() *mrand.Rand {
	var seed [32]byte
	_, _ = rand.Read(seed[:]) // it never fails: it ends the program itself
	return mrand.New(mrand.NewChaCha8(seed))
}
