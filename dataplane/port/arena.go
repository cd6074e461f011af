package port

import "github.com/vswitch/vswitch/dataplane/frame"

const (
	// vlanRoom is kept in front of a received frame's headroom, to put a VLAN tag
	// back that the kernel took out.
	vlanRoom = 4

	// arenaSlot holds the largest frame with headroom, in whole cache lines.
	arenaSlot = (vlanRoom + frame.Headroom + frame.MaxLen + 63) &^ 63
)

// Arena is a worker's memory for the large frames of one turn, one place of
// 64 KiB for each place of a batch. It is shared by all ports of the worker,
// because 100 ports with an arena each would hold 400 MiB. Memory that was never
// needed is never touched. Not safe for concurrent use.
type Arena struct {
	mem  []byte
	used int
	rx   rxScratch
}

// NewArena returns an empty arena.
func NewArena() *Arena {
	return &Arena{mem: make([]byte, arenaSlot*frame.BatchSize)}
}

// Reset takes all memory back. The worker calls it between two turns.
func (a *Arena) Reset() { a.used = 0 }

// free is the number of places left.
func (a *Arena) free() int { return frame.BatchSize - a.used }

// next returns the next place, borrowed until Reset, or nil. Turns start with
// the same place again, whose cache lines are warm.
func (a *Arena) next() []byte {
	if a.used == frame.BatchSize {
		return nil
	}
	s := a.mem[a.used*arenaSlot : (a.used+1)*arenaSlot : (a.used+1)*arenaSlot]
	a.used++
	return s
}

// undo gives the last place back.
func (a *Arena) undo() { a.used-- }

// Alloc returns n bytes of frame memory behind headroom, borrowed until Reset,
// or nil when the arena is full or n is more than frame.MaxLen. It is for ports
// outside this package and for stages that need a copy of a frame.
func (a *Arena) Alloc(n int) []byte {
	if n > frame.MaxLen {
		return nil
	}
	s := a.next()
	if s == nil {
		return nil
	}
	return s[vlanRoom : vlanRoom+frame.Headroom+n]
}
