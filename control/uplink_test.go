package control

import (
	"strings"
	"testing"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/internal/netlab"
)

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
	eventually(t, "masquerade uses the new prefix", func() bool {
		got, err := fetchFast(web, join(netlab.FarAddr6, "9999"))
		return err == nil && strings.HasPrefix(got, "outside [2001:db8:77::1]:")
	})
	wantFetch(t, r.world.Outside, join(netlab.HostAddr6, "8080"), "web", netlab.OutsideAddr6)
}

// linkLocal is the link-local address of eth0, once it has passed duplicate
// address detection.
func linkLocal(t testing.TB, ns *netlab.NS) (addr string) {
	t.Helper()
	eventually(t, "a link-local address", func() bool {
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
