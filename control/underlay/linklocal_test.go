package underlay

import (
	"net/netip"
	"testing"

	"github.com/vswitch/vswitch/dataplane"
)

// S-78: a default route leads to no link-local address but those of cloud services and of
// the host's resolvers; a route of the host that names some is followed.
func TestS78RoutesToLinkLocalAddresses(t *testing.T) {
	a, p := netip.MustParseAddr, netip.MustParsePrefix
	all := []dataplane.RouteConfig{
		{Prefix: p("0.0.0.0/0"), Kind: dataplane.RouteUplink, Uplink: 1, Via: a("198.51.100.9"), Source: a("198.51.100.1")},
		{Prefix: p("::/0"), Kind: dataplane.RouteUplink, Uplink: 1, Via: a("fe80::1"), Source: a("2001:db8::1")},
		{Prefix: p("198.51.100.0/24"), Kind: dataplane.RouteUplink, Uplink: 1, Source: a("198.51.100.1")},
	}
	with := func(more ...dataplane.RouteConfig) []dataplane.RouteConfig {
		return append(all[:len(all):len(all)], more...)
	}
	onLink := dataplane.RouteConfig{Prefix: p("169.254.0.0/16"), Kind: dataplane.RouteUplink, Uplink: 2, Source: a("198.51.100.1")}
	dummy := dataplane.RouteConfig{Prefix: p("169.254.20.10/32"), Kind: dataplane.RouteLocal}
	metadata := dataplane.RouteConfig{Prefix: p("169.254.169.254/32"), Kind: dataplane.RouteUplink, Uplink: 2, Via: a("198.51.100.7"), Source: a("198.51.100.1")}
	none := dataplane.RouteConfig{Prefix: p("169.254.169.254/32"), Kind: dataplane.RouteUnreachable}
	closed := dataplane.RouteConfig{Prefix: p("169.254.128.0/17"), Kind: dataplane.RouteUnreachable}
	part := dataplane.RouteConfig{Prefix: p("169.254.160.0/19"), Kind: dataplane.RouteUplink, Uplink: 2, Source: a("198.51.100.1")}
	for _, tc := range []struct {
		name      string
		routes    []dataplane.RouteConfig
		resolvers []netip.Addr
		want      map[string]string // destination, the prefix that leads there and by what
	}{
		{"default routes", all, nil, map[string]string{
			"169.254.7.7": "169.254.0.0/16 no", "169.254.169.254": "169.254.169.0/24 1", "169.254.169.253": "169.254.169.0/24 1",
			"169.254.170.2": "169.254.170.0/24 1", "169.254.0.23": "169.254.0.23/32 1", "169.254.0.22": "169.254.0.0/16 no", "203.0.113.1": "0.0.0.0/0 1", "fd00:ec2::254": "::/0 1"}},
		{"a resolver", all, []netip.Addr{a("169.254.9.9"), a("fe80::9"), a("192.0.2.53")}, map[string]string{
			"169.254.9.9": "169.254.9.9/32 1", "169.254.9.8": "169.254.0.0/16 no"}},
		{"on a link", with(onLink), []netip.Addr{a("169.254.9.9")}, map[string]string{"169.254.7.7": "169.254.0.0/16 2", "169.254.169.254": "169.254.0.0/16 2", "169.254.9.9": "169.254.0.0/16 2"}},
		{"of the host", with(dummy), nil, map[string]string{"169.254.20.10": "169.254.20.10/32 host", "169.254.20.11": "169.254.0.0/16 no"}},
		{"named", with(metadata), nil, map[string]string{"169.254.169.254": "169.254.169.254/32 2", "169.254.169.253": "169.254.169.0/24 1"}},
		{"forbidden", with(none), nil, map[string]string{"169.254.169.254": "169.254.169.254/32 no"}},
		{"forbidden with others", with(closed), []netip.Addr{a("169.254.200.1")}, map[string]string{
			"169.254.169.254": "169.254.128.0/17 no", "169.254.200.1": "169.254.128.0/17 no", "169.254.0.23": "169.254.0.23/32 1", "169.254.42.42": "169.254.42.42/32 1"}},
		{"by another uplink", with(part), nil, map[string]string{
			"169.254.169.254": "169.254.160.0/19 2", "169.254.170.2": "169.254.160.0/19 2", "169.254.171.1": "169.254.160.0/19 2", "169.254.7.7": "169.254.0.0/16 no"}},
		{"no default route", all[2:], nil, map[string]string{"169.254.169.254": "169.254.0.0/16 no"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := keepLinkLocal(append([]dataplane.RouteConfig(nil), tc.routes...), tc.resolvers)
			seen := make(map[netip.Prefix]bool)
			for _, r := range got {
				if seen[r.Prefix] {
					t.Errorf("%s is there twice", r.Prefix)
				}
				seen[r.Prefix] = true
			}
			for dst, want := range tc.want {
				var best *dataplane.RouteConfig
				for i := range got {
					if r := &got[i]; r.Prefix.Contains(a(dst)) && (best == nil || best.Prefix.Bits() < r.Prefix.Bits()) {
						best = r
					}
				}
				how := "no"
				switch {
				case best == nil:
				case best.Kind == dataplane.RouteLocal:
					how = "host"
				case best.Kind == dataplane.RouteUplink:
					how = string(rune('0' + best.Uplink))
				}
				if best == nil || best.Prefix.String()+" "+how != want {
					t.Errorf("%s: by %+v, want %s", dst, best, want)
				}
			}
		})
	}
}
