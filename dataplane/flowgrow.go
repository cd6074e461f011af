package dataplane

import "github.com/vswitch/vswitch/dataplane/flowmap"

// The entries of the flow table are made as they are needed, up to as many pairs as there may be
// connections. To make some takes the kernel milliseconds, so the table asks for them while there
// are others, and the goroutine that enters offers has them made. A chunk that is made stays: a pair
// that rests may be held by a program, and numbers go round.

// enoughFree is below how many free pairs more are made.
const enoughFree = flowmap.ChunkEntries / 8

// vacant is how many pairs nobody has, those that can still be made among them.
func (t *flowTable) vacant() int { return len(t.free) + max(0, t.limit-t.made/2) }

// room is how many entries there may be.
func (t *flowTable) room() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return 2 * t.limit
}

// canGrow reports whether there may be more entries than are made.
func (t *flowTable) canGrow() bool { return t.made < len(t.entries) && t.made/2 < t.limit }

// wantMore asks for more entries when few are free.
func (t *flowTable) wantMore() {
	if len(t.free) >= enoughFree || !t.canGrow() {
		return
	}
	select {
	case t.nudge <- struct{}{}:
	default:
	}
}

// grow makes more entries where few are free. It is for the goroutine that enters offers: nobody
// waits for the kernel.
func (t *flowTable) grow() {
	t.mu.Lock()
	wants := len(t.free) < enoughFree && t.canGrow()
	t.mu.Unlock()
	if !wants {
		return
	}
	made, err := t.maps.Grow()
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.add(made); err != nil {
		t.limit = min(t.limit, t.made/2) // the kernel has no room for more
	}
}

// add takes entries into the table, up to so many. It needs mu.
func (t *flowTable) add(made int) {
	t.places = append(t.places, make([]place, made-t.made)...)
	for pair := t.made / 2; pair < min(made/2, t.limit); pair++ {
		t.free = append(t.free, uint32(pair))
	}
	t.made = made
}

// release gives a pair back when neither half of it has a row or rests. Of more than there may be by
// now, as a process before had them, it stays unused.
func (t *flowTable) release(number uint32) {
	t.places[number].rests = false
	if o := &t.places[number^1]; o.row == nil && !o.rests && int(number/2) < t.limit {
		t.free = append(t.free, number/2)
	}
}
