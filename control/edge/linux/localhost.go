package linux

import (
	"errors"
	"net/netip"
	"sync"
	"time"

	"github.com/vswitch/vswitch/control/kernel"
	"github.com/vswitch/vswitch/control/relay"
)

// localhost leads the host's own connections to published ports to the containers when they are
// made (kernel.Connects), and ends those whose port leads elsewhere since. A relay has the others.
type localhost struct {
	mu       sync.Mutex       // guards what follows
	relay    *relay.Client    // nil before Steer
	told     []relay.Way      // of the last Lead
	connects *kernel.Connects // nil: everything is relayed
	none     error            // why
	own      []netip.Addr     // of the last Lead
	ways     []kernel.Way     // likewise, those that can be led
	all      relay.Ways       // likewise
	// Where ways led that lead elsewhere since sockets were looked at, and since they were a second
	// time.
	left, leftLate map[netip.Addr]bool
	again          *time.Timer // the second time; nil: never
}

// Lead implements edge.Edge.
func (e *Edge) Lead(own map[netip.Addr]bool, ways []relay.Way) {
	l := &e.localhost
	l.mu.Lock()
	defer l.mu.Unlock()
	l.own, l.ways = l.own[:0], l.ways[:0]
	for a := range own {
		if a = a.Unmap(); !a.IsLoopback() && !a.IsLinkLocalUnicast() { // fe80::1 may be many
			l.own = append(l.own, a)
		}
	}
	for _, w := range ways {
		if w.To.Addr().Is4() == w.Addr.Is4() { // else it is the relay's to change the family
			l.ways = append(l.ways, kernel.Way{Proto: w.Proto, Addr: w.Addr, First: w.First, Last: w.Last, To: w.To})
		}
	}
	l.all.Set(ways)
	l.leadLocked(e)
	if l.told = ways; l.relay != nil {
		l.relay.Lead(ways)
	}
}

func (l *localhost) leadLocked(e *Edge) {
	if l.connects == nil {
		return
	}
	left, err := l.connects.Set(l.own, l.ways)
	if err != nil {
		e.cfg.Log.Error("lead connections of the host to published ports", "err", err)
	}
	if len(left) == 0 {
		return
	}
	for _, a := range left {
		l.left[a], l.leftLate[a] = true, true
	}
	l.laterLocked(e)
}

// laterLocked looks at the sockets once more, when every program has ended that may have led one by
// what was: such a socket is in no list until then.
func (l *localhost) laterLocked(e *Edge) {
	if l.again != nil {
		l.again.Reset(kernel.HookTime)
		return
	}
	l.again = time.AfterFunc(kernel.HookTime, func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.endLeftLocked(e, l.leftLate)
	})
}

// ConnectHooks implements edge.Edge.
func (e *Edge) ConnectHooks() error {
	e.localhost.mu.Lock()
	defer e.localhost.mu.Unlock()
	switch {
	case e.localhost.connects != nil:
		return nil
	case e.localhost.none == nil:
		return errors.New("the daemon is starting")
	}
	return e.localhost.none
}

// begin leads from now on, where the kernel and the cgroup allow it. A socket that cannot be
// ended would speak with another container some day.
func (l *localhost) begin(e *Edge, r *relay.Client) {
	dir, err := e.cgroup()
	if err == nil {
		err = e.Host.Destroys()
	}
	var c *kernel.Connects
	if err == nil {
		var keep kernel.Keeper
		if e.cfg.Holder != nil {
			keep = e.cfg.Holder
		}
		c, err = e.Kernel.LeadConnects(dir, keep)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.relay = r
	r.Lead(l.told)
	if l.connects, l.none = c, err; err != nil {
		e.cfg.Log.Debug("connections of the host to published ports are relayed", "err", err)
		return
	}
	l.left, l.leftLate = make(map[netip.Addr]bool), make(map[netip.Addr]bool)
	l.leadLocked(e)
	if _, before := c.Led(); before {
		l.endLocked(e, func(netip.Addr) bool { return true })
	}
}

// recheck ends the connections whose port leads elsewhere.
func (l *localhost) recheck(e *Edge) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.endLeftLocked(e, l.left)
}

// endLeftLocked ends what went to containers that were left, and forgets them.
func (l *localhost) endLeftLocked(e *Edge, left map[netip.Addr]bool) {
	if l.connects == nil || len(left) == 0 {
		return
	}
	if n, before := l.connects.Led(); n > 0 || before {
		l.endLocked(e, func(a netip.Addr) bool { return left[a] })
	}
	clear(left)
}

func (l *localhost) endLocked(e *Edge, went func(netip.Addr) bool) {
	sockets, err := e.Host.Connected(went)
	if err != nil {
		e.cfg.Log.Error("look for connections of the host to published ports that lead elsewhere", "err", err)
		return
	}
	for _, s := range sockets {
		asked, to, ok := l.connects.Asked(s.Proto, s.Local, s.Peer)
		if !ok || s.Peer != to {
			continue
		}
		if now, ok := l.all.Resolve(s.Proto, asked); ok && now == to {
			continue
		}
		if err := e.Host.Destroy(s); err != nil {
			e.cfg.Log.Error("a port leads elsewhere, and a connection of the host goes on", "port", asked, "to", to, "err", err)
		}
	}
}

// end leads nobody any more; kept: sockets that were led go on.
func (l *localhost) end(kept bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.again != nil {
		l.again.Stop()
	}
	if l.connects != nil {
		l.connects.Close(kept)
	}
	l.connects, l.none = nil, errors.New("the daemon is ending")
}
