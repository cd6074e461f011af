package underlay

import (
	"net/netip"
	"slices"

	"github.com/vswitch/vswitch/dataplane"
)

// Packets to link-local addresses stay on their link (RFC 3927 7), so a default route leads
// to none: what is on the link of an uplink, the router's own pages among it, is the
// host's. Of IPv6 the data path knows. A route of the host that names some of 169.254.0.0/16 leads
// there, as with Docker. The services that clouds have there are reached by the default
// route with Docker, and on many machines no other route names them.

var (
	linkLocal4 = netip.MustParsePrefix("169.254.0.0/16")
	// cloudServices are metadata, credentials, resolvers and clocks: 169.254.169.254, .253
	// and .123 of most clouds, 169.254.170.2 and .23 of Amazon's containers, 169.254.171.0/24
	// of its VPC Lattice, 169.254.0.23 of Tencent, 169.254.42.42 of Scaleway.
	cloudServices = []netip.Prefix{
		netip.MustParsePrefix("169.254.169.0/24"), netip.MustParsePrefix("169.254.170.0/24"), netip.MustParsePrefix("169.254.171.0/24"),
		netip.MustParsePrefix("169.254.0.23/32"), netip.MustParsePrefix("169.254.42.42/32"),
	}
)

// keepLinkLocal adds the routes that keep link-local destinations from default routes,
// except cloud services and the host's resolvers. A route of the host that names some of
// them, by a longer prefix or a more general one, is the administrator's word.
func keepLinkLocal(routes []dataplane.RouteConfig, resolvers []netip.Addr) []dataplane.RouteConfig {
	named := make(map[netip.Prefix]bool)
	var way *dataplane.RouteConfig // of 169.254.0.0/16 if it were no link's
	for i := range routes {
		r := &routes[i]
		named[r.Prefix.Masked()] = true
		if r.Prefix.Bits() < linkLocal4.Bits() && r.Prefix.Addr().Is4() && r.Prefix.Contains(linkLocal4.Addr()) && (way == nil || way.Prefix.Bits() < r.Prefix.Bits()) {
			way = r
		}
	}
	var more []dataplane.RouteConfig
	if !named[linkLocal4] {
		more = append(more, dataplane.RouteConfig{Prefix: linkLocal4, Kind: dataplane.RouteUnreachable})
	}
	if way == nil || way.Kind != dataplane.RouteUplink || named[linkLocal4] {
		return append(routes, more...)
	}
	services := cloudServices
	for _, a := range resolvers {
		if linkLocal4.Contains(a) {
			services = append(services[:len(services):len(services)], netip.PrefixFrom(a, a.BitLen()))
		}
	}
	for _, p := range services {
		if !named[p] && !covered(routes, p) {
			named[p] = true
			r := *way
			r.Prefix = p
			more = append(more, r)
		}
	}
	return append(routes, more...)
}

// covered reports whether a route for link-local addresses alone leads to all of a prefix.
func covered(routes []dataplane.RouteConfig, p netip.Prefix) bool {
	return slices.ContainsFunc(routes, func(r dataplane.RouteConfig) bool {
		return r.Prefix.Bits() >= linkLocal4.Bits() && r.Prefix.Bits() <= p.Bits() && r.Prefix.Contains(p.Addr())
	})
}
