package dataplane

import (
	"time"

	"github.com/vswitch/vswitch/dataplane/conntrack"
	"github.com/vswitch/vswitch/dataplane/header"
)

// A connection that says little has no row for its frames. It gets one all the same, so that it
// goes on while nobody is there: the sweep enters it once it has lived for a while. Such rows
// only fill what is free. Bridged flows need none of that: no tuple of theirs is anybody else's,
// so that they wait and nobody resets them.

const (
	// quietAge is what a flow has to have lived for: most that say little are over by then.
	quietAge = int64(2 * time.Second)
	// quietPages is how many pages of quietPage flows a sweep enters at most: an entry costs
	// two system calls.
	quietPages = 4
	quietPage  = 256
)

// quietFlows is the search for them.
type quietFlows struct {
	page  [quietPage]conntrack.Settled
	place uint32 // where the next one begins
}

// enterQuiet enters flows that have no row, in all directions that go on.
func (t *flowTable) enterQuiet(sw *Switch, now int64) {
	if t == nil {
		return
	}
	q, entered := &t.quiet, false
	for look, full := sw.conntrack.SweepPart(), quietPages; look > 0 && full > 0; full-- {
		if !t.quietRoom(0) {
			break
		}
		n, seen := sw.conntrack.Settled(q.page[:], &q.place, look, now-quietAge)
		look -= seen
		entered = t.enterPage(sw, q.page[:n]) || entered
	}
	if entered {
		select {
		case t.nudge <- struct{}{}:
		default:
		}
	}
}

// quietRoom reports whether more than a quarter of the pairs is free, below which idle rows end
// (relieve), and so many besides.
func (t *flowTable) quietRoom(more int) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.quietRoomLocked(more)
}

func (t *flowTable) quietRoomLocked(more int) bool {
	return len(t.found) == 0 && t.vacant() > t.limit/4+more
}

// enterPage enters a page of flows. A container gets pairs while it has fewer than are left, so
// that one with many such flows leaves room to others.
func (t *flowTable) enterPage(sw *Switch, page []conntrack.Settled) (entered bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	v := sw.view()
	for i := range page {
		c := &page[i]
		in := v.ports[c.Port]
		if in == nil {
			continue
		}
		alone := c.Rowless[0] && c.Rowless[1] // otherwise it has its pair
		if alone && !t.quietRoomLocked(t.shares.Held(int(in.tenant))/2) {
			continue
		}
		for dir, tuple := range [...]*header.Tuple{&c.Orig, &c.Reply} {
			if !c.Rowless[dir] {
				continue
			}
			if f, ok := v.frameOf(tuple); ok && t.enter(f, sw, false) != nil {
				entered = true
			}
		}
	}
	return entered
}

// frameOf says by which port and with which MAC addresses the packets of one direction of a routed
// flow come in: from a container, or from the neighbour that packets to their sender go to. ok is
// false when that is not known.
func (v *view) frameOf(t *header.Tuple) (f flowID, ok bool) {
	f.tuple = *t
	if h := v.stations[t.Src]; h != nil {
		f.in, f.src, f.dst = h.port, h.mac, h.network.GatewayMAC
		if o := v.stations[t.Dst]; o != nil && o.network == h.network && v.ports[h.port].asks(v.ports[o.port]) {
			f.dst = o.mac
		}
		return f, true
	}
	r := v.lookup(t.Src)
	if r == nil || r.Kind != RouteUplink {
		return f, false
	}
	h, why := v.hop(r, &t.Src, v.neighbors)
	f.in, f.src, f.dst = h.out, h.dst, h.src
	return f, why == NotDropped
}
