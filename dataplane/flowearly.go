package dataplane

import (
	"sync/atomic"

	"github.com/vswitch/vswitch/dataplane/conntrack"
	"github.com/vswitch/vswitch/dataplane/flowmap"
	"github.com/vswitch/vswitch/dataplane/header"
)

// A TCP connection is entered with the answer to its SYN, before that leaves: then the frame in hand
// is the only one of the flow that is under way but SYNs, which come here anyway, and the next one
// finds both rows. A sender who answers without waiting (RFC 7413) is given time: his frames come
// here until the beginner has spoken, and the row waits for those in the ring by then.
//
// The beginner has not shown yet that he hears the answers, and perhaps he never will: who forges
// the source of SYNs is answered by an open port. So few rows may be in doubt at once, and of a
// container fewer than are left to others. Beyond that connections begin as ever, with the frames
// that make them worth a row (offer), and so they do while somebody else has the table.

// mostDoubts is how many pairs may be in doubt.
const mostDoubts = 1024

// doubtLooks is how many of those the entry of another looks at.
const doubtLooks = 4

// doubtTime is how long a pair may be in doubt, ns: the answer is sent again after one second, and
// after two more.
const doubtTime = int64(4e9)

// doubt is a pair whose beginner has not shown yet that he hears the answers.
type doubt struct {
	number     uint32 // of his entry
	generation uint32
	since      int64
	tenant     int
	guest      header.Addr // who began it by a published port, or zero
}

// doubts are they, in a ring.
type doubts struct {
	ring    [mostDoubts]doubt
	first   uint32
	waiting uint32
	of      [MaxPorts]uint16 // by tenant
}

func (d *doubts) add(one doubt) {
	d.ring[(d.first+d.waiting)%mostDoubts] = one
	d.waiting++
	d.of[one.tenant]++
}

func (d *doubts) take() doubt {
	one := d.ring[d.first%mostDoubts]
	d.first++
	d.waiting--
	d.of[one.tenant]--
	return one
}

// mayDoubt reports whether a container may have one more pair in doubt.
func (t *flowTable) mayDoubt(sw *Switch, tenant int) bool {
	d := &t.doubts
	t.settleDoubts(sw, doubtLooks, 0)
	return uint32(d.of[tenant]) < mostDoubts-d.waiting
}

// mayBegin reports whether a container may have one more pair early: as many as it leaves free
// (Choudhury and Hahne 1998), since no row ends for a connection that may be over soon. Somebody who
// keeps connections open in masses would have all others' begin by way of the switch.
func (t *flowTable) mayBegin(tenant int) bool {
	free := t.vacant()
	return free > t.reserve() && t.shares.Held(tenant)/2 < free
}

// settleDoubts looks at so many pairs and returns the rows of those that have been in doubt since a
// time. Who has shown that he hears the answers of a published port is a guest. It needs mu.
func (t *flowTable) settleDoubts(sw *Switch, looks uint32, before int64) (never []*flowRow) {
	d := &t.doubts
	for range min(looks, d.waiting) {
		one := d.take()
		m := &t.entries[one.number]
		switch {
		case m.Generation != one.generation:
		case atomic.LoadUint32(&m.Half.Doubt) == 0:
			if one.guest != (header.Addr{}) {
				sw.guests.note(&one.guest)
			}
		case m.IsOff():
		case one.since < before:
			for n := one.number &^ 1; n <= one.number|1; n++ {
				if r := t.places[n].row; r != nil {
					never = append(never, r)
				}
			}
		default:
			d.add(one)
		}
	}
	return never
}

// enterEarly enters a connection by the answer to its SYN, the ith routed frame.
func (w *worker) enterEarly(t *flowTable, i int) {
	if !t.mu.TryLock() {
		return
	}
	defer t.mu.Unlock()
	r := &w.routes[i]
	l := &r.f.Layers
	answer := flowID{in: r.f.In, dst: l.Dst, src: l.Src, tuple: l.Tuple}
	begun := flowID{in: r.out, dst: r.src, src: r.dst, tuple: r.to.Reverse()}
	s := w.sw.snapshot.Load()
	tenant := rowTenant(s, r.f.In, r.out)
	if !t.mayBegin(tenant) || !t.mayDoubt(w.sw, tenant) {
		return
	}
	if row := t.enter(answer, w.sw, true); row == nil {
		return
	} else if w.isLast(i, row.ports[0].tally) {
		atomic.StoreUint64(&t.entry(row).LastIn, 0)
	}
	if row := t.enter(begun, w.sw, true); row != nil {
		m := t.entry(row)
		atomic.StoreUint64(&m.LastIn, 0) // of this flow nothing is under way there
		d := doubt{number: row.number, generation: m.Generation, since: w.now, tenant: tenant}
		if p := s.ports[r.out]; p != nil && p.Kind == PortUplink && r.kind == conntrack.KindPublish {
			d.guest = begun.tuple.Src
		}
		t.doubts.add(d)
	}
}

// isLast reports whether nothing of the flow of the ith routed frame is under way after it: all that
// was let through by its port is of this turn, or was done with before.
func (w *worker) isLast(i int, tally *flowmap.Tally) bool {
	if atomic.LoadUint64(&tally.In) > tally.Done()+uint64(w.batch.N) {
		return false
	}
	for k := i + 1; k < len(w.routes); k++ {
		if o := &w.routes[k]; o.hash == w.routes[i].hash {
			return false
		}
	}
	return true
}
