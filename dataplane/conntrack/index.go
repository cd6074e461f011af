package conntrack

import (
	"sync/atomic"

	"github.com/vswitch/vswitch/dataplane/header"
	"github.com/vswitch/vswitch/dataplane/pages"
)

// connIndex finds flows by tuple: an open-addressed table with linear probing.
// A cell is the tuple's hash in its upper half and a Ref in its lower, 0 is
// free; the tuples are in the conns, so a cell takes 8 bytes and the hash is
// compared before memory elsewhere is touched. It holds no pointer.
type connIndex struct {
	table atomic.Pointer[connCells] // nil: empty
	used  int
}

// connCells are a power of two. They are read under the shard's lock, except by
// guess, and written under it by atomic stores.
type connCells struct{ of []uint64 }

// Ref is the number of a conn, from 1 on, and in the lowest bit whether the
// tuple is that of the replies.
type Ref uint32

// Reply reports whether the tuple is that of the replies.
func (r Ref) Reply() bool { return r&1 == 1 }

const indexStart = 16

// find returns the flow of a tuple, 0 when there is none.
func (ix *connIndex) find(t *Table, hash uint32, k *header.Tuple) Ref {
	if ix.used == 0 {
		return 0
	}
	cells := ix.table.Load().of
	mask := len(cells) - 1
	for i := int(hash) & mask; ; i = (i + 1) & mask {
		v := cells[i]
		if v == 0 {
			return 0
		}
		if uint32(v>>32) == hash {
			if r := Ref(v); *t.tuple(r) == *k {
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
func (ix *connIndex) guess(hash uint32) Ref {
	s := ix.table.Load()
	if s == nil {
		return 0
	}
	for n := range guessCells {
		v := atomic.LoadUint64(&s.of[(int(hash)+n)&(len(s.of)-1)])
		if v == 0 || uint32(v>>32) == hash {
			return Ref(v)
		}
	}
	return 0
}

// guessCells is how far guess looks: a cache line.
const guessCells = 8

// put enters a flow that is not there yet. It doubles the table when that is
// three quarters full: a shard is small enough to be moved at once.
func (ix *connIndex) put(mem *pages.Memory, hash uint32, r Ref) {
	s := ix.table.Load()
	if s == nil || ix.used*4 >= len(s.of)*3 {
		s = ix.grow(mem, s)
	}
	s.place(uint64(hash)<<32 | uint64(r))
	ix.used++
}

func (ix *connIndex) grow(mem *pages.Memory, old *connCells) *connCells {
	if old == nil {
		old = new(connCells)
	}
	s := &connCells{pages.Take[uint64](mem, max(indexStart, 2*len(old.of)))}
	for _, v := range old.of {
		if v != 0 {
			s.place(v)
		}
	}
	ix.table.Store(s)
	pages.Empty(mem, old.of)
	return s
}

func (s *connCells) place(v uint64) {
	mask := len(s.of) - 1
	i := int(v>>32) & mask
	for s.of[i] != 0 {
		i = (i + 1) & mask
	}
	atomic.StoreUint64(&s.of[i], v)
}

// drop takes a flow out and moves up the next ones that had to give way, so
// that no tombstones lengthen later searches.
func (ix *connIndex) drop(hash uint32, r Ref) {
	cells := ix.table.Load().of
	mask := len(cells) - 1
	i := int(hash) & mask
	for Ref(cells[i]) != r {
		if cells[i] == 0 {
			return
		}
		i = (i + 1) & mask
	}
	ix.used--
	for j := (i + 1) & mask; cells[j] != 0; j = (j + 1) & mask {
		home := int(cells[j]>>32) & mask
		if (j-home)&mask >= (j-i)&mask {
			atomic.StoreUint64(&cells[i], cells[j])
			i = j
		}
	}
	atomic.StoreUint64(&cells[i], 0)
}

// indexBytes is what the tables of all shards take of memory when a conntrack grows
// to a number of flows: the last ones, as large as chance can make them, and those
// before.
func indexBytes(flows int) int {
	cells := indexStart
	for cells*3/4 < 2*flows/connShards {
		cells *= 2
	}
	return 2 * 2 * cells * connShards * 8
}
