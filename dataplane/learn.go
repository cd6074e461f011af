package dataplane

import "github.com/vswitch/vswitch/dataplane/frame"

// learnt is a station that the FDB does not know, or knows elsewhere.
type learnt struct {
	key fdbKey
	f   *frame.Frame
}

// learn notes on which port each source address spoke. The whole batch is
// learned before any of it is forwarded, so that an answer in the same batch is
// not flooded. It drops a frame whose source is pinned to another port, or is
// frozen there. Guarded ports and the host's have pinned stations only, and
// guard has looked.
func (w *worker) learn(s *Snapshot) {
	db, sec := w.sw.fdb, seconds(w.now)
	keep, last := w.live[:0], fdbKey{}
	w.learns = w.learns[:0]
	db.mu.RLock()
	for _, f := range w.live {
		in := s.ports[f.In]
		if in.Guarded || in.Kind != PortContainer {
			keep = append(keep, f)
			continue
		}
		key := fdbKeyOf(in.Network, f.VLAN, f.Layers.Src)
		if key != last { // a batch is mostly one station's
			switch db.hearLocked(key, f.In, sec) {
			case heardSpoof:
				w.tell(s, spoofKind(f), f, db.lookupLocked(key))
				w.drop(f, DropSpoofedMAC)
				continue
			case heardFlap:
				w.drop(f, DropFlapping)
				continue
			case heardNew:
				w.learns = append(w.learns, learnt{key, f})
			}
			last = key
		}
		keep = append(keep, f)
	}
	db.mu.RUnlock()
	w.live = keep
	if len(w.learns) == 0 {
		return
	}
	db.mu.Lock()
	for _, n := range w.learns {
		if s.networks[n.key.network()] == nil || w.sw.ports[n.f.In].Load() == nil {
			continue
		}
		was := db.lookupLocked(n.key)
		switch db.learnLocked(n.key, n.f.In, s.ports[n.f.In].MaxMACs, sec) {
		case learnedFrozen:
			w.tell(s, EventFlap, n.f, db.lookupLocked(n.key))
		case learnedMoved:
			w.tell(s, EventMove, n.f, was)
		case learnedAtLimit:
			w.tell(s, EventStations, n.f, frame.NoPort)
		case learnedFull:
			w.tell(s, EventFDBFull, n.f, frame.NoPort)
		}
	}
	db.mu.Unlock()
}
