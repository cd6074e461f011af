package model

import (
	"net/netip"
	"slices"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/control/state"
)

// maxRoutes bounds those of one interface.
const maxRoutes = 256

func checkRoutes(in []api.Route) (list []state.Route, err error) {
	if len(in) > maxRoutes {
		return nil, Invalidf("%d routes: at most %d are for one interface: leave some out", len(in), maxRoutes)
	}
	for _, r := range in {
		s := state.Route{Metric: r.Metric}
		if s.To, err = netip.ParsePrefix(r.To); err != nil || s.To != s.To.Masked() {
			return nil, Invalidf("route to %.50q: write a prefix such as 10.5.0.0/16", r.To)
		}
		if r.Via != "" {
			if s.Via, err = netip.ParseAddr(r.Via); err != nil || s.Via.Zone() != "" || s.Via.Is4() != s.To.Addr().Is4() {
				return nil, Invalidf("route to %s via %.50q: write the address of a neighbour of the same family", s.To, r.Via)
			}
		}
		if r.Metric < 0 {
			return nil, Invalidf("route to %s: metric %d is negative: use 0 or more", s.To, r.Metric)
		}
		if slices.ContainsFunc(list, func(o state.Route) bool { return o.To == s.To && o.Metric == s.Metric && s.To.Bits() > 0 }) {
			return nil, Invalidf("route to %s: it is there twice: give each another metric", s.To)
		}
		list = append(list, s)
	}
	return list, nil
}

// FitRoutes looks whether routes of an endpoint fit its network. To name the default
// route that this gives is usual in configurations of CNI; another one is refused.
func FitRoutes(routes []state.Route, net state.Network) error {
	for _, r := range routes {
		f := FamilyOf(r.To.Addr())
		switch s := SubnetOf(net, f); {
		case s == nil:
			return Invalidf("route to %s: network %s has no %s subnet: leave it out", r.To, net.Name, f)
		case r.To == s.Prefix:
			return Invalidf("route to %s: that is network %s itself: leave it out", r.To, net.Name)
		case r.To.Bits() == 0 && r.Via.IsValid() && r.Via != GatewayIn(net, f):
			return Invalidf("route to %s via %s: the default route is by the gateway of network %s: leave it out, or give that network the gateway", r.To, r.Via, net.Name)
		case r.Via.IsValid() && !s.Prefix.Contains(r.Via) && !r.Via.IsLinkLocalUnicast():
			return Invalidf("route to %s via %s: that is not in subnet %s of network %s: name a neighbour there", r.To, r.Via, s.Prefix, net.Name)
		}
	}
	return nil
}

// GatewayIn is the address of the switch in a network, invalid when it has none.
func GatewayIn(net state.Network, f Family) netip.Addr {
	if s := SubnetOf(net, f); s != nil && s.Mode != api.GatewayIsolated {
		return s.Gateway
	}
	return netip.Addr{}
}
