package underlay

import (
	"net/netip"

	"github.com/vswitch/vswitch/control/host"
	"github.com/vswitch/vswitch/dataplane"
	"github.com/vswitch/vswitch/dataplane/frame"
)

// view turns addresses and routes into what a snapshot holds.
func (u *Underlay) view(ups []Uplink, addrs []host.Addr, routes []host.Route) *View {
	devices := u.cfg.Devices()
	v := &View{Uplinks: ups, Own: make(map[netip.Addr]bool)}
	v.Masquerade, v.HostPorts = u.cfg.Masquerade()
	byIndex := make(map[int]*Uplink, len(ups))
	slots := make(map[netip.Addr]int)
	for i := range ups {
		byIndex[ups[i].Link.Index] = &ups[i]
	}
	for _, a := range addrs {
		up, ip := byIndex[a.Ifindex], a.Prefix.Addr()
		if up == nil || a.Tentative || !ip.IsGlobalUnicast() {
			continue
		}
		if _, ok := slots[ip]; !ok {
			slot, err := u.cfg.Slots.UseSlot(ip)
			if err != nil {
				u.cfg.Log.Warn("address cannot be used for masquerade", "interface", up.Link.Name, "addr", ip, "err", err)
				continue
			}
			slots[ip] = slot
			v.slots = append(v.slots, ip)
		}
		if a.Deprecated { // RFC 4862 5.5.4: serves what came to it, begins nothing
			continue
		}
		up.Addrs = append(up.Addrs, a.Prefix)
	}
	for _, ip := range u.missed(u.Now().Uplinks, ups, slots, addrs) {
		if slot, err := u.cfg.Slots.UseSlot(ip); err == nil {
			slots[ip] = slot
			v.slots = append(v.slots, ip)
		}
	}
	for _, up := range ups {
		v.Configs = append(v.Configs, dataplane.UplinkConfig{
			Port: up.Port, MAC: up.MAC(), MTU: up.Link.MTU, Packets: !up.Link.Ethernet, Slots: slots,
		})
	}
	ways := v.leads(frame.NoPort)
	for _, r := range routes {
		rc, ok := routeConfig(r, ways, devices, slots)
		if !ok {
			continue
		}
		v.Routes = append(v.Routes, rc)
		if rc.Kind == dataplane.RouteLocal && rc.Prefix.IsSingleIP() {
			v.Own[rc.Prefix.Addr()] = true
		}
		if up := ways[r.Ifindex]; up != nil && r.Kind == host.Unicast && r.Prefix.Bits() == 0 && !up.Via.IsValid() {
			up.Via = r.Via
		}
	}
	v.resolvers = u.cfg.Resolvers()
	v.Routes = keepLinkLocal(v.Routes, v.resolvers)
	return v
}

// routeConfig translates one route of the host; ok is false for what a packet of
// a container is never matched against.
func routeConfig(r host.Route, ups map[int]*Uplink, devices map[int]bool, slots map[netip.Addr]int) (rc dataplane.RouteConfig, ok bool) {
	rc.Prefix = r.Prefix
	a := r.Prefix.Addr()
	switch {
	case r.Kind == host.Broadcast && a.Is4() && r.Prefix.IsSingleIP() && !a.IsMulticast() && !a.IsLoopback():
		rc.Kind = dataplane.RouteBroadcast
		return rc, true
	case devices[r.Ifindex] && r.Kind != host.Unreachable && r.Kind != host.Blackhole:
		return rc, false // the data path knows its own networks
	case r.Kind == host.Broadcast, a.IsMulticast(), a.Is6() && a.IsLinkLocalUnicast():
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
		src = sourceFor(u.Addrs, r)
	}
	if !src.IsValid() {
		return rc, true
	}
	rc.Kind, rc.Uplink, rc.Via, rc.Source = dataplane.RouteUplink, u.Port, r.Via, src
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

// Names are the uplinks by index.
func (v *View) Names() map[int]string {
	names := make(map[int]string, len(v.Uplinks))
	for _, u := range v.Uplinks {
		names[u.Link.Index] = u.Link.Name
	}
	return names
}
