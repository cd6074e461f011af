package control

import (
	"strings"
	"testing"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/internal/netlab"
	"github.com/vswitch/vswitch/internal/netlab/labtest"
)

// A container in two networks, with published ports and reverse path filters: whoever asks is answered,
// whichever network came first, and a network that it leaves and joins again is its way out as before.
func TestPublishedInTwoNetworks(t *testing.T) {
	waysRig(t, func(t *testing.T, r *rig) {
		ctx := t.Context()
		r.createDual("one")
		r.createDual("two")
		a, _ := r.attach("a", api.Attach{Networks: []api.Connect{{Network: "one"}}, Publish: []string{"9000:8080"}})
		for _, key := range []string{"all", "default"} {
			sysctl(t, a, "ipv4/conf/"+key+"/rp_filter", "1")
		}
		serve(t, a, ":8080", "a")
		b, _ := r.attach("b", onNetwork("two"))
		c, _ := r.attach("c", onNetwork("one"))
		reached := func(when string) {
			t.Helper()
			for _, from := range []*netlab.NS{r.world.Outside, r.world.Host, b, c} {
				for _, host := range []string{netlab.HostAddr, netlab.HostAddr6} {
					if got, err := fetch(from, at(host, 9000)); err != nil || !strings.HasPrefix(got, "a ") {
						t.Errorf("%s: %s asks %s: %q, %v", when, from.Name(), host, got, err)
					}
				}
			}
			ct, err := r.Container(ctx, "a")
			if err != nil {
				t.Fatal(err)
			}
			// At the gateway of a network that it is in, its address there answers.
			for _, e := range ct.Endpoints {
				from := map[string]*netlab.NS{"one": c, "two": b}[e.Network]
				for _, gateway := range e.Gateways {
					if got, err := fetch(from, at(gateway, 9000)); err != nil || !strings.HasPrefix(got, "a ") {
						t.Errorf("%s: %s asks its gateway %s: %q, %v", when, from.Name(), gateway, got, err)
					}
				}
			}
		}
		reached("in one")
		if _, err := r.Connect(ctx, "a", api.Connect{Network: "two"}); err != nil {
			t.Fatal(err)
		}
		reached("in both")
		if err := r.Disconnect(ctx, "a", "one"); err != nil {
			t.Fatal(err)
		}
		reached("in two")
		ct, err := r.Connect(ctx, "a", api.Connect{Network: "one"})
		if err != nil {
			t.Fatal(err)
		}
		reached("in both again")
		if e := ct.Endpoints[0]; e.Network != "one" || !e.DefaultRoute {
			t.Errorf("its way out is not that of its first network: %+v", ct.Endpoints)
		}
		serve(t, a, at(addr(ct), 8081), "one alone") // as in a program that listens at one address
		if _, err := r.Publish(ctx, "a", []string{"9001:8081"}); err != nil {
			t.Fatal(err)
		}
		if got, err := fetch(r.world.Outside, at(netlab.HostAddr, 9001)); err != nil || !strings.HasPrefix(got, "one alone ") {
			t.Errorf("a server at its address in one: %q, %v", got, err)
		}
		r.restart("SIGKILL")
		reached("after a kill")
	})
}

// A runtime adds a container's interfaces in any order, as CNI's callers do that ask for all at once: the way out
// is the same, and the ports lead where it does.
func TestInterfacesInAnyOrder(t *testing.T) {
	r := newRig(t)
	r.start()
	r.createDual("one")
	r.createDual("two")
	pod := labtest.New(t, "pod")
	for _, c := range []api.Connect{{Network: "two", Ifname: "eth1"}, {Network: "one", Ifname: "eth0"}} {
		_, err := r.Attach(t.Context(), api.Attach{
			Name: "pod", Runtime: api.RuntimeCNI, RuntimeID: "p", Netns: pod.Path(), Networks: []api.Connect{c}, Publish: []string{"9000:8080"},
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	serve(t, pod, ":8080", "pod")
	for _, host := range []string{netlab.HostAddr, netlab.HostAddr6} {
		wantFetch(t, r.world.Outside, at(host, 9000), "pod", "")
	}
}
