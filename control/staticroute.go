package control

import (
	"net/netip"
	"slices"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/control/host"
	"github.com/vswitch/vswitch/control/state"
)

// maxRoutes bounds those of one interface.
const maxRoutes = 256

func checkRoutes(in []api.Route) (list []state.Route, err error) {
	if len(in) > maxRoutes {
		return nil, invalidf("%d routes: at most %d are for one interface", len(in), maxRoutes)
	}
	for _, r := range in {
		s := state.Route{Metric: r.Metric}
		if s.To, err = netip.ParsePrefix(r.To); err != nil || s.To != s.To.Masked() {
			return nil, invalidf("route to %.50q: write a prefix such as 10.5.0.0/16", r.To)
		}
		if r.Via != "" {
			if s.Via, err = netip.ParseAddr(r.Via); err != nil || s.Via.Zone() != "" || s.Via.Is4() != s.To.Addr().Is4() {
				return nil, invalidf("route to %s via %.50q: write the address of a neighbour of the same family", s.To, r.Via)
			}
		}
		if r.Metric < 0 {
			return nil, invalidf("route to %s: metric %d is negative", s.To, r.Metric)
		}
		if slices.ContainsFunc(list, func(o state.Route) bool { return o.To == s.To && o.Metric == s.Metric && s.To.Bits() > 0 }) {
			return nil, invalidf("route to %s: it is there twice: give each another metric", s.To)
		}
		list = append(list, s)
	}
	return list, nil
}

// checkRoutes looks at the routes of an endpoint in its network. To name the default
// route that this gives is usual in configurations of CNI; another one is refused.
func (e *endpoint) checkRoutes() error {
	for _, r := range e.routes {
		f := familyOf(r.To.Addr())
		switch s := subnetOf(e.net.rec, f); {
		case s == nil:
			return invalidf("route to %s: network %s has no %s subnet", r.To, e.net.rec.Name, f)
		case r.To == s.Prefix:
			return invalidf("route to %s: that is network %s itself: leave it out", r.To, e.net.rec.Name)
		case r.To.Bits() == 0 && r.Via.IsValid() && r.Via != e.gateway(f):
			return invalidf("route to %s via %s: the default route is by the gateway of network %s: leave it out, or give that network the gateway", r.To, r.Via, e.net.rec.Name)
		case r.Via.IsValid() && !s.Prefix.Contains(r.Via) && !r.Via.IsLinkLocalUnicast():
			return invalidf("route to %s via %s: that is not in subnet %s of network %s", r.To, r.Via, s.Prefix, e.net.rec.Name)
		}
	}
	return nil
}

// gateway is the address of the switch in the endpoint's network, invalid when it has
// none.
func (e *endpoint) gateway(f family) netip.Addr {
	if s := subnetOf(e.net.rec, f); s != nil && s.Mode != api.GatewayIsolated {
		return s.Gateway
	}
	return netip.Addr{}
}

// staticRoutes are the routes for the kernel: default routes come by Gateways.
func (e *endpoint) staticRoutes() (list []host.StaticRoute) {
	for _, r := range e.routes {
		if r.To.Bits() == 0 {
			continue
		}
		via := r.Via
		if !via.IsValid() {
			via = e.gateway(familyOf(r.To.Addr()))
		}
		list = append(list, host.StaticRoute{To: r.To, Via: via, Metric: r.Metric})
	}
	return list
}

func (e *endpoint) viewRoutes() (list []api.Route) {
	for _, r := range e.staticRoutes() {
		v := api.Route{To: r.To.String(), Metric: r.Metric}
		if r.Via.IsValid() {
			v.Via = r.Via.String()
		}
		list = append(list, v)
	}
	return list
}
