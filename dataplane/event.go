package dataplane

import (
	"time"

	"github.com/vswitch/vswitch/dataplane/frame"
	"github.com/vswitch/vswitch/dataplane/header"
)

// EventKind is what the layer 2 guards found.
type EventKind uint8

const (
	// EventSpoof: a port used the MAC address of another station.
	EventSpoof EventKind = iota
	// EventLoop: what the switch flooded, or its own address, came back at Port.
	// A container that bridges two of its ports does that.
	EventLoop
	// EventFlap: a station moved between Port and Other too often and stays on
	// Other for a minute.
	EventFlap
	// EventStorm: a port floods more than it may.
	EventStorm
	// EventMove: a station moved from Other to Port.
	EventMove
	// EventQuota: the container at Port begins more flows than it may.
	EventQuota
	// EventStations: more stations are behind Port than it may have; EventFDBFull:
	// the FDB has no room for one of Port.
	EventStations
	EventFDBFull

	numEventKinds
)

// String returns a word for logs and the interface.
func (k EventKind) String() string {
	return [...]string{"mac-spoof", "loop", "mac-flap", "storm", "port-moved", "limit-hit", "limit-hit", "table-full"}[k]
}

// OfStation reports whether MAC is what the event is about.
func (k EventKind) OfStation() bool {
	return k != EventStorm && k != EventQuota && k != EventStations && k != EventFDBFull
}

// Event is one finding.
type Event struct {
	Kind    EventKind
	Network NetworkID
	VLAN    uint16
	MAC     header.MAC
	Port    frame.PortID // where it came in
	Other   frame.PortID // where the station belongs, or frame.NoPort
}

// eventPause is how long a port is not told of again for the same reason.
const eventPause = 10 * time.Second

// tell reports a finding about a frame. It never waits: what does not fit into
// the queue is lost, the counters have it.
func (w *worker) tell(s *Snapshot, kind EventKind, f *frame.Frame, other frame.PortID) {
	if w.due(kind, f) {
		w.report(s, kind, f, other)
	}
}

func (w *worker) report(s *Snapshot, kind EventKind, f *frame.Frame, other frame.PortID) {
	e := Event{Kind: kind, Network: s.networkOf(f.In), VLAN: f.VLAN, MAC: f.Layers.Src, Port: f.In, Other: other}
	select {
	case w.sw.events <- e:
	default:
	}
}

// due reports whether a finding is to be told now.
func (w *worker) due(kind EventKind, f *frame.Frame) bool {
	e := w.sw.ports[f.In].Load()
	if e == nil {
		return false
	}
	last := e.told[kind].Load()
	return (last == 0 || w.now-last >= int64(eventPause)) && e.told[kind].CompareAndSwap(last, w.now)
}

// tellSpoof reports a frame whose source belongs to another port.
func (w *worker) tellSpoof(s *Snapshot, f *frame.Frame) {
	if !w.due(spoofKind(f), f) {
		return
	}
	db := w.sw.fdb
	db.mu.RLock()
	other := db.lookupLocked(fdbKeyOf(s.networkOf(f.In), f.VLAN, f.Layers.Src))
	db.mu.RUnlock()
	if other == f.In {
		other = frame.NoPort
	}
	w.report(s, spoofKind(f), f, other)
}

// spoofKind tells a loop from a lie, as well as one frame can: what comes back
// is what was flooded.
func spoofKind(f *frame.Frame) EventKind {
	if f.Layers.Dst.IsMulticast() {
		return EventLoop
	}
	return EventSpoof
}

func (s *Snapshot) networkOf(id frame.PortID) NetworkID {
	if p := s.ports[id]; p != nil {
		return p.Network
	}
	return 0
}
