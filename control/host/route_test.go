package host

import (
	"bytes"
	"errors"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/vswitch/vswitch/internal/netlab"
	"github.com/vswitch/vswitch/internal/netlab/labtest"
)

var compareAddrs = cmp.Options{
	cmp.Comparer(func(a, b netip.Addr) bool { return a == b }),
	cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }),
	cmpopts.IgnoreUnexported(Route{}, Link{}),
}

func TestRoutes(t *testing.T) {
	w := labtest.NewWorld(t)
	for _, args := range []string{
		"link add d0 type veth peer name p0", "link set p0 up", "link add d1 type veth peer name p1", "link set p1 up", "link set d0 up", "link set d1 up",
		"addr add 10.20.0.1/24 dev d0", "addr add 10.21.0.1/24 dev d1",
		"route add 10.30.0.0/16 via 10.20.0.2 metric 50 src 10.20.0.1",
		"route add 10.30.0.0/16 via 10.21.0.2 metric 20",
		"route add 10.40.0.0/16 nexthop via 10.20.0.3 nexthop via 10.21.0.3",
		"route add 10.41.0.0/16 nexthop via 10.21.0.4 nexthop via 10.20.0.4",
		"route add unreachable 10.50.0.0/16", "route add blackhole 10.51.0.0/16", "route add prohibit 10.52.0.0/16",
		"route add 10.60.0.0/16 via inet6 fe80::5 dev d1",
		"route add 10.70.0.0/16 dev d0 table 100", "route add 10.71.0.0/16 dev d0 table default",
		"route add throw 10.72.0.0/16", "route add 10.73.0.0/16 tos 0x20 dev d0",
		"-6 route add fd00:30::/48 via 2001:db8::77 metric 5",
		"-6 route add fd00:40::/48 nexthop via fe80::1 dev d0 nexthop via fe80::2 dev d1",
		"-6 route add unreachable fd00:50::/48",
	} {
		run(t, w.Host, "ip", strings.Fields(args)...)
	}
	inHost(t, w.Host, func(h *Host) {
		eth0, d0, d1 := index(t, h, "eth0"), index(t, h, "d0"), index(t, h, "d1")
		want := map[string]Route{
			"0.0.0.0/0":         {Ifindex: eth0, Via: ip("198.51.100.9")},
			"::/0":              {Ifindex: eth0, Via: ip("2001:db8::9"), Metric: 1024},
			"198.51.100.0/24":   {Ifindex: eth0, Source: ip("198.51.100.1")},
			"198.51.100.1/32":   {Ifindex: eth0, Source: ip("198.51.100.1"), Kind: Local},
			"198.51.100.255/32": {Ifindex: eth0, Source: ip("198.51.100.1"), Kind: Broadcast},
			"2001:db8::/64":     {Ifindex: eth0, Metric: 256},
			"2001:db8::1/128":   {Ifindex: eth0, Kind: Local},
			"127.0.0.0/8":       {Ifindex: 1, Source: ip("127.0.0.1"), Kind: Local},
			"10.30.0.0/16":      {Ifindex: d1, Via: ip("10.21.0.2"), Metric: 20},
			"10.40.0.0/16":      {Ifindex: d0, Via: ip("10.20.0.3"), Hops: []int{d0, d1}},
			"10.41.0.0/16":      {Ifindex: d1, Via: ip("10.21.0.4"), Hops: []int{d1, d0}},
			"10.50.0.0/16":      {Kind: Unreachable},
			"10.51.0.0/16":      {Kind: Blackhole},
			"10.52.0.0/16":      {Kind: Unreachable},
			"10.60.0.0/16":      {Ifindex: d1, Via: ip("fe80::5")},
			"10.71.0.0/16":      {Ifindex: d0},
			"fd00:30::/48":      {Ifindex: eth0, Via: ip("2001:db8::77"), Metric: 5},
			"fd00:40::/48":      {Ifindex: d0, Via: ip("fe80::1"), Metric: 1024, Hops: []int{d0, d1}},
			"fd00:50::/48":      {Ifindex: 1, Kind: Unreachable, Metric: 1024},
		}
		got := routes(t, h)
		for prefix, r := range want {
			r.Prefix = netip.MustParsePrefix(prefix)
			if diff := cmp.Diff(r, got[prefix], compareAddrs); diff != "" {
				t.Errorf("route %s (-want +got):\n%s", prefix, diff)
			}
		}
		for _, absent := range []string{"10.70.0.0/16", "10.72.0.0/16", "10.73.0.0/16"} {
			if r, ok := got[absent]; ok {
				t.Errorf("route %s should not be seen: %+v", absent, r)
			}
		}
		run(t, w.Host, "ip", "link", "set", "d0", "down")
		if got := routes(t, h)["10.40.0.0/16"]; got.Ifindex != d1 || got.Via != ip("10.21.0.3") {
			t.Errorf("with its first next hop dead 10.40.0.0/16 is %+v", got)
		}
	})
}

func routes(t testing.TB, h *Host) map[string]Route {
	t.Helper()
	list, err := h.Routes()
	if err != nil {
		t.Fatal(err)
	}
	m := map[string]Route{}
	for _, r := range list {
		if _, twice := m[r.Prefix.String()]; twice {
			t.Errorf("%s appears twice", r.Prefix)
		}
		m[r.Prefix.String()] = r
	}
	return m
}

func ip(s string) netip.Addr { return netip.MustParseAddr(s) }

func index(t testing.TB, h *Host, name string) int {
	t.Helper()
	l, err := h.Link(name)
	if err != nil {
		t.Fatal(err)
	}
	return l.Index
}

func TestOverlaps(t *testing.T) {
	w := labtest.NewWorld(t)
	for _, args := range []string{
		"route add 10.0.0.0/9 via 198.51.100.7", "route add unreachable 10.200.0.0/16", "addr add 172.16.0.1/24 dev eth0",
		"addr add 192.168.9.1/32 dev lo", "-6 route add fd00::/16 dev eth0",
	} {
		run(t, w.Host, "ip", strings.Fields(args)...)
	}
	tests := []struct {
		prefix, want string
	}{
		{"10.1.0.0/24", "10.0.0.0/9 via 198.51.100.7 dev eth0"},
		{"10.0.0.0/8", "10.0.0.0/9 via 198.51.100.7 dev eth0"},
		{"10.200.1.0/24", "unreachable 10.200.0.0/16"},
		{"172.16.0.0/25", "172.16.0.0/24 dev eth0"},
		{"192.168.0.0/16", "local 192.168.9.1/32 dev lo"},
		{"127.0.0.0/24", "local 127.0.0.0/8 dev lo"},
		{"fd00:1::/64", "fd00::/16 dev eth0"},
		{"10.201.0.0/16", ""},
		{"fd01:1::/64", ""},
		{"192.0.2.0/24", ""},
	}
	inHost(t, w.Host, func(h *Host) {
		for _, tt := range tests {
			got, ok := h.Overlaps(netip.MustParsePrefix(tt.prefix))
			if got != tt.want || ok != (tt.want != "") {
				t.Errorf("Overlaps(%s) = %q, %v, want %q", tt.prefix, got, ok, tt.want)
			}
		}
	})
}

func TestUplinks(t *testing.T) {
	w := labtest.NewWorld(t)
	for _, args := range []string{
		"link add d0 type veth peer name p0", "link set p0 up", "link set d0 up", "addr add 10.20.0.1/24 dev d0",
		"link add d1 type veth peer name p1", "link set p1 up",
		"route add default via 10.20.0.2 metric 100", "-6 route add default dev lo metric 1",
	} {
		run(t, w.Host, "ip", strings.Fields(args)...)
	}
	tests := []struct {
		names []string
		want  []string
		is    error
		text  string
	}{
		{names: []string{"auto"}, want: []string{"eth0", "d0"}},
		{names: nil, want: []string{"eth0", "d0"}},
		{names: []string{"d0"}, want: []string{"d0"}},
		{names: []string{"d0", "eth0", "d0"}, want: []string{"d0", "eth0"}},
		{names: []string{"eth7"}, is: ErrNotFound, text: "uplink eth7: no such interface: choose"},
		{names: []string{"d1"}, is: ErrUplink, text: "uplink d1: not usable as an uplink: it is down: ip link set d1 up"},
		{names: []string{"lo"}, is: ErrUplink, text: "uplink lo: not usable as an uplink: it speaks neither Ethernet nor IP alone as tun and WireGuard do"},
	}
	inHost(t, w.Host, func(h *Host) {
		for _, tt := range tests {
			links, err := h.Uplinks(tt.names)
			var got []string
			for _, l := range links {
				got = append(got, l.Name)
			}
			if !slices.Equal(got, tt.want) || !errors.Is(err, tt.is) {
				t.Errorf("Uplinks(%q) = %q, %v, want %q, %v", tt.names, got, err, tt.want, tt.is)
			}
			if tt.is != nil && err != nil {
				contains(t, "error", err.Error(), tt.text)
			}
		}
	})
}

func TestSetupTAP(t *testing.T) {
	host := labtest.New(t, "host")
	if f, err := os.OpenFile("/dev/net/tun", os.O_RDWR, 0); err != nil {
		labtest.SkipRights(t, "no TAP device can be made: "+err.Error())
	} else {
		f.Close()
	}
	run(t, host, "ip", "tuntap", "add", "dev", "vsw0", "mode", "tap")
	mac := net.HardwareAddr{0x02, 0x42, 10, 1, 0, 1}
	v4, v6 := netip.MustParsePrefix("10.1.0.1/24"), netip.MustParsePrefix("fd00:1::1/64")
	inHost(t, host, func(h *Host) {
		for _, addrs := range [][]netip.Prefix{{v4, v6}, {v4, v6}, {netip.MustParsePrefix("10.2.0.1/24")}} {
			index, err := h.SetupTAP("vsw0", "vswitch network blue", mac, 1400, addrs)
			if err != nil {
				t.Fatal(err)
			}
			got, err := h.Link("vsw0")
			if err != nil {
				t.Fatal(err)
			}
			got.Running = false // the kernel may notice only later that nobody holds the device
			want := Link{Index: index, Name: "vsw0", Alias: "vswitch network blue", Kind: "tun", MAC: mac, MTU: 1400, Up: true, Ethernet: true}
			if diff := cmp.Diff(want, got, compareAddrs); diff != "" {
				t.Errorf("link (-want +got):\n%s", diff)
			}
			have, err := h.Addrs()
			if err != nil {
				t.Fatal(err)
			}
			var on []netip.Prefix
			for _, a := range have {
				if a.Ifindex == index && !a.Prefix.Addr().IsLinkLocalUnicast() {
					on = append(on, a.Prefix)
				}
				if a.Tentative && a.Prefix == v6 {
					t.Errorf("%s is tentative", a.Prefix)
				}
			}
			if diff := cmp.Diff(addrs, on, compareAddrs); diff != "" {
				t.Errorf("addresses (-want +got):\n%s", diff)
			}
		}
		if _, err := h.SetupTAP("vsw9", "", mac, 1400, nil); !errors.Is(err, ErrNotFound) {
			t.Errorf("SetupTAP of no device: %v", err)
		}
	})
}

// A start sets up a device that is there already: the host goes on with the neighbours that it
// has there, as nobody may be there to answer when it asks for them.
func TestSetupTAPKeepsNeighbors(t *testing.T) {
	host, other := labtest.New(t, "host"), labtest.New(t, "other")
	if err := errors.Join(netlab.Veth(host, "vsw0", other, "eth0", 1500), other.SetUp("eth0")); err != nil {
		t.Fatal(err)
	}
	mac := net.HardwareAddr{0x02, 0x42, 10, 1, 0, 1}
	addrs := []netip.Prefix{netip.MustParsePrefix("10.1.0.1/24"), netip.MustParsePrefix("fd00:1::1/64")}
	inHost(t, host, func(h *Host) {
		index, err := h.SetupTAP("vsw0", "vswitch network blue", mac, 1400, addrs)
		if err != nil {
			t.Fatal(err)
		}
		known := []Neighbor{{index, netip.MustParseAddr("10.1.0.2"), net.HardwareAddr{2, 0, 0, 0, 0, 9}}, {index, netip.MustParseAddr("fd00:1::2"), net.HardwareAddr{2, 0, 0, 0, 0, 9}}}
		for _, n := range known {
			if err := h.SetNeighbor(n); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := h.SetupTAP("vsw0", "vswitch network blue", mac, 1400, addrs); err != nil {
			t.Fatal(err)
		}
		list, err := h.Neighbors()
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range known {
			if !slices.ContainsFunc(list, func(o Neighbor) bool { return o.Addr == n.Addr && bytes.Equal(o.MAC, n.MAC) }) {
				t.Errorf("neighbour %s is forgotten, there are %v", n.Addr, list)
			}
		}
	})
}

func TestDefaultRouteOfAContainer(t *testing.T) {
	host, web := labtest.New(t, "host"), labtest.New(t, "web")
	inHost(t, host, func(h *Host) {
		ns := openNS(t, web)
		s := spec("veth00000001", nil)
		gateways := s.Gateways
		s.Gateways = nil
		if _, err := h.AddVeth(ns, s); err != nil {
			t.Fatal(err)
		}
		for _, gw := range append(gateways, ip("10.1.0.9")) {
			if err := h.SetDefaultRoute(ns, "eth0", gw); err != nil {
				t.Fatal(err)
			}
		}
		contains(t, "routes", run(t, web, "ip", "route"), "default via 10.1.0.9 dev eth0")
		contains(t, "IPv6 routes", run(t, web, "ip", "-6", "route"), "default via fd00:1::1 dev eth0")
		if err := h.SetDefaultRoute(ns, "eth9", gateways[0]); !errors.Is(err, ErrNotFound) {
			t.Errorf("default route over no interface: %v", err)
		}
	})
}
