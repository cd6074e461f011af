package dataplane

import (
	"cmp"
	"slices"
	"sync/atomic"

	"github.com/vswitch/vswitch/dataplane/flowmap"
	"github.com/vswitch/vswitch/dataplane/frame"
	"github.com/vswitch/vswitch/dataplane/share"
)

// stationReserve is how many flows more can always be told: when less is free whoever began most
// gives. Leases alone do not keep it free: they are of one look at the table each, and several
// stations may use theirs up at once.
const stationReserve = flowmap.MaxStationFlows / 16

// stationUse is what a port has of the flows that are told, as the one that began them.
type stationUse struct {
	held          atomic.Int32
	gave, refused atomic.Uint64
}

// lend lets each station begin flows until the table is read next: it may have as many as it leaves
// free (Choudhury and Hahne 1998), so that who scans its neighbours hides no flow of others.
func (t *stationRows) lend() {
	free := flowmap.MaxStationFlows - len(t.flows.known)
	for id := range t.used {
		r := &t.rows[id]
		atomic.StoreUint64(&r.Lease, atomic.LoadUint64(&r.Begun)+uint64(max(0, free-int(t.of[id].held.Load()))))
	}
}

// pressed returns the flows that give: of the stations that began most, down to what they have
// then, the ones that were silent for longest. One that goes on is told anew.
func (t *stationRows) pressed() (gives []flowmap.Key) {
	want := stationReserve - (flowmap.MaxStationFlows - len(t.flows.known))
	if want <= 0 {
		return nil
	}
	by := make(map[frame.PortID][]flowmap.Key)
	for k, e := range t.flows.known {
		by[e.owner] = append(by[e.owner], k)
	}
	var most []frame.PortID
	for id := range by {
		most = append(most, id)
	}
	slices.SortFunc(most, func(a, b frame.PortID) int { return len(by[b]) - len(by[a]) })
	rest, sum := 0, 0 // what each of the first n keeps, so that all of them give what is wanted
	n := 0
	for ; n < len(most) && (n == 0 || len(by[most[n]]) > rest); n++ {
		sum += len(by[most[n]])
		rest = (sum - want) / (n + 1)
	}
	for _, id := range most[:n] {
		keys := by[id]
		slices.SortFunc(keys, func(a, b flowmap.Key) int { return cmp.Compare(t.flows.known[a].seen, t.flows.known[b].seen) })
		over := keys[:max(0, len(keys)-rest)]
		t.of[id].gave.Add(uint64(len(over)))
		gives = append(gives, over...)
	}
	return gives
}

// useOf is what a port has of the flows that are told; what it is refused are frames that are
// carried and of no flow.
func (t *stationRows) useOf(id frame.PortID) share.Use {
	if t == nil {
		return share.Use{}
	}
	u := &t.of[id]
	return share.Use{Held: int(u.held.Load()), Gave: u.gave.Load(), Refused: u.refused.Load()}
}

// forget lets what a port has given and been refused be counted anew.
func (t *stationRows) forget(id frame.PortID) {
	if t != nil {
		t.of[id].gave.Store(0)
		t.of[id].refused.Store(0)
	}
}
