package dataplane

import (
	"hash/maphash"
	"sync/atomic"

	"github.com/vswitch/vswitch/dataplane/fdb"
	"github.com/vswitch/vswitch/dataplane/frame"
)

const (
	floodedFrames = 1024 // remembered, a power of two
	floodedBytes  = 96   // of each: what differs between two frames lies at their beginning
	floodedFor    = 2    // seconds
)

// flooded remembers what was flooded lately: a frame that comes in at a port where its
// source does not live has gone round when it is one of those, and is a lie otherwise.
// Both are broadcasts with another station's address. Workers share it without a lock;
// an entry that another has taken makes a loop look like a lie, once.
type flooded [floodedFrames]atomic.Uint64 // upper half of the hash, second

var floodedSeed = maphash.MakeSeed()

// entry is the place of a frame and the mark that it leaves there, without the second.
func (t *flooded) entry(f *frame.Frame) (at *atomic.Uint64, mark uint64) {
	data := f.Data()
	h := maphash.Bytes(floodedSeed, data[:min(len(data), floodedBytes)])
	return &t[h%floodedFrames], h &^ (1<<32 - 1)
}

func (t *flooded) note(f *frame.Frame, now int64) {
	at, mark := t.entry(f)
	at.Store(mark | uint64(fdb.Seconds(now)))
}

// has reports whether the same bytes were flooded a moment ago.
func (t *flooded) has(f *frame.Frame, now int64) bool {
	at, mark := t.entry(f)
	v := at.Load()
	return v&^(1<<32-1) == mark && v != 0 && uint64(fdb.Seconds(now))-v&(1<<32-1) <= floodedFor
}
