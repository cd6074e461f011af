package dataplane

import (
	"github.com/vswitch/vswitch/dataplane/fdb"
	"github.com/vswitch/vswitch/dataplane/frame"
)

// maxMACs is how many stations one port may have by default.
const maxMACs = 8192

// learnt is a station that the FDB does not know, or knows elsewhere.
type learnt struct {
	key fdb.Key
	f   *frame.Frame
}

// learn notes on which port each source address spoke. The whole batch is
// learned before any of it is forwarded, so that an answer in the same batch is
// not flooded. It drops a frame whose source is pinned to another port, or is
// frozen there. Guarded ports and the host's have pinned stations only, and
// guard has looked.
func (w *worker) learn(s *Snapshot) {
	db, sec := w.sw.fdb, fdb.Seconds(w.now)
	keep, last := w.live[:0], fdb.Key{}
	w.learns, w.lies = w.learns[:0], w.lies[:0]
	db.RLock()
	for _, f := range w.live {
		in := s.ports[f.In]
		if in.Guarded || in.Kind != PortContainer {
			keep = append(keep, f)
			continue
		}
		key := fdb.KeyOf(in.Network, f.VLAN, f.Layers.Src)
		if key != last { // a batch is mostly one station's
			switch db.HearLocked(key, f.In, sec) {
			case fdb.HeardSpoof:
				w.lies = append(w.lies, f)
				continue
			case fdb.HeardFlap:
				w.drop(f, DropFlapping)
				continue
			case fdb.HeardNew:
				w.learns = append(w.learns, learnt{key, f})
			}
			last = key
		}
		keep = append(keep, f)
	}
	db.RUnlock()
	w.live = keep
	for _, f := range w.lies {
		w.tellSource(s, f, DropSpoofedMAC)
		w.drop(f, DropSpoofedMAC)
	}
	if len(w.learns) == 0 {
		return
	}
	db.Lock()
	for _, n := range w.learns {
		if s.networks[n.key.Network()] == nil || w.sw.ports[n.f.In].Load() == nil {
			continue
		}
		was := db.LookupLocked(n.key)
		switch db.LearnLocked(n.key, n.f.In, s.ports[n.f.In].MaxMACs, sec) {
		case fdb.LearnedFrozen:
			w.tell(s, EventFlap, n.f, db.LookupLocked(n.key))
		case fdb.LearnedMoved:
			w.tell(s, EventMove, n.f, was)
		case fdb.LearnedAtLimit:
			w.tell(s, EventMACFlood, n.f, frame.NoPort)
		case fdb.LearnedFull:
			w.tell(s, EventFDBFull, n.f, frame.NoPort)
			if w.manySources(n.f) {
				w.tell(s, EventMACFlood, n.f, frame.NoPort)
			}
		}
	}
	db.Unlock()
}
