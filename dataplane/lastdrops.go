package dataplane

import (
	"cmp"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vswitch/vswitch/dataplane/frame"
	"github.com/vswitch/vswitch/dataplane/header"
)

const (
	lastDrops = 16
	// Of a flood of drops only so many are noted: a new kind of drop takes a place,
	// one like the last only counts.
	dropNotes = 16
	dropPause = int64(20 * time.Millisecond)
)

// dropRing holds the last drops of a port. Workers share it and never wait for
// each other or for a reader: what they cannot note at once is only counted.
type dropRing struct {
	until atomic.Int64 // nothing is noted before, ns

	mu    sync.Mutex
	notes [lastDrops]dropNote
	noted uint64 // ever; the last lies before noted % lastDrops
	since int64  // the first of the notes counted in burst, ns
	burst int
}

type dropNote struct {
	first, last int64 // ns
	count       uint64
	why         DropReason
	vlan        uint16
	etherType   uint16
	kind        header.Kind
	src, dst    header.MAC
	tuple       header.Tuple
}

// note remembers the end of a frame.
func (r *dropRing) note(f *frame.Frame, why DropReason, now int64) {
	if now < r.until.Load() || !r.mu.TryLock() {
		return
	}
	defer r.mu.Unlock()
	l := &f.Layers
	if r.noted > 0 {
		n := &r.notes[(r.noted-1)%lastDrops]
		if n.why == why && n.tuple == l.Tuple && n.src == l.Src && n.dst == l.Dst {
			n.count++
			n.last = now
			return
		}
	}
	if now-r.since >= dropPause {
		r.since, r.burst = now, 0
	}
	if r.burst++; r.burst == dropNotes {
		r.until.Store(r.since + dropPause)
	}
	r.notes[r.noted%lastDrops] = dropNote{
		first: now, last: now, count: 1, why: why, vlan: f.VLAN, etherType: l.EtherType, kind: l.Kind, src: l.Src, dst: l.Dst, tuple: l.Tuple,
	}
	r.noted++
}

// DropInfo is a frame that was dropped, or several in a row that look alike.
type DropInfo struct {
	Port      frame.PortID // where it was counted: where it came in, except with the egress reasons
	Reason    DropReason
	Count     uint64        // at least; a flood is not noted frame by frame
	Ago       time.Duration // the last of them
	For       time.Duration // from the first to the last
	VLAN      uint16
	EtherType uint16
	Src, Dst  header.MAC
	Tuple     header.Tuple // of an IP packet, otherwise zero
}

// LastDrops lists the last drops of some ports, of all for nil, the latest first:
// at most 16 of each.
func (s *Switch) LastDrops(ports []frame.PortID) []DropInfo {
	now := s.now()
	var list []DropInfo
	for i := range s.ports {
		id := frame.PortID(i)
		e := s.ports[id].Load()
		if e == nil || ports != nil && !slices.Contains(ports, id) {
			continue
		}
		e.last.mu.Lock()
		for j := range e.last.notes {
			n := &e.last.notes[j]
			if n.count == 0 {
				continue
			}
			d := DropInfo{
				Port: id, Reason: n.why, Count: n.count, Ago: time.Duration(now - n.last), For: time.Duration(n.last - n.first),
				VLAN: n.vlan, EtherType: n.etherType, Src: n.src, Dst: n.dst,
			}
			if n.kind >= header.KindIP {
				d.Tuple = n.tuple
			}
			list = append(list, d)
		}
		e.last.mu.Unlock()
	}
	slices.SortStableFunc(list, func(a, b DropInfo) int { return cmp.Compare(a.Ago, b.Ago) })
	return list
}
