package control

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"slices"
	"strings"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/control/host"
	"github.com/vswitch/vswitch/control/kernel"
	"github.com/vswitch/vswitch/dataplane"
	"github.com/vswitch/vswitch/dataplane/frame"
	"github.com/vswitch/vswitch/dataplane/header"
	"github.com/vswitch/vswitch/dataplane/port"
)

// world is what the kernel said of the host's network when it was asked last.
// The slices are replaced, never changed.
type world struct {
	uplinks       []*uplink
	uplinkConfigs []dataplane.UplinkConfig
	routes        []dataplane.RouteConfig
	masquerade    []dataplane.PortRange
	slots         []netip.Addr // host addresses that hold a claim slot for masquerade
}

// uplink is an interface of the host through which containers go out.
type uplink struct {
	link  host.Link // replaced under Controller.mu
	port  frame.PortID
	guard io.Closer
	addrs []netip.Prefix // that masquerade may use, with their subnets
	via   netip.Addr     // next hop of its default route, for people
}

// autoUplink is the word for the interfaces that hold a default route.
const autoUplink = "auto"

func (c *Controller) followsRoutes() bool {
	return len(c.cfg.Uplinks) == 0 || len(c.cfg.Uplinks) == 1 && c.cfg.Uplinks[0] == autoUplink
}

// wantedUplinks are the links that should be uplinks now. An interface that was
// named and is away for the moment is waited for.
func (c *Controller) wantedUplinks() ([]host.Link, error) {
	if c.followsRoutes() {
		return c.host.Uplinks([]string{autoUplink})
	}
	var links []host.Link
	for _, name := range c.cfg.Uplinks {
		l, err := c.host.Uplinks([]string{name})
		if err != nil {
			if errors.Is(err, host.ErrNotFound) || errors.Is(err, host.ErrUplink) {
				continue
			}
			return nil, err
		}
		links = append(links, l...)
	}
	return links, nil
}

// syncWorld reads the host's links, addresses and routes and makes the switch
// follow them. Only one runs at a time.
func (c *Controller) syncWorld() error {
	wanted, err := c.wantedUplinks()
	if err != nil {
		return err
	}
	wanted = slices.DeleteFunc(wanted, c.isOurs)
	addrs, err := c.host.Addrs()
	if err != nil {
		return err
	}
	routes, err := c.host.Routes()
	if err != nil {
		return err
	}
	c.mu.Lock()
	old := c.world.uplinks
	c.mu.Unlock()

	var ups, gone []*uplink
	for _, u := range old {
		if !slices.ContainsFunc(wanted, func(l host.Link) bool { return l.Index == u.link.Index }) {
			gone = append(gone, u)
		}
	}
	var errs []error
	for _, l := range wanted {
		i := slices.IndexFunc(old, func(u *uplink) bool { return u.link.Index == l.Index })
		if i >= 0 {
			ups = append(ups, old[i])
			c.mu.Lock()
			old[i].link = l
			c.mu.Unlock()
			continue
		}
		u, err := c.openUplink(l)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		ups = append(ups, u)
	}
	c.placeWorld(ups, addrs, routes)
	errs = append(errs, c.rebuild())
	for _, u := range gone {
		errs = append(errs, c.closeUplink(u))
	}
	c.freeSlots()
	c.publishNeighbors()
	return errors.Join(errs...)
}

// isOurs reports whether a link is one that the switch made.
func (c *Controller) isOurs(l host.Link) bool {
	return strings.HasPrefix(l.Alias, "vswitch:") || c.isWaiting(l)
}

// openUplink guards an interface before it listens there: what is ours must not
// be answered by the host's stack first.
func (c *Controller) openUplink(l host.Link) (*uplink, error) {
	guard, err := c.guardUplink(l.Index)
	if err != nil {
		return nil, fmt.Errorf("uplink %s: %w", l.Name, err)
	}
	account, err := c.kernel.AddFlowPort(l.Index)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("uplink %s: %w", l.Name, err), guard.Close())
	}
	p, err := port.OpenPacket(port.PacketConfig{
		Ifindex: l.Index, Name: l.Name, FilterFD: c.kernel.FilterFD(), Account: account, Slots: 1024,
	})
	if err != nil {
		c.kernel.RemoveFlowPort(l.Index)
		return nil, errors.Join(fmt.Errorf("uplink %s: %w", l.Name, err), guard.Close())
	}
	id, err := c.sw.AddPort(p)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("uplink %s: %w", l.Name, err), p.Close(), guard.Close())
	}
	u := &uplink{link: l, port: id, guard: guard}
	c.mu.Lock()
	c.setPortLocked(id, portOwner{uplink: u})
	c.mu.Unlock()
	c.log.Info("uplink opened", "interface", l.Name, "mtu", l.MTU)
	c.emit(api.Event{Type: api.EventUplinkChanged, Interface: l.Name, Message: "uplink " + l.Name + " opened: containers go out through it"})
	return u, nil
}

// guardUplink attaches the guard by a link, which ends with the process, or where
// the kernel has none as a filter with a deadline.
func (c *Controller) guardUplink(index int) (io.Closer, error) {
	if !c.cfg.noTCX {
		guard, err := c.kernel.GuardUplink(index)
		if !errors.Is(err, kernel.ErrNoTCX) {
			return guard, err
		}
	}
	fd, err := c.kernel.GuardFD()
	if err != nil {
		return nil, err
	}
	return c.host.AddGuard(index, fd, c.store.Identity())
}

// removeGuards removes what a killed daemon of this state directory left on the
// host's interfaces.
func (c *Controller) removeGuards() error {
	from, err := c.host.RemoveGuards(c.store.Identity())
	if len(from) > 0 {
		c.log.Warn("leftover guard removed", "interfaces", from)
	}
	return err
}

// closeUplink gives an interface back. No snapshot names it any more.
func (c *Controller) closeUplink(u *uplink) error {
	c.mu.Lock()
	c.dropPortLocked(u.port)
	c.mu.Unlock()
	c.log.Info("uplink closed", "interface", u.link.Name)
	c.emit(api.Event{Type: api.EventUplinkChanged, Interface: u.link.Name, Message: "uplink " + u.link.Name + " closed: it leads nowhere any more"})
	err := errors.Join(c.sw.RemovePort(u.port), u.guard.Close())
	c.kernel.RemoveFlowPort(u.link.Index)
	return err
}

// placeWorld turns addresses and routes into what a snapshot holds.
func (c *Controller) placeWorld(ups []*uplink, addrs []host.Addr, routes []host.Route) {
	c.mu.Lock()
	defer c.mu.Unlock()
	taps := make(map[int]bool, len(c.networks))
	for _, n := range c.networks {
		taps[n.tapIndex] = true
	}
	w := world{uplinks: ups, masquerade: masqueradePorts(localPortRange())}
	byIndex := make(map[int]*uplink, len(ups))
	slots := make(map[netip.Addr]int)
	for _, u := range ups {
		byIndex[u.link.Index] = u
		u.addrs, u.via = nil, netip.Addr{}
	}
	for _, a := range addrs {
		u, ip := byIndex[a.Ifindex], a.Prefix.Addr()
		if u == nil || a.Tentative || !ip.IsGlobalUnicast() {
			continue
		}
		if _, ok := slots[ip]; !ok {
			slot, err := c.useSlotLocked(ip)
			if err != nil {
				c.log.Warn("address cannot be used for masquerade", "interface", u.link.Name, "addr", ip, "err", err)
				continue
			}
			slots[ip] = slot
			w.slots = append(w.slots, ip)
		}
		if a.Deprecated { // RFC 4862 5.5.4: serves what came to it, begins nothing
			continue
		}
		u.addrs = append(u.addrs, a.Prefix)
	}
	for _, u := range ups {
		w.uplinkConfigs = append(w.uplinkConfigs, dataplane.UplinkConfig{
			Port: u.port, MAC: header.MAC(u.link.MAC), MTU: u.link.MTU, Slots: slots,
		})
	}
	for _, r := range routes {
		if rc, ok := routeConfig(r, byIndex, taps, slots); ok {
			w.routes = append(w.routes, rc)
			if u := byIndex[r.Ifindex]; u != nil && r.Kind == host.Unicast && r.Prefix.Bits() == 0 && !u.via.IsValid() {
				u.via = r.Via
			}
		}
	}
	// Users counted by the world before this one; its slots are freed once the
	// snapshot is in place.
	c.staleSlots = append(c.staleSlots, c.world.slots...)
	c.world = w
}

// freeSlots gives back the claim slots of former worlds.
func (c *Controller) freeSlots() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, a := range c.staleSlots {
		c.dropSlotLocked(a)
	}
	c.staleSlots = nil
}

// routeConfig translates one route of the host; ok is false for what a packet of
// a container is never matched against.
func routeConfig(r host.Route, ups map[int]*uplink, taps map[int]bool, slots map[netip.Addr]int) (rc dataplane.RouteConfig, ok bool) {
	rc.Prefix = r.Prefix
	a := r.Prefix.Addr()
	switch {
	case taps[r.Ifindex] && r.Kind != host.Unreachable && r.Kind != host.Blackhole:
		return rc, false // the data path knows its own networks
	case r.Kind == host.Broadcast, a.IsMulticast(), a.IsLinkLocalUnicast():
		return rc, false
	case a.IsLoopback(), r.Kind == host.Unreachable, r.Kind == host.Blackhole:
		rc.Kind = dataplane.RouteUnreachable // loopback never leaves a host (RFC 1122 3.2.1.3)
		return rc, true
	case r.Kind == host.Local:
		rc.Kind = dataplane.RouteLocal
		return rc, true
	}
	u := ups[r.Ifindex]
	if u == nil || r.Via.IsValid() && r.Via.Is4() != a.Is4() {
		return rc, true // unreachable: no uplink leads there
	}
	src := r.Source
	if _, has := slots[src]; !has {
		src = sourceFor(u.addrs, r)
	}
	if !src.IsValid() {
		return rc, true
	}
	rc.Kind, rc.Uplink, rc.Via, rc.Source = dataplane.RouteUplink, u.port, r.Via, src
	return rc, true
}

// sourceFor chooses the source of a route that names none, as the kernel would:
// of the route's family, unique local for unique local destinations and only
// for those (RFC 6724 section 5, rule 6: another label's answers may not find
// back), in the next hop's subnet, the first. invalid when there is none.
func sourceFor(own []netip.Prefix, r host.Route) (src netip.Addr) {
	dst, best := r.Prefix.Addr(), -1
	for _, p := range own {
		a, rank := p.Addr(), 0
		if a.Is4() != dst.Is4() {
			continue
		}
		if a.Is6() && a.IsPrivate() == dst.IsPrivate() {
			rank += 2
		}
		if r.Via.IsValid() && p.Contains(r.Via) || !r.Via.IsValid() && p.Overlaps(r.Prefix) {
			rank++
		}
		if rank > best {
			src, best = a, rank
		}
	}
	return src
}

// localPortRange reads net.ipv4.ip_local_port_range, from which the host takes
// the ports of its own connections.
func localPortRange() (low, high uint16) {
	low, high = 32768, 60999 // the kernel's default
	b, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range")
	if err != nil {
		return low, high
	}
	var l, h uint16
	if _, err := fmt.Sscan(string(b), &l, &h); err != nil || l > h {
		return low, high
	}
	return l, h
}

// masqueradePorts are the ports beside the host's own range: first above it,
// then below down to the dynamic-looking ones, at last the registered ports
// (RFC 6335) without the privileged.
func masqueradePorts(low, high uint16) []dataplane.PortRange {
	var list []dataplane.PortRange
	add := func(first, last int) {
		if first <= last {
			list = append(list, dataplane.PortRange{First: uint16(first), Last: uint16(last)})
		}
	}
	add(max(int(high)+1, 1024), 65535)
	add(16384, int(low)-1)
	add(1024, min(int(low)-1, 16383))
	return list
}
