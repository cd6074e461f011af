package dataplane

import (
	"sync/atomic"
	"time"

	"github.com/vswitch/vswitch/dataplane/fdb"
	"github.com/vswitch/vswitch/dataplane/frame"
	"github.com/vswitch/vswitch/dataplane/header"
)

// EventKind is what the layer 2 guards found.
type EventKind uint8

const (
	_ EventKind = iota // none
	// EventSpoof: a port used the MAC address of another station.
	EventSpoof
	// EventMACFlood: a port uses more source addresses than one station, or than its
	// limit of stations, explains. It would fill the FDB of another switch.
	EventMACFlood
	// EventLoop: what the switch flooded came back at Port. A container that bridges
	// two of its ports does that.
	EventLoop

	EventBadSource     // a source address that no station has
	EventReservedGroup // to the bridge itself: STP, LLDP, 802.1X
	EventNoIPv6        // IPv6 where there is none
	EventForwarded     // the host forwarded a packet of others into the network
	EventIPSpoof       // a packet from an address that the port was not given
	EventForgedSource  // a packet by an uplink from an address of ours
	EventARPSpoof      // ARP that speaks for it
	EventNDSpoof       // neighbour discovery that speaks for it
	EventRogueRouter   // a router advertisement or a redirect (RFC 6104)
	EventRogueDHCP     // a DHCP server's message
	EventUnreadable    // headers that hide what a packet is

	// EventFlap: a station moved between Port and Other too often and stays on
	// Other for a minute.
	EventFlap
	// EventStorm: a port floods more than it may.
	EventStorm
	// EventMove: a station moved from Other to Port.
	EventMove
	// EventQuota: the container at Port begins more flows than it may.
	EventQuota
	// EventFDBFull: the FDB has no room for a station of Port.
	EventFDBFull
	// EventShare: Port, or the container at it, holds its part of Shared: entries of it gave
	// way, or were refused.
	EventShare

	numEventKinds
)

var eventNames = [numEventKinds]string{
	EventSpoof: "mac-spoof", EventMACFlood: "mac-flood", EventLoop: "loop",
	EventBadSource: "bad-source", EventReservedGroup: "reserved-group", EventNoIPv6: "no-ipv6",
	EventForwarded: "not-from-host", EventIPSpoof: "ip-spoof", EventForgedSource: "forged-source", EventARPSpoof: "arp-spoof", EventNDSpoof: "nd-spoof",
	EventRogueRouter: "rogue-router", EventRogueDHCP: "rogue-dhcp", EventUnreadable: "unreadable",
	EventFlap: "mac-flap", EventStorm: "storm", EventMove: "port-moved", EventQuota: "limit-hit", EventFDBFull: "table-full",
	EventShare: "share-reached",
}

// String returns a word for logs and the interface.
func (k EventKind) String() string { return eventNames[k] }

// OfStation reports whether MAC is what the event is about.
func (k EventKind) OfStation() bool {
	return k != EventStorm && k != EventQuota && k != EventMACFlood && k != EventFDBFull && k != EventShare
}

// OfHabit reports whether stations that mean no harm do it too: what they send is lost
// and nobody is fooled.
func (k EventKind) OfHabit() bool {
	return k == EventMove || k == EventReservedGroup || k == EventNoIPv6
}

// guardEvents is what a frame that guard has dropped is told as; a source address of
// another station is looked at further, see tellSource.
var guardEvents = [NumDropReasons]EventKind{
	DropBadSource: EventBadSource, DropReservedGroup: EventReservedGroup, DropNoIPv6: EventNoIPv6,
	DropSpoofedMAC: EventSpoof, DropNotFromHost: EventForwarded, DropSpoofedIP: EventIPSpoof,
	DropForgedSource: EventForgedSource, DropSpoofedARP: EventARPSpoof, DropSpoofedND: EventNDSpoof, DropRouterMessage: EventRogueRouter,
	DropDHCPServer: EventRogueDHCP, DropUnreadable: EventUnreadable,
}

// Event is one finding.
type Event struct {
	Kind    EventKind
	Network frame.NetworkID
	VLAN    uint16
	MAC     header.MAC
	Port    frame.PortID // where it came in
	Other   frame.PortID // where the station belongs, or frame.NoPort
	Addr    header.Addr  // that the frame spoke for or came from; zero: none
	Shared  Shared       // of EventShare
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
	switch kind {
	case EventForwarded, EventIPSpoof, EventForgedSource, EventARPSpoof, EventNDSpoof:
		e.Addr = spokenFor(f)
	}
	w.sw.notices.tell(e)
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

// tellGuard reports a frame that guard has dropped.
func (w *worker) tellGuard(s *Snapshot, f *frame.Frame, why DropReason) {
	switch why {
	case DropBadSource, DropSpoofedMAC:
		w.tellSource(s, f, why)
	default:
		w.tell(s, guardEvents[why], f, frame.NoPort)
	}
}

// tellSource reports a frame whose source address is not one of its port's, as what it
// most likely is: one that went round, one of a flood of addresses, or a lie.
func (w *worker) tellSource(s *Snapshot, f *frame.Frame, why DropReason) {
	kind := guardEvents[why]
	switch {
	case w.sw.flooded.has(f, w.now):
		kind = EventLoop
	case w.manySources(f):
		kind = EventMACFlood
	}
	if !w.due(kind, f) {
		return
	}
	other := w.sw.fdb.Lookup(fdb.KeyOf(s.networkOf(f.In), f.VLAN, f.Layers.Src))
	if other == f.In || kind == EventMACFlood {
		other = frame.NoPort
	}
	w.report(s, kind, f, other)
}

// tellMalformed looks at the source address of a frame that parse has dropped: floods of
// addresses are often made of nothing that could be parsed.
func (w *worker) tellMalformed(s *Snapshot, f *frame.Frame) {
	in := s.ports[f.In]
	if in.Kind != PortContainer || f.Layers.Src.IsZero() || in.Guarded && f.Layers.Src == in.MAC {
		return
	}
	if in.Guarded {
		w.tellSource(s, f, DropSpoofedMAC)
	} else if w.manySources(f) {
		w.tell(s, EventMACFlood, f, frame.NoPort)
	}
}

// floodSources is how often a second the source address of what is dropped at a port may
// change before it counts as a flood of addresses.
const floodSources = 32

// sources counts how often the source address of dropped frames changes.
type sources struct {
	last    atomic.Uint64
	since   atomic.Int64 // ns
	changes atomic.Uint32
}

// manySources notes a frame's source and reports whether there were many in the last
// second. It is called for frames that are dropped.
func (w *worker) manySources(f *frame.Frame) bool {
	e := w.sw.ports[f.In].Load()
	if e == nil {
		return false
	}
	m := f.Layers.Src
	src := uint64(m[0])<<40 | uint64(m[1])<<32 | uint64(m[2])<<24 | uint64(m[3])<<16 | uint64(m[4])<<8 | uint64(m[5])
	changed := e.sources.last.Swap(src) != src
	if w.now-e.sources.since.Load() >= int64(time.Second) {
		e.sources.since.Store(w.now)
		e.sources.changes.Store(0)
	}
	if !changed {
		return e.sources.changes.Load() > floodSources
	}
	return e.sources.changes.Add(1) > floodSources
}

// spokenFor is the address that a frame claims which parse has passed: the sender of ARP, the target of
// neighbour discovery, else the source of a packet; zero for none.
func spokenFor(f *frame.Frame) header.Addr {
	l := &f.Layers
	switch {
	case l.Kind == header.KindARP:
		return header.ReadARP(f.Data(), l).Sender
	case l.Kind < header.KindIP:
		return header.Addr{}
	case l.Tuple.Proto == header.ProtoICMPv6 && l.L4 != 0 && l.Flags&header.FlagFragment == 0:
		switch l.ICMPType {
		case header.ICMP6NeighborSolicit, header.ICMP6NeighborAdvert:
			var n header.Neighbor
			if header.ReadNeighbor(f.Data(), l, &n) && !n.Target.IsUnspecified() {
				return n.Target
			}
		}
	}
	return l.Tuple.Src
}

func (s *Snapshot) networkOf(id frame.PortID) frame.NetworkID {
	if p := s.ports[id]; p != nil {
		return p.Network
	}
	return 0
}
