package main

import (
	"fmt"
	"strings"
	"testing"

	"github.com/containernetworking/cni/libcni"

	"github.com/vswitch/vswitch/internal/netlab/labtest"
)

// Routes come from the configuration, from its ipam, or from a delegated plugin; the
// default route among them is the network's own.
func TestCNIRoutes(t *testing.T) {
	r := newCNIRig(t)
	const more = `{"dst":"10.66.0.0/16","gw":"10.7.0.9"},{"dst":"10.67.0.0/16"},{"dst":"0.0.0.0/0"}`
	for i, words := range []string{
		`"subnet":"10.7.0.0/24","routes":[` + more + `]`,
		`"subnet":"10.7.0.0/24","ipam":{"type":"vswitch","routes":[` + more + `]}`,
	} {
		l := r.list("1.0.0", fmt.Sprint("blue", i), words)
		pod := labtest.New(t, "pod")
		rt := &libcni.RuntimeConf{ContainerID: "c1", NetNS: pod.Path(), IfName: "eth0"}
		res := r.mustAdd(l, rt)
		var routes []string
		for _, route := range res.Routes {
			routes = append(routes, fmt.Sprintf("%s via %s", route.Dst.String(), route.GW))
		}
		if got := strings.Join(routes, ", "); got != "0.0.0.0/0 via 10.7.0.1, 10.66.0.0/16 via 10.7.0.9, 10.67.0.0/16 via 10.7.0.1" {
			t.Errorf("%s: routes of the result: %s", words, got)
		}
		out, err := pod.Command("ip", "route").CombinedOutput()
		for _, line := range []string{"default via 10.7.0.1", "10.66.0.0/16 via 10.7.0.9", "10.67.0.0/16 via 10.7.0.1"} {
			if err != nil || !strings.Contains(string(out), line) {
				t.Errorf("%s: no %q: %v\n%s", words, line, err, out)
			}
		}
		if err := r.check(l, rt); err != nil {
			t.Error(err)
		}
		if err := r.del(l, rt); err != nil {
			t.Error(err)
		}
	}
	for words, want := range map[string]string{
		`"routes":[{"dst":"10.66.0.0/16","mtu":1400}]`:      "only dst, gw and priority are served",
		`"routes":[{"dst":"0.0.0.0/0","gw":"10.7.0.99"}]`:   "the default route is by the gateway of network",
		`"routes":[{"dst":"10.66.0.0/16","gw":"10.9.9.9"}]`: "that is not in subnet 10.7.0.0/24",
	} {
		l := r.list("1.0.0", "blue", `"subnet":"10.7.0.0/24",`+words)
		_, err := r.add(l, &libcni.RuntimeConf{ContainerID: "c1", NetNS: labtest.New(t, "pod").Path(), IfName: "eth0"})
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v, want %q", words, err, want)
		}
	}
	if got := r.names(); got != nil {
		t.Errorf("containers %v are left", got)
	}
}
