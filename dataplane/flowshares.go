package dataplane

import (
	"sync/atomic"

	"github.com/vswitch/vswitch/dataplane/frame"
	"github.com/vswitch/vswitch/dataplane/share"
)

// flowReserve is how many pairs of entries are kept for containers that have fewer than
// others: a flow is offered once in a hundred frames, and what gives rests for a while.
const flowReserve = 64

// relieveTries is how many rows that are in use a search for idle ones finds before it rests.
const relieveTries = 64

// rowEntries are the rows as their shares see them, by the number of their entry and one.
type rowEntries flowTable

func (t *rowEntries) Link(i uint32) *share.Link { return &t.places[i-1].link }

// Seen is when the kernel carried a frame of the row, as its programs count time.
func (t *rowEntries) Seen(i uint32) uint32 { return uint32(atomic.LoadUint64(&t.entries[i-1].LastUse)) }

// rowTenant is the container that a row is counted on: that of the sender, or of the receiver
// where that is none.
func rowTenant(s *Snapshot, in, out frame.PortID) int {
	for _, id := range []frame.PortID{in, out} {
		if p := s.ports[id]; p != nil && p.Kind == PortContainer {
			return int(p.tenant)
		}
	}
	return int(in)
}

func (t *flowTable) reserve() int { return min(flowReserve, t.limit/8) }

// mayTake reports whether a container may have a new pair. When few are left, the
// container with most rows begins none, and a pair of its own ends for another's.
func (t *flowTable) mayTake(who int) bool {
	if t.vacant() > t.reserve() || t.shares.Active() < 2 && t.shares.Held(who) == t.shares.Total() {
		if len(t.free) == 0 {
			t.wantMore() // it is offered again
		}
		return len(t.free) > 0
	}
	if giver := t.shares.Giver(who); giver == who {
		t.shares.Refuse(who)
		return false
	} else if i := t.shares.VictimOf(giver, 0); i != 0 && len(t.resting) < 4*flowReserve {
		r := t.places[i-1].row
		ended := []*flowRow{r}
		if o := t.places[r.number^1].row; o != nil {
			ended = append(ended, o)
		}
		t.end(ended)
		t.resting = append(t.resting, ended...)
		t.shares.Gave(giver)
	}
	if len(t.free) == 0 {
		t.shares.Refuse(who) // until what has ended is free: it is offered again
	}
	return len(t.free) > 0
}

// relieve ends idle rows of the containers with most, those idle for longest, while less than a
// quarter of the pairs is free. Some rows have just ended.
func (t *flowTable) relieve(now int64, ended []*flowRow) []*flowRow {
	want := t.limit/4 - t.vacant()
	for _, r := range ended {
		if o := &t.places[r.number^1]; o.row == nil && (!o.rests || r.number&1 == 0) {
			want--
		}
	}
	for miss := 0; miss < relieveTries && want > 0; {
		who := t.shares.Largest()
		if who < 0 {
			break
		}
		i := t.shares.VictimOf(who, 0)
		r := t.places[i-1].row
		pair := []*flowRow{r}
		if o := t.places[r.number^1].row; o != nil {
			pair = append(pair, o)
		}
		if now-t.seen(r) <= int64(flowIdle) {
			t.shares.Move(i, who, 0, 0)
			miss++
			continue
		}
		t.end(pair)
		ended = append(ended, pair...)
		want--
	}
	return ended
}

// use is what a container has of the rows.
func (t *flowTable) use(tenant frame.PortID) share.Use {
	if t == nil {
		return share.Use{}
	}
	return t.shares.Use(int(tenant))
}

// moveTenant counts the rows of one port of a container on another one, see Switch.moveTenants.
func (t *flowTable) moveTenant(from, to frame.PortID) {
	if t == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, r := range t.rows {
		if r.tenant == int(from) {
			t.shares.Leave(r.number+1, r.tenant, 0, 1)
			r.tenant = int(to)
			t.shares.Enter(r.number+1, r.tenant, 0, 1)
		}
	}
	t.shares.Inherit(int(to), int(from))
}
