package state

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"maps"
	"os"
	"slices"
)

// The pages of a bbolt file, read from its bytes and checked all the way. bbolt itself
// trusts its pages: of a damaged one it makes a fault, a panic or a walk without end, none
// of which a program outlives. Nothing here follows a number that it has not checked.
//
// The layout is that of bbolt's file version 2: a page is a header of 16 bytes (number,
// kind, count, overflow) and elements; pages 0 and 1 are of the newest transaction and the one
// before, each with a checksum.

const (
	pageHeader = 16
	metaSize   = 64
	magic      = 0xED0CDAED
	version    = 2

	branchPage, leafPage, metaPage, freePage = 1, 2, 4, 16

	noFreeList = ^uint64(0)
	maxDepth   = 32
)

var native = binary.NativeEndian

// pageFile is what the pages say.
type pageFile struct {
	buckets map[string]records // without the bucket's name in the key
	txid    uint64             // of the transaction that is read
	faults  []string           // what is not as it should be
}

// pageReader walks the pages of one transaction.
type pageReader struct {
	b     []byte
	size  uint64 // of a page
	end   uint64 // first page beyond the used ones
	seen  map[uint64]bool
	out   *pageFile
	whole bool // no page was passed over
}

func (f *pageFile) fault(format string, a ...any) {
	if len(f.faults) < 8 {
		f.faults = append(f.faults, fmt.Sprintf(format, a...))
	}
}

// readPages reads a file. It returns what can be read of one that is damaged.
func readPages(b []byte) *pageFile {
	f := &pageFile{buckets: make(map[string]records)}
	size := pageSize(b)
	var best []byte
	for i := range uint64(2) {
		m, err := readMeta(b, i, size)
		if err != nil {
			f.fault("page %d: %v", i, err)
			continue
		}
		if id := native.Uint64(m[48:]); best == nil || id > f.txid {
			best, f.txid = m, id
		}
	}
	if best == nil {
		return f
	}
	r := &pageReader{b: b, size: size, end: native.Uint64(best[40:]), seen: map[uint64]bool{0: true, 1: true}, out: f, whole: true}
	if r.end > uint64(len(b))/size {
		f.fault("it has %d bytes, and %d pages of %d bytes", len(b), r.end, size)
	}
	r.walk(native.Uint64(best[16:]), nil, nil, maxDepth, r.bucket)
	r.freeList(native.Uint64(best[32:]))
	return f
}

// pageSize is the size that a meta page says, else that of the machine.
func pageSize(b []byte) uint64 {
	for size := 512; size <= 1<<16; size *= 2 {
		for i := range uint64(2) {
			if m, err := readMeta(b, i, uint64(size)); err == nil && native.Uint32(m[8:]) == uint32(size) {
				return uint64(size)
			}
		}
	}
	return uint64(os.Getpagesize())
}

func readMeta(b []byte, i, size uint64) ([]byte, error) {
	at := i*size + pageHeader
	if at+metaSize > uint64(len(b)) {
		return nil, errors.New("is cut off")
	}
	m, head := b[at:at+metaSize], b[at-pageHeader:]
	h := fnv.New64a()
	h.Write(m[:metaSize-8])
	switch {
	case native.Uint32(m) != magic || native.Uint32(m[4:]) != version:
		return nil, errors.New("is not bbolt's")
	case native.Uint64(m[56:]) != h.Sum64():
		return nil, errors.New("has a wrong checksum")
	case native.Uint64(head) != i || native.Uint16(head[8:]) != metaPage:
		return nil, errors.New("has a wrong header")
	}
	return m, nil
}

// page returns a page with its overflow and marks it as used.
func (r *pageReader) page(id uint64) []byte {
	if id < 2 || id >= r.end || (id+1)*r.size > uint64(len(r.b)) {
		r.miss("page %d: is beyond the end", id)
		return nil
	}
	p := r.b[id*r.size:]
	more := uint64(native.Uint32(p[12:]))
	if native.Uint64(p) != id {
		r.miss("page %d: says that it is another", id)
		return nil
	}
	if more >= r.end-id || (id+more+1)*r.size > uint64(len(r.b)) {
		r.miss("page %d: goes on beyond the end", id)
		more = 0
	}
	for n := id; n <= id+more; n++ {
		if r.seen[n] {
			r.miss("page %d: is used twice", n)
			return nil
		}
		r.seen[n] = true
	}
	return p[:(more+1)*r.size]
}

func (r *pageReader) miss(format string, a ...any) {
	r.whole = false
	r.out.fault(format, a...)
}

// walk reads the records of a tree, whose keys are from low to before high; nil: no bound.
func (r *pageReader) walk(id uint64, low, high []byte, depth int, leaf func(flags uint32, k, v []byte)) {
	if depth == 0 {
		r.miss("page %d: the tree is too deep", id)
		return
	}
	p := r.page(id)
	if p == nil {
		return
	}
	switch native.Uint16(p[8:]) {
	case leafPage:
		r.leaves(p, id, low, high, leaf)
	case branchPage:
		var keys [][]byte
		var ids []uint64
		for i := range int(native.Uint16(p[10:])) {
			at := pageHeader + 16*i
			if at+16 > len(p) {
				r.miss("page %d: has too many elements", id)
				break
			}
			k := r.piece(p, id, at, native.Uint32(p[at:]), native.Uint32(p[at+4:]))
			if k == nil {
				continue
			}
			keys, ids = append(keys, k), append(ids, native.Uint64(p[at+8:]))
		}
		for i, k := range keys {
			to := high
			if i+1 < len(keys) {
				to = keys[i+1]
			}
			if string(k) < string(low) || to != nil && string(k) >= string(to) {
				r.miss("page %d: its keys are out of order", id)
			}
			r.walk(ids[i], k, to, depth-1, leaf)
		}
	default:
		r.miss("page %d: is of no kind that belongs there", id)
	}
}

func (r *pageReader) leaves(p []byte, id uint64, low, high []byte, leaf func(flags uint32, k, v []byte)) {
	var last []byte
	for i := range int(native.Uint16(p[10:])) {
		at := pageHeader + 16*i
		if at+16 > len(p) {
			r.miss("page %d: has too many elements", id)
			return
		}
		pos, ksize, vsize := native.Uint32(p[at+4:]), native.Uint32(p[at+8:]), native.Uint32(p[at+12:])
		k := r.piece(p, id, at, pos, ksize)
		if k == nil {
			continue
		}
		v := []byte{}
		if vsize > 0 {
			if v = r.piece(p, id, at, pos+ksize, vsize); v == nil {
				continue
			}
		}
		if last != nil && string(k) <= string(last) || string(k) < string(low) || high != nil && string(k) >= string(high) {
			r.miss("page %d: its keys are out of order", id)
		}
		last = k
		leaf(native.Uint32(p[at:]), k, v)
	}
}

// piece is part of a page, nil when there is none.
func (r *pageReader) piece(p []byte, id uint64, at int, pos, n uint32) []byte {
	from := uint64(at) + uint64(pos)
	if n == 0 || from+uint64(n) > uint64(len(p)) {
		r.miss("page %d: an element is out of its bounds", id)
		return nil
	}
	return p[from : from+uint64(n)]
}

// bucket reads one of the root's elements, which all are buckets.
func (r *pageReader) bucket(flags uint32, name, v []byte) {
	if flags != 1 || len(v) < 16 {
		r.miss("bucket %q: is none", name)
		return
	}
	recs := make(records)
	r.out.buckets[string(name)] = recs
	put := func(flags uint32, k, v []byte) {
		if flags != 0 {
			r.miss("record %q of %q: is no record", k, name)
			return
		}
		recs[string(k)] = v
	}
	if root := native.Uint64(v); root != 0 {
		r.walk(root, nil, nil, maxDepth, put)
		return
	}
	// A small one lies in its element, as a page without a number.
	p := v[16:]
	if len(p) < pageHeader || native.Uint16(p[8:]) != leafPage || native.Uint64(p) != 0 || native.Uint32(p[12:]) != 0 {
		r.miss("bucket %q: has no page", name)
		return
	}
	r.leaves(p, 0, nil, nil, put)
}

// freeList compares the pages that bbolt would write to with those that are in use. It
// says nothing when the tree could not be read whole, and its pages are not all known.
func (r *pageReader) freeList(id uint64) {
	if id == noFreeList || !r.whole {
		return
	}
	p := r.page(id)
	if p == nil {
		return
	}
	n, at := uint64(native.Uint16(p[10:])), uint64(pageHeader)
	if n == 0xFFFF {
		n, at = native.Uint64(p[at:]), at+8
	}
	if native.Uint16(p[8:]) != freePage || n > (uint64(len(p))-at)/8 {
		r.out.fault("page %d: is no list of free pages", id)
		return
	}
	free := make(map[uint64]bool, n)
	for i := range n {
		free[native.Uint64(p[at+8*i:])] = true
	}
	want := make(map[uint64]bool, n)
	for i := uint64(2); i < r.end && i <= uint64(len(r.b))/r.size; i++ {
		if !r.seen[i] {
			want[i] = true
		}
	}
	if uint64(len(free)) != n || !maps.Equal(free, want) {
		r.out.fault("page %d: pages in use are listed as free, or free ones are not (%v)", id, len(slices.Collect(maps.Keys(free))))
	}
}
