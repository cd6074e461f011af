package edgetest

import (
	"context"
	"fmt"
	"math/bits"
	"net/netip"
	"slices"
	"sync/atomic"

	"github.com/vswitch/vswitch/control/host"
)

// watcher is a running Watch with the events that wait for it.
type watcher struct {
	events []host.Event // guarded by Kernel.mu
	kick   chan struct{}
}

// tell gives an event to all that watch the host.
func (k *Kernel) tell(e host.Event) {
	for w := range k.watchers {
		w.events = append(w.events, e)
		select {
		case w.kick <- struct{}{}:
		default:
		}
	}
}

func (k *Kernel) tellLink(l *link) {
	if l.ns == k.host {
		k.tell(host.Event{Kind: host.LinkChanged, Link: l.Link})
	}
}

// Overrun is a queue of events that was too long: those that wait are lost.
func (k *Kernel) Overrun() {
	k.mu.Lock()
	defer k.mu.Unlock()
	for w := range k.watchers {
		w.events = nil
	}
	k.tell(host.Event{Kind: host.Resync})
}

// Watch implements edge.Reader.
func (e *Edge) Watch(ctx context.Context, fn func(host.Event)) error {
	unlock, err := e.enter("Watch")
	if err != nil {
		return err
	}
	w := &watcher{kick: make(chan struct{}, 1)}
	e.k.watchers[w] = true
	unlock()
	defer func() {
		e.k.mu.Lock()
		delete(e.k.watchers, w)
		e.k.mu.Unlock()
	}()
	fn(host.Event{Kind: host.Resync})
	for {
		e.k.mu.Lock()
		events := w.events
		w.events = nil
		e.k.mu.Unlock()
		for _, ev := range events {
			if ctx.Err() == nil {
				fn(ev)
			}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-w.kick:
		}
	}
}

func (k *Kernel) links() []host.Link {
	var list []host.Link
	for _, l := range k.host.links {
		list = append(list, l.Link)
	}
	slices.SortFunc(list, func(a, b host.Link) int { return a.Index - b.Index })
	return list
}

// Links implements edge.Reader.
func (e *Edge) Links() ([]host.Link, error) {
	unlock, err := e.enter("Links")
	if err != nil {
		return nil, err
	}
	defer unlock()
	return e.k.links(), nil
}

// Link implements edge.Reader.
func (e *Edge) Link(name string) (host.Link, error) {
	unlock, err := e.enter("Link")
	if err != nil {
		return host.Link{}, err
	}
	defer unlock()
	if l := e.k.host.linkNamed(name); l != nil {
		return l.Link, nil
	}
	return host.Link{}, errNoLink(name)
}

// Ruled implements edge.Reader: the model has the rules that a namespace begins with.
func (e *Edge) Ruled() ([2]bool, error) {
	unlock, err := e.enter("Ruled")
	if err != nil {
		return [2]bool{}, err
	}
	unlock()
	return [2]bool{}, nil
}

// WayOut implements edge.Reader.
func (e *Edge) WayOut(q host.WayQuery) (host.Route, error) {
	best := host.Route{Kind: host.Unreachable}
	routes, err := e.Routes()
	for _, r := range routes {
		if r.Prefix.Contains(q.Dst) && (best.Kind == host.Unreachable || r.Prefix.Bits() > best.Prefix.Bits()) && (q.Out == 0 || r.Ifindex == q.Out) {
			best = r
		}
	}
	best.Prefix = netip.PrefixFrom(q.Dst, q.Dst.BitLen())
	return best, err
}

// Addrs implements edge.Reader.
func (e *Edge) Addrs() ([]host.Addr, error) {
	unlock, err := e.enter("Addrs")
	if err != nil {
		return nil, err
	}
	defer unlock()
	var list []host.Addr
	for _, l := range e.k.host.links {
		list = append(list, l.addrs...)
	}
	return list, nil
}

// routesOf are all routes of a namespace: what the kernel makes for its addresses, and
// what somebody made. A link that is down has none.
func (k *Kernel) routesOf(ns *namespace) (list []host.Route) {
	for _, l := range ns.links {
		if !l.Up {
			continue
		}
		for _, a := range l.addrs {
			addr := a.Prefix.Addr()
			list = append(list, host.Route{Prefix: netip.PrefixFrom(addr, addr.BitLen()), Kind: host.Local, Ifindex: l.Index, Source: source(addr)})
			if !a.Prefix.IsSingleIP() {
				r := host.Route{Prefix: a.Prefix.Masked(), Ifindex: l.Index, Source: source(addr)}
				if addr.Is6() {
					r.Metric = 256
				}
				list = append(list, r)
			}
		}
	}
	for _, r := range ns.routes {
		if l := ns.at(r.Ifindex); r.Ifindex == 0 || l != nil && l.Up {
			list = append(list, r)
		}
	}
	return list
}

// source is what the kernel names as the preferred source in the routes of an address:
// only for IPv4.
func source(a netip.Addr) netip.Addr {
	if a.Is4() {
		return a
	}
	return netip.Addr{}
}

func bestRoutes(all []host.Route) (best []host.Route) {
	rank := func(r host.Route) int {
		if r.Kind == host.Local || r.Kind == host.Broadcast {
			return 0
		}
		return 1
	}
	for _, r := range all {
		i := slices.IndexFunc(best, func(o host.Route) bool { return o.Prefix == r.Prefix })
		switch {
		case i < 0:
			best = append(best, r)
		case rank(r) < rank(best[i]) || rank(r) == rank(best[i]) && r.Metric < best[i].Metric:
			best[i] = r
		}
	}
	return best
}

// Routes implements edge.Reader.
func (e *Edge) Routes() ([]host.Route, error) {
	unlock, err := e.enter("Routes")
	if err != nil {
		return nil, err
	}
	defer unlock()
	return bestRoutes(e.k.routesOf(e.k.host)), nil
}

// Overlaps implements edge.Reader.
func (e *Edge) Overlaps(p netip.Prefix) (string, bool) {
	unlock, err := e.enter("Overlaps")
	if err != nil {
		return err.Error(), true
	}
	defer unlock()
	return host.Overlapping(bestRoutes(e.k.routesOf(e.k.host)), p, func(index int) string {
		if l := e.k.host.at(index); l != nil {
			return l.Name
		}
		return ""
	})
}

// Neighbors implements edge.Reader.
func (e *Edge) Neighbors() ([]host.Neighbor, error) {
	unlock, err := e.enter("Neighbors")
	if err != nil {
		return nil, err
	}
	defer unlock()
	return slices.Clone(e.k.host.neighbors), nil
}

// Resolve implements edge.Neighbors. Nobody answers but by Learn.
func (e *Edge) Resolve(ifindex int, next netip.Addr) error {
	unlock, err := e.enter("Resolve")
	if err != nil {
		return err
	}
	defer unlock()
	if e.k.host.at(ifindex) == nil {
		return fmt.Errorf("resolve %s on interface %d: no such device", next, ifindex)
	}
	e.k.asked[next] = ifindex
	return nil
}

// Asked reports whether the kernel was told to ask for a neighbour.
func (k *Kernel) Asked(ifindex int, next netip.Addr) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.asked[next] == ifindex
}

// SetNeighbor implements edge.Neighbors.
func (e *Edge) SetNeighbor(n host.Neighbor) error {
	unlock, err := e.enter("SetNeighbor")
	if err != nil {
		return err
	}
	defer unlock()
	if e.k.host.at(n.Ifindex) == nil {
		return fmt.Errorf("neighbour %s on interface %d: no such device", n.Addr, n.Ifindex)
	}
	e.k.setNeighbor(n)
	return nil
}

// DelNeighbor implements edge.Neighbors.
func (e *Edge) DelNeighbor(ifindex int, addr netip.Addr) error {
	unlock, err := e.enter("DelNeighbor")
	if err != nil {
		return err
	}
	defer unlock()
	e.k.setNeighbor(host.Neighbor{Ifindex: ifindex, Addr: addr})
	return nil
}

// Facts are all that is there, a line each, in order: what a change that failed must
// leave as it was.
func (k *Kernel) Facts() (list []string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	say := func(format string, args ...any) { list = append(list, fmt.Sprintf(format, args...)) }
	for _, path := range keys(k.paths) {
		ns := k.paths[path]
		name := func(index int) string {
			if l := ns.at(index); l != nil {
				return l.Name
			}
			return "-"
		}
		say("%q open %d", path, ns.users)
		for _, l := range ns.links {
			say("%q link %s alias %q mac %s mtu %d up %v sealed %v shield %q port %v limit %v", path, l.Name, l.Alias, l.MAC, l.MTU, l.Up, l.sealed, l.shield, l.queue != nil, l.limit)
		}
		for _, r := range k.routesOf(ns) {
			say("%q route %s kind %d via %s dev %s metric %d", path, r.Prefix, r.Kind, r.Via, name(r.Ifindex), r.Metric)
		}
		for _, n := range ns.neighbors {
			say("%q neighbour %s %s dev %s", path, n.Addr, n.MAC, name(n.Ifindex))
		}
	}
	say("reserved %v", k.reserved)
	if e := k.process; e != nil {
		for _, h := range e.holds {
			say("held %d %s %d-%d", h.proto, h.addr, h.first, h.last)
		}
		for a, slot := range e.slots {
			say("slot %d of %s", slot, a)
		}
		for p, routed := range e.subnets {
			say("claimed %s, routed %v", p, routed)
		}
		for what, plane := range map[string][]uint64{"published": e.published, "opened": e.opened} {
			n := 0
			for i := range plane { // a container may just be going
				n += bits.OnesCount64(atomic.LoadUint64(&plane[i]))
			}
			say("bits %s %d", what, n)
		}
		say("peers %d ports %d steers %v", len(e.peers), len(e.ports), e.steers)
	}
	slices.Sort(list)
	return list
}

func keys[V any](m map[string]V) (list []string) {
	for k := range m {
		list = append(list, k)
	}
	slices.Sort(list)
	return list
}
