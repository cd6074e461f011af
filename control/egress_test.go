package control

import (
	"net"
	"slices"
	"strings"
	"testing"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/internal/netlab"
)

// secondUplink gives the host eth9, 192.0.2.1, with a way out by a rule for that address alone.
func (r *rig) secondUplink() {
	r.t.Helper()
	h, far := r.world.Host, r.world.Outside
	for _, err := range []error{
		netlab.Veth(h, "eth9", far, "eth9", 1500), h.AddAddr("eth9", "192.0.2.1/24"), far.AddAddr("eth9", "192.0.2.2/24"),
		h.SetUp("eth9"), far.SetUp("eth9"),
	} {
		if err != nil {
			r.t.Fatal(err)
		}
	}
	r.run("ip", "rule", "add", "from", "192.0.2.1", "lookup", "252")
	r.run("ip", "route", "add", "default", "via", "192.0.2.2", "dev", "eth9", "table", "252")
}

// leavesFrom is the address that a server beyond sees a container come from, "" when it is not reached.
func leavesFrom(ns *netlab.NS) string { return seenFrom(ns, netlab.FarAddr) }

// seenFrom is the same of the server at one of its addresses.
func seenFrom(ns *netlab.NS, at string) string {
	got, err := fetchFast(ns, at+":9000")
	who, peer, _ := strings.Cut(got, " ")
	if err != nil || who != "outside" {
		return ""
	}
	from, _, _ := net.SplitHostPort(peer)
	return from
}

// egress attaches with a way of its own.
func (r *rig) egress(name, way string, publish ...string) (*netlab.NS, api.Container) {
	r.t.Helper()
	return r.attach(name, api.Attach{Networks: []api.Connect{{Network: "bridge", Egress: way}}, Publish: publish})
}

// TestEgress: each container leaves by the way that was chosen for it, and by no other when that is gone,
// also after a kill; its published port answers where it is asked.
func TestEgress(t *testing.T) {
	r := newRig(t)
	r.cfg.Uplinks = []string{"eth0"}
	r.secondUplink()
	r.run("ip", "addr", "add", "198.51.100.50/24", "dev", "eth0")
	r.start()
	serve(t, r.world.Outside, ":9000", "outside")
	plain, _ := r.attach("plain", api.Attach{})
	dev, _ := r.egress("dev", "dev=eth9", "8080:80")
	via, _ := r.egress("via", "via=192.0.2.2,dev=eth9")
	source, _ := r.egress("source", "source=198.51.100.50")
	away, _ := r.egress("away", "dev=wg0")
	serve(t, dev, ":80", "dev")
	want := func(phase string, all map[*netlab.NS]string) {
		t.Helper()
		for ns, from := range all {
			if from == "" {
				if got := leavesFrom(ns); got != "" {
					t.Errorf("%s: %s leaves from %s, and has no way", phase, ns.Name(), got)
				}
				continue
			}
			eventually(t, phase+": "+ns.Name()+" leaves from "+from, func() bool { return leavesFrom(ns) == from })
		}
	}
	lacks := func(name, way string) {
		t.Helper()
		eventually(t, name+" lacks "+way, func() bool {
			ct, err := r.Container(t.Context(), name)
			return err == nil && strings.Contains(ct.Endpoints[0].EgressAway, way) && (ct.Endpoints[0].EgressAway == "") == (way == "")
		})
	}
	if got := leavesFrom(dev); got != "192.0.2.1" {
		t.Errorf("the first connection left from %q", got)
	}
	lacks("away", "interface wg0 is not there")
	lacks("dev", "")
	asked := func(phase string) {
		t.Helper()
		if got, err := fetchFast(r.world.Outside, netlab.HostAddr+":8080"); err != nil || !strings.HasPrefix(got, "dev ") {
			t.Errorf("%s: the published port: %q, %v", phase, got, err)
		}
	}
	for _, phase := range []string{"running", "after a kill"} {
		there := map[*netlab.NS]string{plain: netlab.HostAddr, dev: "192.0.2.1", via: "192.0.2.1", source: "198.51.100.50", away: ""}
		want(phase, there)
		asked(phase)
		r.run("ip", "link", "set", "eth9", "down")
		eventually(t, phase+": dev leaves no more", func() bool { return leavesFrom(dev) == "" })
		for range 3 {
			want(phase+", down", map[*netlab.NS]string{plain: netlab.HostAddr, dev: "", via: "", source: "198.51.100.50"})
		}
		asked(phase + ", down")
		lacks("dev", "interface eth9")
		eventually(t, phase+": why", func() bool {
			why, err := r.Why(t.Context(), api.WhyQuery{From: "dev", To: netlab.FarAddr + ":9000"})
			return err == nil && why.Reason == "route-no-egress"
		})
		r.run("ip", "link", "set", "eth9", "up")
		r.run("ip", "route", "add", "default", "via", "192.0.2.2", "dev", "eth9", "table", "252")
		r.run("ip", "addr", "del", "198.51.100.50/24", "dev", "eth0")
		eventually(t, phase+": source leaves no more", func() bool { return leavesFrom(source) == "" })
		lacks("dev", "")
		r.run("ip", "addr", "add", "198.51.100.50/24", "dev", "eth0")
		want(phase+", again", there)
		if phase == "running" {
			r.restart("SIGKILL")
		}
	}
	uplinks := func() (names []string) {
		info, err := r.Info(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, u := range info.Uplinks {
			names = append(names, u.Interface)
		}
		return names
	}
	if !slices.Contains(uplinks(), "eth9") {
		t.Errorf("uplinks are %v", uplinks())
	}
	for _, name := range []string{"dev", "via"} {
		if err := r.Detach(t.Context(), name); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "eth9 is nobody's way", func() bool { return !slices.Contains(uplinks(), "eth9") })
}

// TestEgressIsNobodyElses: the interface that a container has chosen is no way of another, though the host
// has a route by it, and one with a next hop of one family has none of the other.
func TestEgressIsNobodyElses(t *testing.T) {
	r := newRig(t)
	r.cfg.Uplinks = []string{"eth0"}
	r.secondUplink()
	r.run("ip", "route", "add", "203.0.113.200", "via", "192.0.2.2", "dev", "eth9")
	r.run("ip", "rule", "del", "from", "192.0.2.1", "lookup", "252")
	if err := r.world.Outside.AddAddr("lo", "203.0.113.200/32"); err != nil {
		t.Fatal(err)
	}
	r.start()
	serve(t, r.world.Outside, ":9000", "outside")
	plain, _ := r.attach("plain", api.Attach{})
	dev, _ := r.egress("dev", "dev=eth9")
	r.createDual("dual")
	six, _ := r.attach("six", api.Attach{Networks: []api.Connect{{Network: "dual", Egress: "via=" + netlab.OutsideAddr}}})
	eventually(t, "dev gets there", func() bool {
		got, err := fetchFast(dev, "203.0.113.200:9000")
		return err == nil && strings.HasPrefix(got, "outside 192.0.2.1:")
	})
	if got := leavesFrom(dev); got != "" {
		t.Errorf("dev leaves from %s, where eth9 has no route", got)
	}
	if got, err := fetchFast(plain, "203.0.113.200:9000"); err == nil {
		t.Errorf("plain gets there: %q", got)
	}
	eventually(t, "six leaves by IPv4", func() bool { return leavesFrom(six) == netlab.HostAddr })
	if got, err := fetchFast(six, join(netlab.FarAddr6, "9000")); err == nil {
		t.Errorf("six leaves by IPv6: %q", got)
	}
}
