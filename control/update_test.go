package control

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/control/inventory"
	"github.com/vswitch/vswitch/control/model"
	"github.com/vswitch/vswitch/control/policy"
	"github.com/vswitch/vswitch/internal/netlab"
)

func word(s string) *string { return &s }

// What an update changes holds for the containers that are there, at once and
// after a restart; the rest stays.
func TestUpdateNetwork(t *testing.T) {
	r := newRig(t)
	r.start()
	if _, err := r.CreateNetwork(t.Context(), api.NetworkCreate{Name: "blue", Subnet: "10.7.0.0/24", Labels: map[string]string{"a": "1", "b": "2"}}); err != nil {
		t.Fatal(err)
	}
	a, act := r.attach("a", onNetwork("blue"))
	b, bct := r.attach("b", onNetwork("blue"))
	serve(t, b, ":80", "b")
	serve(t, r.world.Host, ":7000", "host")
	serve(t, r.world.Outside, ":9000", "outside")
	command(t, r.world.Outside, "ip", "route", "add", "10.7.0.0/24", "via", netlab.HostAddr)
	update := func(in api.NetworkUpdate) api.Network {
		t.Helper()
		n, err := r.UpdateNetwork(t.Context(), "blue", in)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	reaches := func(at string, want bool) {
		t.Helper()
		try := fetchFast
		if want {
			try = fetch
		}
		if got, err := try(a, at); (err == nil) != want {
			t.Errorf("%s reached: %v (%s, %v)", at, !want, got, err)
		}
	}
	reaches(addr(bct)+":80", true)
	reaches("10.7.0.1:7000", true)
	wantFetch(t, a, netlab.OutsideAddr+":9000", "outside", netlab.HostAddr)

	n := update(api.NetworkUpdate{ICC: no()})
	if n.ICC || !n.HostAccess || n.Filter != api.FilterAPDF || len(n.Exempt) != 0 || len(n.Labels) != 2 {
		t.Errorf("%+v", n)
	}
	reaches(addr(bct)+":80", false)
	reaches("10.7.0.1:7000", true)
	n = update(api.NetworkUpdate{ICC: yes(), HostAccess: no(), Filter: word("eif"), Labels: map[string]string{"a": "", "c": "3"}})
	if !n.ICC || n.HostAccess || n.Filter != api.FilterEIF || n.Labels["a"] != "" || n.Labels["b"] != "2" || n.Labels["c"] != "3" {
		t.Errorf("%+v", n)
	}
	check := func() {
		t.Helper()
		reaches(addr(bct)+":80", true)
		reaches("10.7.0.1:7000", false)
	}
	check()
	update(api.NetworkUpdate{Exempt: &[]string{netlab.OutsideAddr + "/32"}})
	r.stop()
	r.start()
	check()
	n, err := r.Network(t.Context(), "blue")
	if err != nil || n.Filter != api.FilterEIF || !slices.Equal(n.Exempt, []string{netlab.OutsideAddr + "/32"}) || n.Labels["c"] != "3" {
		t.Errorf("after the restart: %+v, %v", n, err)
	}
	// An exempt destination sees the container's own address. Its answers are not
	// for the host and come to nothing.
	seen := sniff(t, r.world.Outside, "eth0")
	reaches(netlab.OutsideAddr+":9000", false)
	if seen.comes(1, func(f []byte) bool { return strings.Contains(string(f), string(act4(act))) }) == 0 {
		t.Error("nothing of the container's own address came out to an exempt destination")
	}
	n = update(api.NetworkUpdate{Exempt: &[]string{}, Filter: word("apdf"), HostAccess: yes()})
	if len(n.Exempt) != 0 || n.Filter != api.FilterAPDF {
		t.Errorf("%+v", n)
	}
	reaches("10.7.0.1:7000", true)
	wantFetch(t, a, netlab.OutsideAddr+":9000", "outside", netlab.HostAddr)

	for _, tc := range []struct {
		name string
		in   api.NetworkUpdate
		want string
	}{
		{"red", api.NetworkUpdate{}, "network red does not exist"},
		{"blue", api.NetworkUpdate{Filter: word("all"), ICC: no()}, "use apdf"},
		{"blue", api.NetworkUpdate{Exempt: &[]string{"10.0.0.1"}}, "prefix length"},
		{"blue", api.NetworkUpdate{Labels: map[string]string{"": "x"}}, "KEY=VALUE"},
	} {
		if _, err := r.UpdateNetwork(t.Context(), tc.name, tc.in); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%+v: %v, want %q", tc.in, err, tc.want)
		}
	}
	if n, err := r.Network(t.Context(), "blue"); err != nil || !n.ICC {
		t.Errorf("a refused update changed the network: %+v, %v", n, err)
	}
}

// act4 is a container's address as it stands in a packet.
func act4(ct api.Container) []byte {
	ip := netip.MustParseAddr(addr(ct)).As4()
	return ip[:]
}

// The data path gets the words in its own terms.
func TestNetworkOptionsAreCompiled(t *testing.T) {
	rec, err := model.CheckNetwork(api.NetworkCreate{Name: "n", Subnet: "10.1.0.0/24", Filter: "eif", Exempt: []string{"10.9.9.0/24"}})
	if err != nil {
		t.Fatal(err)
	}
	if got := (&inventory.Network{Rec: rec}).Policy(); got.Filter != policy.FilterEIF || len(got.Exempt) != 1 {
		t.Errorf("%+v", got)
	}
	for _, in := range []api.NetworkCreate{
		{Name: "n", Subnet: "10.1.0.0/24", Filter: "EIF"},
		{Name: "n", Subnet: "10.1.0.0/24", Exempt: []string{"x"}},
	} {
		if _, err := model.CheckNetwork(in); !errors.Is(err, api.ErrInvalid) {
			t.Errorf("%+v: %v", in, err)
		}
	}
}

// A container's own limit of flows, refused when it is none, kept over a restart
// and in force.
func TestQuotaOfAContainer(t *testing.T) {
	r := newRig(t)
	r.start()
	for _, j := range []api.Connect{{MaxFlows: -2}, {FlowRate: -2}} {
		if _, err := model.CheckJoin(j); !errors.Is(err, api.ErrInvalid) {
			t.Errorf("%+v: %v", j, err)
		}
	}
	a, _ := r.attach("a", api.Attach{Networks: []api.Connect{{MaxFlows: 5}}})
	b, _ := r.attach("b", api.Attach{})
	serve(t, r.world.Outside, ":9000", "outside")
	check := func() {
		t.Helper()
		ct, err := r.Container(t.Context(), "a")
		if err != nil || ct.Endpoints[0].MaxFlows != 5 {
			t.Errorf("%+v, %v", ct, err)
		}
		if _, err := r.FlushNAT(t.Context(), api.NATFlush{}); err != nil {
			t.Fatal(err)
		}
		var began atomic.Int32
		var dialing, open sync.WaitGroup
		open.Add(1)
		for range 8 {
			dialing.Add(1)
			go func() {
				c, err := a.Dial("tcp", netlab.OutsideAddr+":9000", 4*time.Second)
				if err == nil {
					began.Add(1)
				}
				dialing.Done()
				if open.Wait(); err == nil {
					c.Close()
				}
			}()
		}
		dialing.Wait()
		if n := began.Load(); n != 5 {
			t.Errorf("%d connections began, want 5", n)
		}
		defer open.Done()
		wantFetch(t, b, netlab.OutsideAddr+":9000", "outside", netlab.HostAddr)
	}
	check()
	r.stop()
	r.start()
	check()
}

// RFC 6888 REQ-12: who a container talks to is not in the log,
// also when something is refused.
func TestN80LogNamesNoDestination(t *testing.T) {
	r := newRig(t)
	r.start()
	a, _ := r.attach("a", api.Attach{Networks: []api.Connect{{MaxFlows: 3}}, Publish: []string{"8080:80"}})
	serve(t, a, ":80", "a")
	serve(t, r.world.Outside, ":9000", "outside")
	for range 6 {
		if c, err := a.Dial("tcp", netlab.FarAddr+":9000", time.Second); err == nil {
			defer c.Close()
		}
	}
	wantFetch(t, r.world.Outside, netlab.HostAddr+":8080", "a", netlab.OutsideAddr)
	if _, err := fetchFast(a, netlab.FarAddr+":9001"); err == nil {
		t.Error("the quota lets everything through")
	}
	stats, err := r.Stats(t.Context(), api.StatsQuery{})
	if err != nil || stats.Drops["postrouting-quota"] == 0 {
		t.Errorf("nothing was refused: %+v, %v", stats.Drops, err)
	}
	r.stop()
	for _, secret := range []string{netlab.FarAddr, netlab.OutsideAddr + ":", ":9000"} {
		if strings.Contains(r.log.String(), secret) {
			t.Errorf("%s is in the log:\n%s", secret, r.log.String())
		}
	}
}
