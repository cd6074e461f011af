package control

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/internal/netlab"
)

// uplinks are the names of those that are open.
func (r *rig) uplinks() (names []string) {
	r.t.Helper()
	info, err := r.Info(r.t.Context())
	if err != nil {
		r.t.Fatal(err)
	}
	for _, u := range info.Uplinks {
		names = append(names, u.Interface)
	}
	return names
}

// TestMultipath: a default route with two next hops has containers leave by both, a destination always by
// one, and by the one that is left when the other goes.
func TestMultipath(t *testing.T) {
	r := newRig(t)
	r.secondUplink()
	r.run("ip", "route", "replace", "default", "nexthop", "via", netlab.OutsideAddr, "dev", "eth0", "nexthop", "via", "192.0.2.2", "dev", "eth9")
	var all []string
	for i := range 24 {
		a := fmt.Sprint("203.0.113.", 100+i)
		if err := r.world.Outside.AddAddr("lo", a+"/32"); err != nil {
			t.Fatal(err)
		}
		all = append(all, a)
	}
	r.start()
	if up := r.uplinks(); !slices.Contains(up, "eth0") || !slices.Contains(up, "eth9") {
		t.Errorf("uplinks are %v", up)
	}
	serve(t, r.world.Outside, ":9000", "outside")
	web, _ := r.attach("web", api.Attach{})
	eventually(t, "the outside is reached", func() bool { return leavesFrom(web) != "" })
	for _, phase := range []string{"running", "after a kill"} {
		sources := make(map[string]int)
		for _, a := range all {
			eventually(t, phase+": "+a+" is reached", func() bool { return seenFrom(web, a) != "" })
			first := seenFrom(web, a)
			for range 3 {
				if again := seenFrom(web, a); again != first {
					t.Errorf("%s: %s is reached from %s, and then from %s", phase, a, first, again)
				}
			}
			sources[first]++
		}
		if sources[netlab.HostAddr] == 0 || sources["192.0.2.1"] == 0 || len(sources) != 2 {
			t.Errorf("%s: connections leave from %v, want both ways", phase, sources)
		}
		if phase == "running" {
			r.restart("SIGKILL")
		}
	}
	r.run("ip", "link", "set", "eth9", "down")
	for _, a := range all {
		eventually(t, a+" is reached by the way that is left", func() bool { return seenFrom(web, a) == netlab.HostAddr })
	}
}

// TestAutoTakesWaysByRules: an interface with a default route in a table of rules, or with the two halves that
// VPNs make of one, is an uplink, and so is a bridge.
func TestAutoTakesWaysByRules(t *testing.T) {
	r := newRig(t)
	r.secondUplink()
	h := r.world.Host
	for _, err := range []error{
		h.Bridge("br0", "eth0"), h.DelAddr("eth0", netlab.HostAddr+"/24"), h.AddAddr("br0", netlab.HostAddr+"/24"), h.SetUp("br0"), h.AddRoute("default", netlab.OutsideAddr, "br0"),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	r.start()
	serve(t, r.world.Outside, ":9000", "outside")
	web, _ := r.attach("web", api.Attach{Publish: []string{"8080:80"}})
	serve(t, web, ":80", "web")
	if up := r.uplinks(); !slices.Contains(up, "br0") || !slices.Contains(up, "eth9") {
		t.Errorf("uplinks are %v", up)
	}
	eventually(t, "out by the bridge", func() bool { return leavesFrom(web) == netlab.HostAddr })
	for _, at := range []string{netlab.HostAddr, "192.0.2.1"} {
		eventually(t, "a published port answers at "+at, func() bool {
			got, err := fetchFast(r.world.Outside, at+":8080")
			return err == nil && strings.HasPrefix(got, "web ")
		})
	}
	r.run("ip", "rule", "del", "from", "192.0.2.1", "lookup", "252")
	r.run("ip", "route", "flush", "table", "252")
	eventually(t, "eth9 is no way any more", func() bool { return !slices.Contains(r.uplinks(), "eth9") })
	r.run("ip", "route", "add", "0.0.0.0/1", "via", "192.0.2.2", "dev", "eth9")
	r.run("ip", "route", "add", "128.0.0.0/1", "via", "192.0.2.2", "dev", "eth9")
	eventually(t, "out by the two halves", func() bool { return leavesFrom(web) == "192.0.2.1" })
}
