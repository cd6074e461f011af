package control

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/control/host"
	"github.com/vswitch/vswitch/internal/netlab"
)

func TestSourceOfARoute(t *testing.T) {
	var own []netip.Prefix
	for _, s := range []string{"fd12::5/64", "10.9.0.5/24", "2001:db8:1::5/64", "198.51.100.1/24", "2001:db8::1/64"} {
		own = append(own, netip.MustParsePrefix(s))
	}
	for _, tc := range []struct{ prefix, via, want string }{
		{"0.0.0.0/0", "198.51.100.9", "198.51.100.1"},
		{"0.0.0.0/0", "10.9.0.1", "10.9.0.5"},
		{"10.9.0.0/24", "", "10.9.0.5"},
		{"203.0.113.0/24", "192.0.2.1", "10.9.0.5"},
		{"::/0", "fe80::1", "2001:db8:1::5"}, // not the unique local one, though it is the first
		{"::/0", "2001:db8::9", "2001:db8::1"},
		{"2001:db8::/64", "", "2001:db8::1"},
		{"fd77::/48", "fe80::1", "fd12::5"},
		{"fd12::/64", "", "fd12::5"},
	} {
		r := host.Route{Prefix: netip.MustParsePrefix(tc.prefix)}
		if tc.via != "" {
			r.Via = netip.MustParseAddr(tc.via)
		}
		if got := sourceFor(own, r); got.String() != tc.want {
			t.Errorf("%s via %q: from %s, want %s", tc.prefix, tc.via, got, tc.want)
		}
	}
	if got := sourceFor(own[:1], host.Route{Prefix: netip.MustParsePrefix("::/0")}); got.String() != "fd12::5" {
		t.Errorf("with nothing else: from %s, want fd12::5", got)
	}
	if got := sourceFor(own[:1], host.Route{Prefix: netip.MustParsePrefix("0.0.0.0/0")}); got.IsValid() {
		t.Errorf("without an address of the family: from %s", got)
	}
}

// TestRouterByItsLinkLocalAddress: as router advertisements make it, the next hop
// is fe80::/10 and the interface has a unique local address beside the global one.
func TestRouterByItsLinkLocalAddress(t *testing.T) {
	r := newRig(t)
	worldIsUp(t, r)
	h := r.world.Host
	router := linkLocal(t, r.world.Outside)
	linkLocal(t, h) // with which the host asks for the router
	for _, args := range []string{
		"-6 route del default", "-6 addr add fd12::5/64 dev eth0 nodad", "-6 route add default via " + router + " dev eth0", "-6 neigh flush dev eth0",
	} {
		if out, err := h.Command("ip", strings.Fields(args)...).CombinedOutput(); err != nil {
			t.Fatalf("ip %s: %v: %s", args, err, out)
		}
	}
	r.start()
	if _, err := r.CreateNetwork(t.Context(), api.NetworkCreate{Name: "dual", IPv6: yes()}); err != nil {
		t.Fatal(err)
	}
	web, _ := r.attach("web", api.Attach{Networks: []api.Connect{{Network: "dual"}}, Publish: []string{"8080:80"}})
	serve(t, web, ":80", "web")
	wantFetch(t, web, join(netlab.FarAddr6, "9999"), "outside", netlab.HostAddr6)
	wantFetch(t, r.world.Outside, join(netlab.HostAddr6, "8080"), "web", netlab.OutsideAddr6)

	// A new prefix, the old one deprecated: what is new leaves from the new one.
	for _, args := range []string{
		"-6 addr add 2001:db8:77::1/64 dev eth0 nodad", "-6 addr change " + netlab.HostAddr6 + "/64 dev eth0 preferred_lft 0",
	} {
		if out, err := h.Command("ip", strings.Fields(args)...).CombinedOutput(); err != nil {
			t.Fatalf("ip %s: %v: %s", args, err, out)
		}
	}
	if err := r.world.Outside.AddRoute("2001:db8:77::/64", netlab.HostAddr6, "eth0"); err != nil {
		t.Fatal(err)
	}
	eventually(t, 5*time.Second, "masquerade uses the new prefix", func() bool {
		got, err := fetchFast(web, join(netlab.FarAddr6, "9999"))
		return err == nil && strings.HasPrefix(got, "outside [2001:db8:77::1]:")
	})
	wantFetch(t, r.world.Outside, join(netlab.HostAddr6, "8080"), "web", netlab.OutsideAddr6)
}

// linkLocal is the link-local address of eth0, once it has passed duplicate
// address detection.
func linkLocal(t testing.TB, ns *netlab.NS) (addr string) {
	t.Helper()
	eventually(t, 5*time.Second, "a link-local address", func() bool {
		out, err := ns.Command("ip", "-6", "-o", "addr", "show", "dev", "eth0", "scope", "link", "-tentative").CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		if words := strings.Fields(string(out)); len(words) > 3 {
			addr, _, _ = strings.Cut(words[3], "/")
		}
		return addr != ""
	})
	return addr
}
