package control

import (
	"fmt"
	"strings"
	"testing"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/internal/netlab"
	"github.com/vswitch/vswitch/internal/netlab/labtest"
)

// TestS80HairpinByARuleOfTheHost: a rule of the host may send a container's packets back into
// its network (the CNI plugin portmap does, with hairpin), to another container or to itself.
// Into another network they do not come that way.
func TestS80HairpinByARuleOfTheHost(t *testing.T) {
	labtest.NeedProgram(t, "nft")
	waysRig(t, func(t *testing.T, r *rig) {
		for _, name := range []string{"near", "far"} {
			if _, err := r.CreateNetwork(t.Context(), api.NetworkCreate{Name: name, IPv6: yes()}); err != nil {
				t.Fatal(err)
			}
		}
		near, nct := r.attach("near", onNetwork("near"))
		beside, bct := r.attach("beside", onNetwork("near"))
		far, fct := r.attach("far", onNetwork("far"))
		rules := new(strings.Builder)
		heard := make(map[string]*datagrams)
		hosts := map[bool]string{false: netlab.HostAddr, true: netlab.HostAddr6}
		for i, c := range []struct {
			name string
			ns   *netlab.NS
			ct   api.Container
		}{{"near", near, nct}, {"beside", beside, bct}, {"far", far, fct}} {
			heard[c.name] = listenUDP(t, c.ns, ":5353", c.name)
			for v6, a := range addrsByFamily(c.ct) {
				if v6 {
					fmt.Fprintf(rules, "add rule inet portmap in ip6 daddr %s udp dport %d dnat ip6 to [%s]:5353\n", hosts[v6], 7000+i, a)
				} else {
					fmt.Fprintf(rules, "add rule inet portmap in ip daddr %s udp dport %d dnat ip to %s:5353\n", hosts[v6], 7000+i, a)
				}
			}
		}
		cmd := r.world.Host.Command("nft", "-f", "-")
		cmd.Stdin = strings.NewReader(`table inet portmap {
	chain in { type nat hook prerouting priority -100; }
	chain out { type nat hook postrouting priority 100; udp dport 5353 masquerade; }
}
` + rules.String())
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		for _, phase := range []string{"running", "after a kill"} {
			for _, v6 := range []bool{false, true} {
				wantUDP(t, near, at(hosts[v6], 7000), "near")
				wantUDP(t, near, at(hosts[v6], 7001), "beside")
				before, refused := heard["far"].count(), r.stats().Drops["guard-not-from-host"]
				if got := askUDP(near, at(hosts[v6], 7002)); got != "" {
					t.Errorf("%s, IPv%s: another network answers %q", phase, familyOf(v6), got)
				}
				if n := heard["far"].count() - before; n != 0 {
					t.Errorf("%s, IPv%s: %d datagrams came into another network", phase, familyOf(v6), n)
				}
				eventually(t, fmt.Sprintf("%s, IPv%s: the switch says that it refused it", phase, familyOf(v6)), func() bool {
					return r.stats().Drops["guard-not-from-host"] > refused
				})
			}
			if phase == "running" {
				r.restart("SIGKILL")
			}
		}
	})
}
