package conntrack

import (
	"time"

	"github.com/vswitch/vswitch/dataplane/frame"
	"github.com/vswitch/vswitch/dataplane/header"
)

// Info describes one tracked flow.
type Info struct {
	Orig, Reply    header.Tuple // as the first packet of each direction came in
	Kind           Kind
	State          string
	Port           frame.PortID // the container's; of a bridged flow that of the side that began it
	Other          frame.PortID // of a bridged flow that of the other side, or frame.NoPort
	Packets, Bytes [2]uint64    // of the first packet's direction, of the other
	Rate           uint64       // bytes a second of both, between the last two sweeps
	Age, Idle      time.Duration
	Expires        time.Duration
	Created        int64 // of the switch's clock, ns: with Orig it names the flow
	Closed         bool  // its ends have given it up
	Lent           bool  // others have its outside port for other peers
	// Carried is for how long the kernel has carried it, in a direction at least; 0: the switch does.
	Carried time.Duration
}

func (c *Conn) info(now int64, t *Limits) Info {
	return Info{
		Orig: c.Orig, Reply: c.Reply, Kind: c.Kind, Port: c.Port, Other: frame.NoPort,
		State:   stateNames[c.st()],
		Packets: [2]uint64{c.packets[0].Load(), c.packets[1].Load()},
		Bytes:   [2]uint64{c.bytes[0].Load(), c.bytes[1].Load()},
		Rate:    c.meter.Rate(),
		Created: c.created.Load(), Closed: c.st().closed(), Lent: c.nat == natLends,
		Age:     time.Duration(now - c.created.Load()),
		Idle:    time.Duration(now - c.lastSeen.Load()),
		Expires: time.Duration(c.expires(t) - now),
	}
}

// MergeParts makes one flow of what several workers have seen of a bridged one: two may
// each have seen one direction.
func MergeParts(parts []Info) []Info {
	list := make([]Info, 0, len(parts))
	at := make(map[header.Tuple]int, len(parts)) // in list
	for i := range parts {
		p := &parts[i]
		if j, ok := at[p.Orig]; ok {
			list[j].merge(p, 0)
		} else if j, ok := at[p.Reply]; ok {
			list[j].merge(p, 1)
		} else {
			at[p.Orig] = len(list)
			list = append(list, *p)
		}
	}
	return list
}

// merge adds what another worker counted of the same flow; turned says that it
// saw the other side first.
func (i *Info) merge(o *Info, turned int) {
	seen := o.State
	if turned == 1 && o.Age > i.Age { // the elder knows who began
		i.Orig, i.Reply, i.Port, i.Other, i.Created = o.Orig, o.Reply, o.Port, o.Other, o.Created
		i.State = turnedState(i.State)
		i.Packets[0], i.Packets[1] = i.Packets[1], i.Packets[0]
		i.Bytes[0], i.Bytes[1] = i.Bytes[1], i.Bytes[0]
		turned = 0
	}
	if turned == 1 {
		seen = turnedState(seen)
	}
	i.State, i.Closed = mergeStates(i.State, seen)
	i.Carried = max(i.Carried, o.Carried)
	for d := range 2 {
		i.Packets[d] += o.Packets[d^turned]
		i.Bytes[d] += o.Bytes[d^turned]
	}
	i.Rate += o.Rate
	i.Age, i.Idle = max(i.Age, o.Age), min(i.Idle, o.Idle)
	// Each has seen one direction alone: together they have seen both.
	switch {
	case i.Packets[0] == 0 || i.Packets[1] == 0:
	case i.State == stateNames[stateInit]:
		i.State = stateNames[stateEstablished]
	case i.State == stateNames[stateUDPOnce]:
		i.State = stateNames[stateUDP]
	}
}

// StateSeen is the word for a flow of which only the headers were looked at: its
// protocol, the flags of TCP that were seen of each side, and whether both have spoken.
// closed says that its ends have given it up.
func StateSeen(proto uint8, flags [2]uint8, both bool) (state string, closed bool) {
	st := stateInit
	switch {
	case proto != header.ProtoTCP && both:
		st = stateUDP
	case proto != header.ProtoTCP:
		st = stateUDPOnce
	case (flags[0]|flags[1])&header.TCPRST != 0, flags[0]&flags[1]&header.TCPFIN != 0:
		return stateNames[stateClosing], true
	case flags[0]&header.TCPFIN != 0:
		st = stateClientFin
	case flags[1]&header.TCPFIN != 0:
		st = stateServerFin
	case both:
		st = stateEstablished
	}
	return stateNames[st], false
}

// mergeStates is the state of a flow of which two have seen a part each, from the same side.
func mergeStates(a, b string) (state string, closed bool) {
	fin := [2]string{stateNames[stateClientFin], stateNames[stateServerFin]}
	switch closing := stateNames[stateClosing]; {
	case a == closing, b == closing, a == fin[0] && b == fin[1], a == fin[1] && b == fin[0]:
		return closing, true
	case b == fin[0], b == fin[1]:
		return b, false
	}
	return a, false
}

// turnedState is the state as the other side sees it.
func turnedState(state string) string {
	switch state {
	case stateNames[stateClientFin]:
		return stateNames[stateServerFin]
	case stateNames[stateServerFin]:
		return stateNames[stateClientFin]
	}
	return state
}

// States are the words for the states of flows.
func States() []string { return stateNames[stateFree+1:] }
