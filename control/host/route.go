package host

import (
	"fmt"
	"net/netip"

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

	rank int // of the table: the kernel asks local first, then main, then default
}

// Routes returns the host's routes of both families from the tables local, main
// and default, in that order of preference, and for each prefix only the one
// with the best metric. Of a multipath route it is the first next hop whose link is
// alive. Routes of other tables (policy routing), and those for a type of service or
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
		case !ok:
			at[r.Prefix] = len(best)
			best = append(best, r)
		case r.rank < best[i].rank || r.rank == best[i].rank && r.Metric < best[i].Metric:
			best[i] = r
		}
	}
	return best, nil
}

// allRoutes returns the routes of the three tables, in the order of the kernel.
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
		return r, false
	}
	r.Prefix = netip.PrefixFrom(dst, int(msg.Dst_len))
	if err != nil || !r.Prefix.IsValid() {
		return r, false
	}
	return r, hops == nil || r.firstHop(hops)
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

// firstHop takes the first living hop of RTA_MULTIPATH, a list of struct
// rtnexthop with attributes. A hop without carrier will do if there is no
// better one: the kernel uses it too.
func (r *Route) firstHop(hops []byte) bool {
	found := false
	for len(hops) >= unix.SizeofRtNexthop {
		hop := nl.DeserializeRtNexthop(hops)
		n := int(hop.RtNexthop.Len)
		if n < unix.SizeofRtNexthop || n > len(hops) {
			break
		}
		down := hop.RtNexthop.Flags&unix.RTNH_F_LINKDOWN != 0
		if hop.RtNexthop.Flags&unix.RTNH_F_DEAD == 0 && !(down && found) {
			r.Ifindex, r.Via = int(hop.RtNexthop.Ifindex), netip.Addr{}
			_ = attrs(hops[:n], unix.SizeofRtNexthop, r.nextHop)
			found = true
			if !down {
				break
			}
		}
		hops = hops[min((n+unix.RTA_ALIGNTO-1)&^(unix.RTA_ALIGNTO-1), len(hops)):]
	}
	return found
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
