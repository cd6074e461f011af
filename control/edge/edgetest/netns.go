package edgetest

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"

	"github.com/vswitch/vswitch/control/edge"
	"github.com/vswitch/vswitch/control/host"
)

// netns is an open namespace.
type netns struct {
	e      *Edge
	ns     *namespace
	closed bool // guarded by Kernel.mu
}

// ID implements edge.Netns.
func (n *netns) ID() (dev, inode uint64) { return 4, n.ns.ino }

// Close implements edge.Netns.
func (n *netns) Close() error {
	k := n.e.k
	k.mu.Lock()
	defer k.mu.Unlock()
	if !n.closed {
		n.closed = true
		n.ns.users--
		k.endNamespace(n.ns)
	}
	return nil
}

// OpenNetns implements edge.Namespaces.
func (e *Edge) OpenNetns(path string, pid int) (edge.Netns, error) {
	unlock, err := e.enter("OpenNetns")
	if err != nil {
		return nil, err
	}
	defer unlock()
	ns := e.k.paths[path]
	if path == "" {
		if ns = e.k.pids[pid]; ns == nil {
			return nil, fmt.Errorf("%w: process %d does not run: check --pid", host.ErrNoNetns, pid)
		}
	}
	if ns == nil {
		return nil, fmt.Errorf("%w at %s: check --netns, or make one with ip netns add", host.ErrNoNetns, path)
	}
	ns.users++
	return &netns{e: e, ns: ns}, nil
}

// IsHost implements edge.Namespaces.
func (e *Edge) IsHost(n edge.Netns) bool { return n.(*netns).ns == e.k.host }

// open is the namespace, which must not be closed.
func (n *netns) open() (*namespace, error) {
	if n.closed {
		return nil, fmt.Errorf("network namespace %s: %w", n.ns.path, os.ErrClosed)
	}
	return n.ns, nil
}

// checkIfname repeats the kernel's rule (dev_valid_name).
func checkIfname(name string) error {
	if name == "" || len(name) > 15 || name == "." || name == ".." || strings.ContainsAny(name, "/: \t\n\v\f\r") {
		return fmt.Errorf("interface name %q: the kernel refuses it", name)
	}
	return nil
}

// AddCable implements edge.Cables.
func (e *Edge) AddCable(ns edge.Netns, c edge.Cable) (index int, err error) {
	unlock, err := e.enter("AddCable")
	if err != nil {
		return 0, err
	}
	defer unlock()
	in, err := ns.(*netns).open()
	if err != nil {
		return 0, err
	}
	l, err := e.k.addPair(in, c)
	if err != nil {
		return 0, err
	}
	if err := e.k.configure(l.peer, c); err != nil {
		e.k.removeLink(l)
		return 0, fmt.Errorf("interface %s: %w", c.Name, err)
	}
	l.Up, l.Running, l.peer.Up, l.peer.Running = true, true, true, true
	e.k.tellLink(l)
	return l.Index, nil
}

// AddWaitingCable implements edge.Cables.
func (e *Edge) AddWaitingCable(c edge.Cable) (index int, err error) {
	unlock, err := e.enter("AddWaitingCable")
	if err != nil {
		return 0, err
	}
	defer unlock()
	l, err := e.k.addPair(e.k.host, c)
	if err != nil {
		return 0, err
	}
	l.Up = true
	e.k.tellLink(l)
	return l.Index, nil
}

// addPair makes both ends, down, the host's sealed.
func (k *Kernel) addPair(in *namespace, c edge.Cable) (*link, error) {
	for _, name := range []string{c.Name, c.Ifname} {
		if err := checkIfname(name); err != nil {
			return nil, err
		}
	}
	switch {
	case len(c.Alias) > 255:
		return nil, fmt.Errorf("interface %s: alias is longer than 255 bytes", c.Name)
	case len(c.MAC) != 6 || c.MAC[0]&1 != 0:
		return nil, fmt.Errorf("interface %s: MAC %s is no unicast Ethernet address", c.Ifname, c.MAC)
	case c.MTU < 68 || c.MTU > 65535:
		return nil, fmt.Errorf("interface %s: MTU %d is not between 68 and 65535", c.Ifname, c.MTU)
	case k.host.linkNamed(c.Name) != nil:
		return nil, fmt.Errorf("interface %s: %w: remove it first", c.Name, host.ErrExists)
	case in.linkNamed(c.Ifname) != nil:
		return nil, fmt.Errorf("interface %s: %w in the namespace: remove it first", c.Ifname, host.ErrExists)
	}
	outer := k.addLink(k.host, host.Link{Name: c.Name, Alias: c.Alias, Kind: "veth", MTU: c.MTU, Ethernet: true, MAC: []byte{2, 0xaa, 0, 0, 0, 1}})
	inner := k.addLink(in, host.Link{Name: c.Ifname, Kind: "veth", MTU: c.MTU, Ethernet: true, MAC: slices.Clone(c.MAC)})
	outer.peer, inner.peer, outer.sealed = inner, outer, true
	return outer, nil
}

// configure gives the container end its addresses and routes.
func (k *Kernel) configure(l *link, c edge.Cable) error {
	for _, p := range c.Addrs {
		if !p.IsValid() {
			return fmt.Errorf("invalid address %s", p)
		}
		k.addAddr(l, host.Addr{Prefix: p})
	}
	l.Up = true
	for _, gw := range c.Gateways {
		to := netip.PrefixFrom(anyOf(gw), 0)
		if l.ns.routeTo(to) >= 0 {
			return fmt.Errorf("%s: %w: remove it first, or choose an internal network", c.Ifname, host.ErrHasDefault)
		}
		if !l.reaches(gw) {
			return fmt.Errorf("%s: default route via %s: network is unreachable", c.Ifname, gw)
		}
		l.ns.routes = append(l.ns.routes, host.Route{Prefix: to, Ifindex: l.Index, Via: gw})
		if c.GatewayMAC != nil {
			l.ns.neighbors = append(l.ns.neighbors, host.Neighbor{Ifindex: l.Index, Addr: gw, MAC: c.GatewayMAC})
		}
	}
	for _, r := range c.Routes {
		if slices.ContainsFunc(k.routesOf(l.ns), func(o host.Route) bool { return o.Prefix == r.To && o.Metric == r.Metric && o.Kind == host.Unicast }) {
			return fmt.Errorf("%s: file exists: a route to %s is there already", c.Ifname, r.To)
		}
		if r.Via.IsValid() && !l.reaches(r.Via) {
			return fmt.Errorf("%s: route to %s: network is unreachable", c.Ifname, r)
		}
		l.ns.routes = append(l.ns.routes, host.Route{Prefix: r.To, Ifindex: l.Index, Via: r.Via, Metric: r.Metric})
	}
	return nil
}

func anyOf(a netip.Addr) netip.Addr {
	if a.Is4() {
		return netip.IPv4Unspecified()
	}
	return netip.IPv6Unspecified()
}

func (ns *namespace) routeTo(p netip.Prefix) int {
	return slices.IndexFunc(ns.routes, func(r host.Route) bool { return r.Prefix == p })
}

// reaches reports whether a next hop is in a subnet of the link.
func (l *link) reaches(via netip.Addr) bool {
	return slices.ContainsFunc(l.addrs, func(a host.Addr) bool { return a.Prefix.Masked().Contains(via) }) || via.IsLinkLocalUnicast()
}

// AdoptCable implements edge.Cables.
func (e *Edge) AdoptCable(index int, _ edge.Cable) error {
	unlock, err := e.enter("AdoptCable")
	if err != nil {
		return err
	}
	defer unlock()
	l := e.k.host.at(index)
	if l == nil {
		return fmt.Errorf("seal of interface %d: no such device", index)
	}
	l.sealed = true
	return nil
}

// CheckCable implements edge.Cables.
func (e *Edge) CheckCable(ns edge.Netns, index int, c edge.Cable) error {
	unlock, err := e.enter("CheckCable")
	if err != nil {
		return err
	}
	defer unlock()
	outer := e.k.host.linkNamed(c.Name)
	switch {
	case outer == nil:
		return fmt.Errorf("the host's end %s of %s has vanished", c.Name, c.Ifname)
	case outer.Index != index || outer.Alias != c.Alias:
		return fmt.Errorf("the host's end %s of %s is another interface by now", c.Name, c.Ifname)
	case !outer.Up:
		return fmt.Errorf("the host's end %s of %s is set down", c.Name, c.Ifname)
	case !outer.sealed:
		return fmt.Errorf("the host's end %s of %s has lost its seal: frames of the container reach the host's stack", c.Name, c.Ifname)
	case ns == nil:
		return nil
	}
	in, err := ns.(*netns).open()
	if err != nil {
		return err
	}
	inner := in.linkNamed(c.Ifname)
	switch {
	case inner == nil:
		return fmt.Errorf("%s is not in network namespace %s", c.Ifname, in.path)
	case inner.peer != outer:
		return fmt.Errorf("%s is another interface by now, not the end of %s", c.Ifname, c.Name)
	case !inner.Up:
		return fmt.Errorf("%s is set down", c.Ifname)
	case !slices.Equal(inner.MAC, c.MAC):
		return fmt.Errorf("%s has MAC address %s in place of %s", c.Ifname, inner.MAC, c.MAC)
	}
	for _, p := range c.Addrs {
		if !slices.ContainsFunc(inner.addrs, func(a host.Addr) bool { return a.Prefix == p }) {
			return fmt.Errorf("%s has lost its address %s", c.Ifname, p)
		}
	}
	for _, gw := range c.Gateways {
		if i := in.routeTo(netip.PrefixFrom(anyOf(gw), 0)); i < 0 || in.routes[i].Via != gw {
			return fmt.Errorf("%s has lost its default route via %s", c.Ifname, gw)
		}
	}
	for _, r := range c.Routes {
		if i := in.routeTo(r.To); i < 0 || in.routes[i].Via != r.Via {
			return fmt.Errorf("%s has lost its route to %s", c.Ifname, r)
		}
	}
	return nil
}

// DelLink implements edge.Cables.
func (e *Edge) DelLink(name string, index int) error {
	unlock, err := e.enter("DelLink")
	if err != nil {
		return err
	}
	defer unlock()
	l := e.k.host.linkNamed(name)
	if index != 0 {
		l = e.k.host.at(index)
	}
	if l != nil && l.Name == name {
		e.k.removeLink(l)
	}
	return nil
}

// Peer implements edge.Cables.
func (e *Edge) Peer(name string, index int) (peer host.Link, here bool, err error) {
	unlock, err := e.enter("Peer")
	if err != nil {
		return host.Link{}, false, err
	}
	defer unlock()
	l := e.k.host.at(index)
	if l == nil || l.Name != name || l.peer == nil {
		return host.Link{}, false, errNoLink(name)
	}
	return l.peer.Link, l.peer.ns == e.k.host, nil
}

// SetDefaultRoute implements edge.Cables.
func (e *Edge) SetDefaultRoute(n edge.Netns, ifname string, gw netip.Addr) error {
	unlock, err := e.enter("SetDefaultRoute")
	if err != nil {
		return err
	}
	defer unlock()
	in, err := n.(*netns).open()
	if err != nil {
		return err
	}
	l := in.linkNamed(ifname)
	if l == nil {
		return fmt.Errorf("network namespace %s: %w", in.path, errNoLink(ifname))
	}
	if !l.reaches(gw) {
		return fmt.Errorf("network namespace %s: default route via %s dev %s: network is unreachable", in.path, gw, ifname)
	}
	to := netip.PrefixFrom(anyOf(gw), 0)
	in.routes = slices.DeleteFunc(in.routes, func(r host.Route) bool { return r.Prefix == to && r.Metric == 0 })
	in.routes = append(in.routes, host.Route{Prefix: to, Ifindex: l.Index, Via: gw})
	return nil
}

// Shapings implements edge.Cables.
func (e *Edge) Shapings(ours func(index int) bool) (map[int]host.Shaping, error) {
	unlock, err := e.enter("Shapings")
	if err != nil {
		return nil, err
	}
	defer unlock()
	found := make(map[int]host.Shaping)
	for _, l := range e.k.host.links {
		if l.shaping != (host.Shaping{}) && ours(l.Index) {
			found[l.Index] = l.shaping
		}
	}
	return found, nil
}

// Programs implements edge.Cables.
func (e *Edge) Programs(ours func(index int) bool) (map[int]host.Program, error) {
	unlock, err := e.enter("Programs")
	if err != nil {
		return nil, err
	}
	defer unlock()
	found := make(map[int]host.Program)
	for _, l := range e.k.host.links {
		if l.program.Name != "" && ours(l.Index) {
			found[l.Index] = l.program
		}
	}
	return found, nil
}

// SetLimit implements edge.Cables.
func (e *Edge) SetLimit(n edge.Netns, ifname string, limit host.Limit) error {
	unlock, err := e.enter("SetLimit")
	if err != nil {
		return err
	}
	defer unlock()
	in, err := n.(*netns).open()
	if err != nil {
		return err
	}
	l := in.linkNamed(ifname)
	if l == nil {
		return errNoLink(ifname)
	}
	l.limit = limit
	return nil
}

// HandOver is a runtime that moves a waiting end into a namespace, under a name.
func (k *Kernel) HandOver(waiting, path, ifname string) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	l, ns := k.host.linkNamed(waiting), k.netns(path)
	if l == nil || ns == nil {
		return errors.New("no such interface or namespace")
	}
	k.host.links = slices.DeleteFunc(k.host.links, func(o *link) bool { return o == l })
	k.tell(host.Event{Kind: host.LinkGone, Link: l.Link})
	ns.lastIndex++
	l.ns, l.Index, l.Name = ns, ns.lastIndex, ifname
	l.Up, l.Running, l.peer.Running = true, true, true
	ns.links = append(ns.links, l)
	k.tellLink(l.peer)
	return nil
}
