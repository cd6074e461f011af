package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/types"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/internal/netlab/labtest"
)

func TestCNIDelegatedIPAM(t *testing.T) {
	r := newCNIRig(t)
	log := filepath.Join(r.dir, "ipam.log")
	ipam := func(words string) string { return fmt.Sprintf(`"ipam":{"type":%q,"log":%q,%s}`, ipamName, log, words) }
	l := r.list("1.1.0", "blue", ipam(`"ips":[{"address":"10.7.0.5/24","gateway":"10.7.0.254"},{"address":"fd00:7::5/64","gateway":"fd00:7::1"}]`))
	rt := &libcni.RuntimeConf{ContainerID: "c1", NetNS: labtest.New(t, "pod").Path(), IfName: "eth0"}
	res := r.mustAdd(l, rt)
	if got := res.IPs[0]; got.Address.String() != "10.7.0.5/24" || got.Gateway.String() != "10.7.0.254" || res.IPs[1].Address.String() != "fd00:7::5/64" {
		t.Errorf("addresses %v", res.IPs)
	}
	if !slices.Equal(res.DNS.Nameservers, []string{"10.7.0.53"}) {
		t.Errorf("dns %+v", res.DNS)
	}
	if err := r.check(l, rt); err != nil {
		t.Errorf("CHECK: %v", err)
	}
	if err := r.on(func() error { return r.GetStatusNetworkList(t.Context(), l) }); err != nil {
		t.Errorf("STATUS: %v", err)
	}
	if err := r.del(l, rt); err != nil {
		t.Error(err)
	}
	called := func(want string) {
		t.Helper()
		got, err := os.ReadFile(log)
		if err != nil || strings.Join(strings.Fields(string(got)), " ") != want {
			t.Errorf("the IPAM plugin was called %q, %v, want %q", got, err, want)
		}
		os.Remove(log)
	}
	called("ADD eth0 CHECK eth0 STATUS DEL eth0")

	// What the daemon refuses goes back to the plugin, and no network is left.
	_, err := r.add(r.list("1.1.0", "blue", ipam(`"ips":[{"address":"10.7.0.1/24"}]`)), rt) // the gateway's
	wantCNIError(t, err, 7, "10.7.0.1")
	called("ADD eth0 DEL eth0")
	_, err = r.add(r.list("1.1.0", "blue", ipam(`"ips":[{"address":"10.7.0.4/24"},{"address":"10.8.0.4/24"}]`)), rt)
	wantCNIError(t, err, 7, "2 IPv4")
	called("ADD eth0 DEL eth0")
	_, err = r.add(r.list("1.1.0", "blue", ipam(`"fail":"ADD"`)), rt)
	wantCNIError(t, err, 120, "no address left")
	called("ADD eth0")
	if nets := decode[[]api.Network](r.rig, "network", "ls"); len(nets) != 1 {
		t.Errorf("networks %+v, want the default one", nets)
	}
}

func wantCNIError(t *testing.T, err error, code uint, part string) {
	t.Helper()
	var e *types.Error
	if !errors.As(err, &e) || e.Code != code || !strings.Contains(e.Msg, part) || strings.Contains(e.Msg, "\n") {
		t.Errorf("got %#v, want code %d and one line with %q", err, code, part)
	}
}

func TestCNIRefusals(t *testing.T) {
	r := newCNIRig(t)
	pod := labtest.New(t, "pod")
	rt := func(caps map[string]any) *libcni.RuntimeConf { // for a pod: this process calls the plugin and has a port
		return &libcni.RuntimeConf{ContainerID: "c1", NetNS: pod.Path(), IfName: "eth0", CapabilityArgs: caps,
			Args: [][2]string{{"IgnoreUnknown", "1"}, {"K8S_POD_UID", "u1"}}}
	}
	r.must("network", "create", "red", "--subnet", "10.6.0.0/24")
	port := func(p int, proto string) map[string]any {
		return map[string]any{"portMappings": []map[string]any{{"hostPort": p, "containerPort": 80, "protocol": proto}}}
	}
	busy, err := r.world.Host.Listen("tcp", ":7000")
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	for _, tc := range []struct {
		name, words string
		caps        map[string]any
		code        uint
		part        string
	}{
		{"subnet of another network", `"subnet":"10.6.0.0/16"`, nil, 100, "10.6.0.0/16"},
		{"network of another subnet", `"network":"red","subnet":"10.7.0.0/24"`, nil, 100, "network red has subnet 10.6.0.0/24, the configuration says 10.7.0.0/24"},
		{"port taken", `"network":"red"`, port(7000, "tcp"), 100, "7000"},
		{"port out of range", `"network":"red"`, port(70000, "tcp"), 7, "ports are 1 to 65535"},
		{"protocol", `"network":"red"`, port(80, "icmp"), 7, "icmp"},
		{"address outside", `"network":"red"`, map[string]any{"ips": []string{"10.9.0.1"}}, 7, "10.9.0.1"},
		{"no address", `"network":"red"`, map[string]any{"ips": []string{"x"}}, 7, "not an IP address"},
		{"MAC", `"network":"red"`, map[string]any{"mac": "nonsense"}, 7, "nonsense"},
		{"wrong type", `"mtu":"big"`, nil, 7, "mtu is a string"},
		{"MTU", `"mtu":5`, nil, 7, "MTU 5"},
		{"IPAM plugin", `"ipam":{"type":"nosuch"}`, nil, 999, "nosuch"},
		{"guard", `"network":"red","guard":"maybe"`, nil, 7, "maybe"},
		{"path in the name", `"network":"../../etc"`, nil, 7, "../../etc"},
		{"range", "", map[string]any{"ipRanges": [][]map[string]any{{{"subnet": "10.9.0.0/24", "rangeStart": "10.9.0.7", "rangeEnd": "10.9.0.99"}}}}, 7, "no CIDR block"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := r.add(r.list("1.0.0", "blue", tc.words), rt(tc.caps))
			wantCNIError(t, err, tc.code, tc.part)
		})
	}
	if got := r.names(); got != nil {
		t.Errorf("containers %v are left", got)
	}
	if nets := decode[[]api.Network](r.rig, "network", "ls"); len(nets) != 2 {
		t.Errorf("networks %+v are left", nets)
	}
	if l, err := pod.Links(); err != nil || len(l) != 1 {
		t.Errorf("links of the pod %v, %v", l, err)
	}
	l := r.list("1.1.0", "blue", "")
	_, err = r.add(l, &libcni.RuntimeConf{ContainerID: "c1", NetNS: "/run/netns/nosuch", IfName: "eth0"})
	if err == nil || !strings.Contains(err.Error(), "nosuch") {
		t.Errorf("a namespace that is not there: %v", err)
	}
	// CHECK names what is wrong.
	if _, err := r.add(l, rt(nil)); err != nil {
		t.Fatal(err)
	}
	if err := pod.SetDown("eth0"); err != nil {
		t.Fatal(err)
	}
	wantCNIError(t, r.check(l, rt(nil)), 100, "eth0 is set down")
	if _, errs, code := r.vswitch("detach", "c1"); code == exitOK || !strings.Contains(errs, "container c1 is of the runtime cni: end it there, or use force") {
		t.Errorf("detach of a container of CNI: %d, %s", code, errs)
	}
	r.must("detach", "--force", "c1")
	wantCNIError(t, r.check(l, rt(nil)), 3, "not attached")

	// With the daemon gone: later for ADD, DEL and CHECK, no for STATUS.
	r.stop()
	_, err = r.add(l, rt(nil))
	wantCNIError(t, err, 11, "start one with")
	wantCNIError(t, r.on(func() error { return r.GetStatusNetworkList(t.Context(), l) }), 50, "start one with")
	r.start()
	if err := r.on(func() error { return r.GetStatusNetworkList(t.Context(), l) }); err != nil {
		t.Errorf("STATUS: %v", err)
	}
}
