package underlay

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/vswitch/vswitch/control/host"
	"github.com/vswitch/vswitch/dataplane"
)

// Egress is the way by which flows that a container begins leave, in place of the host's: by an
// interface, by a next hop, from an address, or several of these at once. The zero one leads nowhere.
type Egress struct {
	Dev         string
	Via, Source [2]netip.Addr // of IPv4, of IPv6
}

// of is what a pair has for the family of an address; ok is false where it has only the other's.
func of(pair [2]netip.Addr, dst netip.Addr) (a netip.Addr, ok bool) {
	i, o := 0, 1
	if dst.Is6() {
		i, o = 1, 0
	}
	return pair[i], pair[i].IsValid() || !pair[o].IsValid()
}

// devices are the interfaces that are chosen, in order.
func devices(chosen map[string]Egress) (names []string) {
	for _, e := range chosen {
		if e.Dev != "" && !slices.Contains(names, e.Dev) {
			names = append(names, e.Dev)
		}
	}
	slices.Sort(names)
	return names
}

// chosenWay is the route of a way that a container has chosen: the one that a program of the host has
// which binds itself to the interface and the address.
func (u *Underlay) chosenWay(v *View, e Egress, dst netip.Addr) (host.Route, error) {
	none := host.Route{Kind: host.Unreachable}
	via, okVia := of(e.Via, dst)
	src, okSrc := of(e.Source, dst)
	if _, has := v.sources()[src]; e == (Egress{}) || !okVia || !okSrc || src.IsValid() && !has {
		return none, nil
	}
	q := host.WayQuery{Src: src, Dst: dst}
	up := v.named(e.Dev)
	if e.Dev != "" {
		if up == nil || !up.Link.Up {
			return none, nil
		}
		q.Out = up.Link.Index
		if !src.IsValid() {
			q.Src = sourceFor(up.Addrs, host.Route{Prefix: netip.PrefixFrom(dst, dst.BitLen())})
		}
	}
	if via.IsValid() { // as for a route with that next hop: whoever asks
		q.Src, q.Dst = netip.IPv4Unspecified(), via
		if via.Is6() {
			q.Src = netip.IPv6Unspecified()
		}
	}
	if !q.Src.IsValid() {
		return none, nil
	}
	r, err := u.cfg.Edge.WayOut(q)
	if err == nil && r.Kind == host.Unreachable && up != nil && up.Link.Packets {
		r = host.Route{Ifindex: up.Link.Index} // a tunnel has one other end: it needs no route
	}
	if err != nil || r.Kind != host.Unicast {
		return none, err
	}
	if via.IsValid() {
		if r.Via.IsValid() {
			return none, nil // further than one hop
		}
		r.Via = via
	}
	if src.IsValid() {
		r.Source = src
	}
	return r, nil
}

// named is the uplink of a name, nil when there is none.
func (v *View) named(name string) *Uplink {
	for i := range v.Uplinks {
		if v.Uplinks[i].Link.Name == name {
			return &v.Uplinks[i]
		}
	}
	return nil
}

// reaches reports whether an address is on the link of an uplink, by its own addresses.
func (up *Uplink) reaches(a netip.Addr) bool {
	return slices.ContainsFunc(up.Addrs, func(p netip.Prefix) bool { return p.Contains(a) })
}

// Away says what a way that a container has chosen lacks, "" when nothing.
func (v *View) Away(words string) string {
	e, ok := v.chosen[words]
	switch up := v.named(e.Dev); {
	case words == "":
		return ""
	case !ok:
		return "it is just being looked for"
	case e.Dev != "" && up == nil:
		return fmt.Sprintf("interface %s is not there, is down, or speaks neither Ethernet nor IP alone", e.Dev)
	case e.Dev != "" && !up.Link.Up:
		return fmt.Sprintf("interface %s is down", e.Dev)
	case e.Dev != "" && len(up.Addrs) == 0:
		return fmt.Sprintf("interface %s has no address", e.Dev)
	}
	for _, a := range e.Source {
		if _, has := v.sources()[a]; a.IsValid() && !has {
			return fmt.Sprintf("no uplink has address %s", a)
		}
	}
	for f, a := range e.Via {
		if a.IsValid() && e.Dev == "" && !v.Ruled[f] && !v.onLink(a) {
			return fmt.Sprintf("%s is on the link of no uplink: name its interface as well, dev=INTERFACE,via=%[1]s", a)
		}
	}
	return ""
}

// onLink reports whether an address is on the link of an uplink that the host's routes lead to.
func (v *View) onLink(a netip.Addr) bool {
	return slices.ContainsFunc(v.Uplinks, func(up Uplink) bool { return !up.Chosen && up.reaches(a) }) ||
		slices.ContainsFunc(v.Routes, func(r dataplane.RouteConfig) bool {
			return r.Kind == dataplane.RouteUplink && !r.Via.IsValid() && r.Prefix.Bits() > 0 && r.Prefix.Contains(a)
		})
}
