package control

import (
	"slices"
	"strings"
	"testing"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/control/client"
	"github.com/vswitch/vswitch/internal/netlab/labtest"
)

// A container gets the routes that are asked for, beside the default route, and they
// lead: here through another container that forwards.
func TestStaticRoutes(t *testing.T) {
	r := newRig(t)
	r.start()
	ctx := t.Context()
	if _, err := r.CreateNetwork(ctx, api.NetworkCreate{Name: "dual", Subnets: []string{"10.7.0.0/24", "fd00:7::/64"}}); err != nil {
		t.Fatal(err)
	}
	router := labtest.New(t, "router")
	_, err := r.Attach(ctx, api.Attach{Name: "router", Netns: router.Path(), Networks: []api.Connect{{Network: "dual", IP: "10.7.0.9", Guard: api.GuardOff}}})
	if err != nil {
		t.Fatal(err)
	}
	if err := router.AddAddr("lo", "10.66.0.1/32"); err != nil {
		t.Fatal(err)
	}
	serve(t, router, "10.66.0.1:80", "behind")

	ns := labtest.New(t, "web")
	web := api.Attach{Name: "web", Netns: ns.Path(), Networks: []api.Connect{{Network: "dual", Routes: []api.Route{
		{To: "10.66.0.0/16", Via: "10.7.0.9"}, {To: "10.67.0.0/16", Metric: 7}, {To: "fd00:66::/32"}, {To: "0.0.0.0/0"}, {To: "::/0", Via: "fd00:7::1"},
	}}}}
	ct, err := r.Attach(ctx, web)
	if err != nil {
		t.Fatal(err)
	}
	want := []api.Route{{To: "10.66.0.0/16", Via: "10.7.0.9"}, {To: "10.67.0.0/16", Via: "10.7.0.1", Metric: 7}, {To: "fd00:66::/32", Via: "fd00:7::1"}}
	if got := ct.Endpoints[0].Routes; !slices.Equal(got, want) {
		t.Errorf("routes %+v, want %+v", got, want)
	}
	out := command(t, ns, "ip", "route") + command(t, ns, "ip", "-6", "route")
	for _, line := range []string{"default via 10.7.0.1", "10.66.0.0/16 via 10.7.0.9 dev eth0", "10.67.0.0/16 via 10.7.0.1 dev eth0 proto static metric 7", "default via fd00:7::1", "fd00:66::/32 via fd00:7::1 dev eth0"} {
		if !strings.Contains(out, line) {
			t.Errorf("no %q among\n%s", line, out)
		}
	}
	wantFetch(t, ns, "10.66.0.1:80", "behind", "")
	r.kill()
	r.start()
	if err := r.Check(ctx, "web"); err != nil {
		t.Error(err)
	}
	command(t, ns, "ip", "route", "del", "10.66.0.0/16")
	if err := r.Check(ctx, "web"); !client.IsConflict(err) || !strings.Contains(err.Error(), "eth0 has lost its route to 10.66.0.0/16 via 10.7.0.9") {
		t.Errorf("check: %v", err)
	}
	for _, tc := range []struct {
		route api.Route
		words string
	}{
		{api.Route{To: "10.1.0.1/16"}, "write a prefix such as"},
		{api.Route{To: "10.1.0.0/16", Via: "fd00:7::9"}, "of the same family"},
		{api.Route{To: "10.1.0.0/16", Metric: -1}, "is negative"},
		{api.Route{To: "10.1.0.0/16", Via: "10.250.0.1"}, "that is not in subnet 10.7.0.0/24 of network dual"},
		{api.Route{To: "10.7.0.0/24"}, "that is network dual itself"},
		{api.Route{To: "0.0.0.0/0", Via: "10.7.0.9"}, "the default route is by the gateway of network dual"},
	} {
		other := labtest.New(t, "other")
		_, err := r.Attach(ctx, api.Attach{Name: "other", Netns: other.Path(), Networks: []api.Connect{{Network: "dual", Routes: []api.Route{tc.route}}}})
		if err == nil || !strings.Contains(err.Error(), tc.words) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%+v: %v, want %q", tc.route, err, tc.words)
		}
		if links, _ := other.Links(); len(links) != 1 {
			t.Errorf("%+v: left %v", tc.route, links)
		}
	}
}
