package dataplane

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/vswitch/vswitch/dataplane/conntrack"
	"github.com/vswitch/vswitch/dataplane/frame"
	"github.com/vswitch/vswitch/dataplane/header"
)

// Where rules of policy routing say which way, and for the answers to what came in by one of
// several uplinks, no table of routes says where a packet leaves: that depends on its source, too.
// Nor does one for a container with a way of its own (PortConfig.Egress). Then the kernel is asked, off the frames' way, and the first of them waits for the answer in the
// waiting room (ADR 44).

// WayKey is a question for the way out.
type WayKey struct {
	Network frame.NetworkID // of a container whose packet is forwarded; 0: the host answers from Src
	Uplink  frame.PortID    // by which it was asked, frame.NoPort: that is not known; with Network 0
	Chosen  string          // PortConfig.Egress of the container; with Network 0
	Src     header.Addr
	Dst     header.Addr
}

// waysRoom is how many answers are kept.
const waysRoom = 65536

// ways are the answers that are known. All of them are forgotten when they may be others.
type ways struct {
	wanted chan WayKey // for control; one without room is asked for again by the next frame

	mu    sync.RWMutex
	known map[WayKey]*route
	turn  atomic.Uint64 // grows, under mu, when what was asked before is no answer any more
}

// wayCache is what a worker has found lately, by the hash of a frame: the frames of a flow take no
// lock that other workers have.
type wayCache [256]struct {
	key   WayKey
	turn  uint64
	route *route
}

// byRules takes the place of a route that is not known yet.
var byRules = route{RouteConfig: RouteConfig{Kind: RouteUplink}}

// wayOf is what the kernel is asked about a packet with a route by the tables; ok is false where
// those say all.
func (s *Snapshot) wayOf(r *routed) (k WayKey, ok bool) {
	if r.in.Kind != PortContainer || r.route != nil && r.route.Kind != RouteUplink && r.route.Kind != RouteUnreachable {
		return k, false
	}
	ruled := s.ruled[family(r.to.Dst)]
	if r.kind == conntrack.KindPublish || r.kind == conntrack.KindInbound {
		return WayKey{Uplink: frame.PortID(r.came - 1), Src: r.to.Src, Dst: r.to.Dst}, ruled || s.byUplink
	}
	if r.in.Egress != "" {
		return WayKey{Chosen: r.in.Egress, Src: r.f.Layers.Tuple.Src, Dst: r.to.Dst}, true
	}
	return WayKey{Network: r.in.Network, Src: r.f.Layers.Tuple.Src, Dst: r.to.Dst}, ruled
}

func (w *ways) find(k WayKey) *route {
	w.mu.RLock()
	defer w.mu.RUnlock()
	return w.known[k]
}

// wayKnown is find, by what this worker has found before.
func (w *worker) wayKnown(r *routed, k WayKey) *route {
	turn, at := w.sw.ways.turn.Load(), &w.ways[r.hash%uint32(len(w.ways))]
	if at.route == nil || at.turn != turn || at.key != k {
		at.key, at.turn, at.route = k, turn, w.sw.ways.find(k)
	}
	return at.route
}

// way finds the route of a frame that the kernel has to be asked about.
func (w *worker) way(r *routed, k WayKey) DropReason {
	found := w.wayKnown(r, k)
	if found == nil && w.sw.dry {
		found = w.sw.ways.await(k)
	}
	if found == nil {
		why := w.wait(r, awaited{way: k})
		if why == deferred {
			w.sw.frags.forget(r.f)
		}
		return why
	}
	if r.route = found; k.Chosen != "" && found.Kind != RouteUplink {
		return DropNoEgress
	}
	return NotDropped
}

// dryWait is how long a dry run waits for an answer.
const dryWait = time.Second

// await asks for a way and waits for the answer; nil when none comes.
func (w *ways) await(k WayKey) (found *route) {
	select {
	case w.wanted <- k:
	default:
	}
	for waited := time.Duration(0); waited < dryWait; waited += time.Millisecond {
		if found = w.find(k); found != nil {
			break
		}
		time.Sleep(time.Millisecond)
	}
	return found
}

// moved reports whether a masqueraded flow left from another address than it would now, and ends
// it then, as Linux does where the interface is another.
func (w *worker) moved(r *routed) bool {
	if !r.tracked || r.kind != conntrack.KindMasquerade || r.quoted != nil || r.route.Kind != RouteUplink || r.route.source == r.to.Src {
		return false
	}
	t := w.sw.conntrack
	if ref, sh := t.LookupHashed(r.hash, &r.f.Layers.Tuple); ref != 0 {
		sh.RUnlock()
		t.Remove(ref, func(c *conntrack.Conn) bool { return c.Kind == conntrack.KindMasquerade && c.Reply.Dst == r.to.Src })
	}
	r.tracked, r.to, r.rule = false, r.f.Layers.Tuple, nil
	return true
}

// notice is the question for a way as control is told of it.
func (w *ways) notice(k WayKey) Notice {
	w.mu.RLock()
	defer w.mu.RUnlock()
	return Notice{Kind: NoticeWay, Way: k, Turn: w.turn.Load()}
}

// SetWay is the answer to a NoticeWay, and sends what waited for it. Prefix of the route is the
// destination. Where the answer may be another by now it is asked for again.
func (s *Switch) SetWay(n Notice, rc RouteConfig) {
	w := s.ways
	r, err := s.snapshot.Load().newRoute(rc)
	if err != nil {
		r = &route{RouteConfig: RouteConfig{Kind: RouteUnreachable}}
	}
	w.mu.Lock()
	stale := w.turn.Load() != n.Turn
	if !stale && len(w.known) >= waysRoom {
		for o := range w.known {
			delete(w.known, o)
			break
		}
	}
	if !stale {
		w.known[n.Way] = r
	}
	w.mu.Unlock()
	if stale {
		select {
		case w.wanted <- n.Way:
		default:
		}
		return
	}
	if s.waiting.release(func(a *awaited) bool { return a.way == n.Way }) {
		s.workers[0].poller.Wake()
	}
}

// ForgetWays has the kernel asked anew: its links, addresses, routes or rules are others. Rows that
// were decided by an answer end.
func (s *Switch) ForgetWays() {
	w := s.ways
	w.mu.Lock()
	had := len(w.known)
	clear(w.known)
	w.turn.Add(1)
	w.mu.Unlock()
	if had > 0 {
		s.grace()
		s.flows.revalidate(s, func(r *flowRow) bool { return r.routed })
	}
}

// renew keeps the answers that a new snapshot can still say, in its words.
func (w *ways) renew(s *Snapshot) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.turn.Add(1)
	for k, was := range w.known {
		if r, err := s.newRoute(was.RouteConfig); err == nil {
			w.known[k] = r
		} else {
			delete(w.known, k)
		}
	}
}
