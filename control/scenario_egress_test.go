package control

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/control/host"
)

// egressBy chooses a way out in the default network.
func egressBy(way string) func(*api.Attach) {
	return func(in *api.Attach) { in.Networks = []api.Connect{{Network: "bridge", Egress: way}} }
}

// A way out of its own is kept with the container, also in the alias of its cable, and its interface is an
// uplink for as long as there is one that has chosen it.
func TestEgressIsKept(t *testing.T) {
	m := newMachine(t)
	m.AddNIC("eth9", netip.MustParsePrefix("192.0.2.2/24"))
	m.AddRoute("eth9", host.Route{Prefix: netip.MustParsePrefix("203.0.113.0/24"), Via: netip.MustParseAddr("192.0.2.1")})
	m.start()
	ctx := t.Context()
	uplinks := func() (names []string) {
		info, err := m.Info(ctx)
		m.ok(err)
		for _, u := range info.Uplinks {
			names = append(names, u.Interface)
		}
		slices.Sort(names)
		return names
	}
	chosen := func(phase string) {
		t.Helper()
		for name, want := range map[string][2]string{
			"web": {"dev=eth9,via=192.0.2.1", ""}, "db": {"source=192.0.2.77", "no uplink has address 192.0.2.77"}, "far": {"via=192.0.2.9", "192.0.2.9 is on the link of no uplink"},
		} {
			ct, err := m.Container(ctx, name)
			m.ok(err)
			if e := ct.Endpoints[0]; e.Egress != want[0] || !strings.HasPrefix(e.EgressAway, want[1]) || (want[1] == "") != (e.EgressAway == "") {
				t.Errorf("%s: %s has %q, away %q, want %q", phase, name, e.Egress, e.EgressAway, want)
			}
		}
		if got := uplinks(); !slices.Equal(got, []string{"eth0", "eth9"}) {
			t.Errorf("%s: uplinks are %v", phase, got)
		}
	}
	m.container("web", egressBy("via=192.0.2.1,dev=eth9"))
	m.container("db", egressBy("source=192.0.2.77"))
	m.container("far", egressBy("via=192.0.2.9"))
	chosen("attached")
	if !slices.ContainsFunc(m.Facts(), func(f string) bool { return strings.Contains(f, " egress=dev=eth9,via=192.0.2.1") }) {
		t.Error("the cable's alias does not say so")
	}
	m.kill()
	m.start()
	chosen("after a kill")
	m.ok(m.Detach(ctx, "web"))
	m.until("eth9 is nobody's way", func() bool { return slices.Equal(uplinks(), []string{"eth0"}) })
	_, err := m.CreateNetwork(ctx, api.NetworkCreate{Name: "inside", Internal: true})
	m.ok(err)
	for way, network := range map[string]string{"dev=eth9": "inside", "eth9": "bridge", "via=127.0.0.1": "bridge"} {
		_, err := m.attach("no", func(in *api.Attach) { in.Networks = []api.Connect{{Network: network, Egress: way}} })
		if !errors.Is(err, api.ErrInvalid) || !strings.Contains(err.Error(), way) {
			t.Errorf("egress %s in %s: %v", way, network, err)
		}
	}
}
