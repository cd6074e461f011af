package dataplane

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/vswitch/vswitch/dataplane/conntrack"
	"github.com/vswitch/vswitch/dataplane/frame"
)

// NoticeKind says which fields of a Notice hold.
type NoticeKind uint8

const (
	NoticeNone     NoticeKind = iota // nothing happened within the time
	NoticeClosed                     // the switch is closed: there will be no more
	NoticeGone                       // the device of Port has vanished; told once, the port stays, silent, until RemovePort
	NoticeWanted                     // the MAC address of Hop is wanted; the answer comes by SetNeighbors
	NoticeWay                        // the way out of Way is wanted; the answer comes by SetWay
	NoticePressure                   // what was refused since the last notice of this kind
	NoticeEvent                      // what the layer 2 guards found
)

// Notice is one thing that the switch tells control.
type Notice struct {
	Kind     NoticeKind
	Port     frame.PortID
	Hop      NeighborKey
	Way      WayKey
	Turn     uint64 // of the question for Way
	Pressure conntrack.Pressure
	Event    Event
	// Lost is the number of events that had no room since the last notice of one.
	Lost uint64
}

// notices is what waits for control. Nobody waits for control: each queue is bounded, and
// says what becomes of more.
type notices struct {
	gone   chan frame.PortID // room for every port
	wanted chan NeighborKey  // a hop without room is asked for again by the next frame
	events chan Event        // one without room is counted
	lost   atomic.Uint64

	refused chan conntrack.Pressure // room for one, see refuse
	told    conntrack.Pressure      // the sum of what refused has had; guarded by ticking
	ticking sync.Mutex
}

// noticedEvents is the room for events: a port tells of each kind once in ten seconds.
const noticedEvents = 256

func (n *notices) init() {
	*n = notices{
		gone: make(chan frame.PortID, MaxPorts), wanted: make(chan NeighborKey, 4*waitingHops),
		events: make(chan Event, noticedEvents), refused: make(chan conntrack.Pressure, 1),
	}
}

// Next takes the next notice, and waits for one at most so long. A port that is gone and
// a hop that frames wait for come before events. It is for one reader.
func (s *Switch) Next(wait time.Duration) Notice {
	n := &s.notices
	select {
	case k := <-s.ways.wanted:
		return s.ways.notice(k)
	default:
	}
	if got := n.ready(); got.Kind != NoticeNone || wait <= 0 {
		return got
	}
	late := time.NewTimer(wait)
	defer late.Stop()
	select {
	case <-s.done:
		return Notice{Kind: NoticeClosed}
	case id := <-n.gone:
		return Notice{Kind: NoticeGone, Port: id}
	case k := <-n.wanted:
		return Notice{Kind: NoticeWanted, Hop: k}
	case k := <-s.ways.wanted:
		return s.ways.notice(k)
	case p := <-n.refused:
		return Notice{Kind: NoticePressure, Pressure: p}
	case e := <-n.events:
		return Notice{Kind: NoticeEvent, Event: e, Lost: n.lost.Swap(0)}
	case <-late.C:
		return Notice{}
	}
}

// ready takes the most urgent notice that is there.
func (n *notices) ready() Notice {
	select {
	case id := <-n.gone:
		return Notice{Kind: NoticeGone, Port: id}
	default:
	}
	select {
	case k := <-n.wanted:
		return Notice{Kind: NoticeWanted, Hop: k}
	default:
	}
	select {
	case p := <-n.refused:
		return Notice{Kind: NoticePressure, Pressure: p}
	case e := <-n.events:
		return Notice{Kind: NoticeEvent, Event: e, Lost: n.lost.Swap(0)}
	default:
		return Notice{}
	}
}

// tell enters an event, or counts it as lost.
func (n *notices) tell(e Event) {
	select {
	case n.events <- e:
	default:
		n.lost.Add(1)
	}
}

// refuse tells what was refused since it last found room (RFC 6888 REQ-11 c). It is safe for
// concurrent use: what is read under the lock is never less than what was told.
func (n *notices) refuse(pressure func() conntrack.Pressure) {
	n.ticking.Lock()
	defer n.ticking.Unlock()
	is := pressure()
	more := conntrack.Pressure{
		TableFull: is.TableFull - n.told.TableFull, Evicted: is.Evicted - n.told.Evicted,
		PortsExhausted: is.PortsExhausted - n.told.PortsExhausted,
	}
	if more == (conntrack.Pressure{}) {
		return
	}
	select {
	case n.refused <- more:
		n.told = is
	default: // the reader has not taken the last one: the next tick tells the sum
	}
}
