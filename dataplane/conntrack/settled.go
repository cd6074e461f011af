package conntrack

import (
	"github.com/vswitch/vswitch/dataplane/frame"
	"github.com/vswitch/vswitch/dataplane/header"
)

// Settled is a flow that goes on and has directions that no row carries.
type Settled struct {
	Orig, Reply header.Tuple
	Port        frame.PortID // the container's
	Rowless     [2]bool      // the directions that go on without a row
}

// SweepPart is how many flows a sweep looks at.
func (t *Table) SweepPart() int {
	return max(min(int(t.madeNow()), sweepWhole), int(t.madeNow())/sweepParts)
}

// Settled fills page with flows that began before a time, whose other end was heard, and that a
// TCP beginner has shown to hear, from a place on, which it moves; after the last flow comes the
// first. It returns how many flows those are, and how many it has looked at: no more than look.
func (t *Table) Settled(page []Settled, place *uint32, look int, before int64) (n, seen int) {
	made := t.madeNow()
	for ; seen < look && n < len(page); seen++ {
		if *place >= made {
			*place = 0
		}
		*place++
		c := t.conn(*place)
		if c.rowless() == [2]bool{} || c.created.Load() > before {
			continue
		}
		t.live(*place, func(c *Conn) {
			without := c.rowless()
			if c.Turned || without == [2]bool{} || c.created.Load() > before || c.Orig.Proto == header.ProtoTCP && !c.Assured() {
				return
			}
			page[n] = Settled{c.Orig, c.Reply, c.Port, without}
			n++
		})
	}
	return n, seen
}

// rowless are the directions of a flow whose other end was heard that go on without a row.
func (c *Conn) rowless() (without [2]bool) {
	if !c.Heard() {
		return without
	}
	for dir := range without {
		without[dir] = c.rows[dir].Load() == 0 && c.GoesOn()
	}
	return without
}
