package flowmap

import "sync/atomic"

// Tally counts the frames of a packet socket in memory that the socket's filter
// program shares: it knows by them whether one that it let through is still under
// way. The layout is part of the program. Fields of different writers have cache
// lines of their own.
type Tally struct {
	In    uint64 // let through, written by the program
	_     [56]byte
	Taken uint64 // consumed, written by Release
	_     [56]byte
	Lost  uint64 // had no room, as far as the kernel was asked, written by KernelDrops
	// Drained were dropped by the program while the ring was full of their flow.
	Drained uint64
	// Refused were dropped by the program that carries, since what was said of their
	// checksum cannot be true, or the kernel could not change them.
	Refused uint64
	_       [40]byte
}

// Done is how many of In are no longer under way.
func (a *Tally) Done() uint64 {
	return atomic.LoadUint64(&a.Taken) + atomic.LoadUint64(&a.Lost)
}
