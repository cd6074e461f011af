package host

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// RouteKind is the kernel's route type (rtm_type), as far as a forwarder
// tells them apart.
type RouteKind uint8

const (
	Unicast     RouteKind = iota // to a next hop or onto a link
	Local                        // an address of the host
	Broadcast                    // broadcast, anycast and multicast
	Unreachable                  // unreachable and prohibit
	Blackhole
)

// Route is the best route to a prefix.
type Route struct {
	Prefix  netip.Prefix
	Kind    RouteKind
	Ifindex int        // meaningless for Unreachable and Blackhole
	Via     netip.Addr // next hop, perhaps of the other family (RFC 5549); invalid: on the link
	Source  netip.Addr // preferred source address; invalid: the kernel chooses
	Metric  int
	Hops    []int // interfaces of all living next hops of a multipath route

	rank int  // of the table: the kernel asks local first, then main, then default; others by rules
	down bool // of a next hop: without carrier, the kernel uses it where there is no other
}

// Routes returns the host's routes of both families from the tables local, main
// and default, in that order of preference, and for each prefix only the one
// with the best metric. Of a multipath route it is the first next hop whose link is
// alive, and WayOut chooses. Routes of other tables (policy routing), and those for a type of service or
// a source prefix, are not seen: WayOut finds them.
func (h *Host) Routes() ([]Route, error) {
	all, err := h.allRoutes()
	if err != nil {
		return nil, err
	}
	at := make(map[netip.Prefix]int, len(all))
	best := all[:0]
	for _, r := range all {
		i, ok := at[r.Prefix]
		switch {
		case r.rank == byRules:
		case !ok:
			at[r.Prefix] = len(best)
			best = append(best, r)
		case r.rank < best[i].rank || r.rank == best[i].rank && r.Metric < best[i].Metric:
			best[i] = r
		}
	}
	return best, nil
}

const byRules = 3 // rank of tables that only rules of routing lead to

// allRoutes returns the routes of all tables, in the order of the kernel.
func (h *Host) allRoutes() ([]Route, error) {
	var routes []Route
	for _, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
		msgs, err := h.route.dump(unix.RTM_GETROUTE, unix.RTM_NEWROUTE, &nl.RtMsg{RtMsg: unix.RtMsg{Family: family}})
		if err != nil {
			return nil, fmt.Errorf("read the routes: %w", err)
		}
		for _, m := range msgs {
			if r, ok := parseRoute(m); ok {
				routes = append(routes, r)
			}
		}
	}
	return routes, nil
}

// parseRoute reads an rtmsg (rtnetlink(7)); ok is false for a route that is no
// concern of a forwarder.
func parseRoute(m []byte) (r Route, ok bool) {
	if len(m) < unix.SizeofRtMsg {
		return r, false
	}
	msg := nl.DeserializeRtMsg(m)
	switch {
	case msg.Family != unix.AF_INET && msg.Family != unix.AF_INET6,
		msg.Flags&unix.RTM_F_CLONED != 0, // a cache entry
		msg.Flags&unix.RTNH_F_DEAD != 0,
		msg.Tos != 0, msg.Src_len != 0:
		return r, false
	}
	switch msg.Type {
	case unix.RTN_UNICAST:
		r.Kind = Unicast
	case unix.RTN_LOCAL:
		r.Kind = Local
	case unix.RTN_BROADCAST, unix.RTN_ANYCAST, unix.RTN_MULTICAST:
		r.Kind = Broadcast
	case unix.RTN_UNREACHABLE, unix.RTN_PROHIBIT:
		r.Kind = Unreachable
	case unix.RTN_BLACKHOLE:
		r.Kind = Blackhole
	default: // throw: the lookup goes on
		return r, false
	}
	table := uint32(msg.Table)
	dst := netip.IPv4Unspecified()
	if msg.Family == unix.AF_INET6 {
		dst = netip.IPv6Unspecified()
	}
	var hops []byte
	err := attrs(m, unix.SizeofRtMsg, func(typ uint16, v []byte) {
		switch typ {
		case unix.RTA_TABLE:
			table = nl.NativeEndian().Uint32(v)
		case unix.RTA_DST:
			dst = addrOf(v)
		case unix.RTA_PREFSRC:
			r.Source = addrOf(v)
		case unix.RTA_PRIORITY:
			r.Metric = int(nl.NativeEndian().Uint32(v))
		case unix.RTA_MULTIPATH:
			hops = v
		default:
			r.nextHop(typ, v)
		}
	})
	switch table {
	case unix.RT_TABLE_LOCAL:
	case unix.RT_TABLE_MAIN:
		r.rank = 1
	case unix.RT_TABLE_DEFAULT:
		r.rank = 2
	default:
		r.rank = byRules
	}
	r.Prefix = netip.PrefixFrom(dst, int(msg.Dst_len))
	return r, err == nil && r.Prefix.IsValid() && (hops == nil || r.firstHop(nextHops(hops)))
}

// nextHop reads the attributes that say where a packet goes next.
func (r *Route) nextHop(typ uint16, v []byte) {
	switch typ {
	case unix.RTA_OIF:
		r.Ifindex = int(nl.NativeEndian().Uint32(v))
	case unix.RTA_GATEWAY:
		r.Via = addrOf(v)
	case unix.RTA_VIA: // struct rtvia: two bytes of family before the address
		if len(v) > 2 {
			r.Via = addrOf(v[2:])
		}
	}
}

// nextHops are the living ones of RTA_MULTIPATH, a list of struct rtnexthop with attributes, each as often
// as it weighs.
func nextHops(b []byte) (list []Route) {
	for len(b) >= unix.SizeofRtNexthop {
		r := nl.DeserializeRtNexthop(b).RtNexthop
		n := int(r.Len)
		if n < unix.SizeofRtNexthop || n > len(b) {
			break
		}
		if r.Flags&unix.RTNH_F_DEAD == 0 {
			h := Route{Ifindex: int(r.Ifindex), down: r.Flags&unix.RTNH_F_LINKDOWN != 0}
			_ = attrs(b[:n], unix.SizeofRtNexthop, h.nextHop)
			list = append(list, slices.Repeat([]Route{h}, int(r.Hops)+1)...)
		}
		b = b[min((n+unix.RTA_ALIGNTO-1)&^(unix.RTA_ALIGNTO-1), len(b)):]
	}
	return list
}

// firstHop takes the first one with carrier, or else the first.
func (r *Route) firstHop(hops []Route) bool {
	if len(hops) == 0 {
		return false
	}
	h := hops[max(slices.IndexFunc(hops, func(h Route) bool { return !h.down }), 0)]
	r.Ifindex, r.Via = h.Ifindex, h.Via
	for _, h := range hops {
		r.Hops = append(r.Hops, h.Ifindex)
	}
	r.Hops = slices.Compact(r.Hops)
	return true
}

// Overlaps reports whether p overlaps a route of the host and names it:
// "10.0.0.0/8 dev eth1". Default routes do not count. When the routes cannot be
// read it reports an overlap that says so.
func (h *Host) Overlaps(p netip.Prefix) (string, bool) {
	routes, err := h.Routes()
	if err != nil {
		return err.Error(), true
	}
	return Overlapping(routes, p, func(index int) string {
		l, err := h.route.link("", index)
		if err != nil {
			return ""
		}
		return l.Name
	})
}

// Overlapping is Overlaps for routes that were read; name is that of a link, "" when it
// has gone.
func Overlapping(routes []Route, p netip.Prefix, name func(index int) string) (string, bool) {
	found := -1
	for i, r := range routes {
		if r.Prefix.Bits() == 0 || r.Kind == Broadcast || !r.Prefix.Overlaps(p) {
			continue
		}
		// The subnet of an interface says more than the host's address in it.
		if found < 0 || routes[found].Kind == Local && r.Kind != Local {
			found = i
		}
	}
	if found < 0 {
		return "", false
	}
	return routes[found].describe(name), true
}

// describe names a route as ip route does.
func (r Route) describe(name func(index int) string) string {
	s := r.Prefix.Masked().String()
	switch r.Kind {
	case Unreachable:
		return "unreachable " + s
	case Blackhole:
		return "blackhole " + s
	case Local:
		s = "local " + s
	}
	if r.Via.IsValid() {
		s += " via " + r.Via.String()
	}
	if dev := name(r.Ifindex); dev != "" {
		s += " dev " + dev
	}
	return s
}

// addDefault adds a default route; flags say what happens to one that is there.
func (c *conn) addDefault(index int, gw netip.Addr, flags int) error {
	return c.do(unix.RTM_NEWROUTE, unix.NLM_F_CREATE|flags,
		&nl.RtMsg{RtMsg: unix.RtMsg{
			Family: uint8(family(gw)), Table: unix.RT_TABLE_MAIN, Protocol: unix.RTPROT_STATIC,
			Scope: unix.RT_SCOPE_UNIVERSE, Type: unix.RTN_UNICAST,
		}},
		attrAddr(unix.RTA_GATEWAY, gw), attr32(unix.RTA_OIF, uint32(index)))
}
