package dataplane

import "github.com/vswitch/vswitch/dataplane/frame"

// spareFrames is how many frames a turn can make beside those that came in:
// fragments it cuts, and fragments that were deferred.
const spareFrames = 256

// spares are frames of a worker, borrowed until the end of the turn. Their
// bytes lie in the arena, many to a place of it.
type spares struct {
	frames [spareFrames]frame.Frame
	used   int
	room   []byte
}

// newFrame returns a frame of n bytes, nil when the turn has used up its own.
func (w *worker) newFrame(n int) *frame.Frame {
	p := &w.spare
	if p.used == len(p.frames) {
		return nil
	}
	n += frame.Headroom
	if len(p.room) < n {
		mem := w.arena.Alloc(frame.MaxLen)
		if len(mem) < n {
			return nil
		}
		p.room = mem
	}
	f := &p.frames[p.used]
	p.used++
	*f = frame.Frame{Buf: p.room[:n:n]}
	p.room = p.room[n:]
	return f
}

// reset takes the frames back.
func (p *spares) reset() { p.used, p.room = 0, nil }
