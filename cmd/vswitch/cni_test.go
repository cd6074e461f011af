package main

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/types"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/internal/netlab"
	"github.com/vswitch/vswitch/internal/netlab/labtest"
)

// Every version of the specification gives and takes the whole life of an
// attachment.
func TestF11CNIVersions(t *testing.T) {
	r := newCNIRig(t)
	hello(t, r.world.Outside, 9000)
	for _, version := range []string{"0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"} {
		t.Run(version, func(t *testing.T) {
			l := r.list(version, "blue", `"subnets":["10.7.0.0/24","fd00:7::/64"],"mtu":1400`)
			pod := labtest.New(t, "pod")
			rt := &libcni.RuntimeConf{ContainerID: "c-" + version, NetNS: pod.Path(), IfName: "eth0",
				CapabilityArgs: map[string]any{"portMappings": []map[string]any{
					{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"},
					{"HostPort": 8053, "ContainerPort": 53, "Protocol": "UDP", "HostIP": "127.0.0.1"}, // containerd's way
					{"hostPort": 0, "containerPort": 443},
				}}}
			res := r.mustAdd(l, rt)
			if len(res.Interfaces) != 2 || res.Interfaces[0].Sandbox != "" || res.Interfaces[1].Sandbox != pod.Path() || res.Interfaces[1].Name != "eth0" || res.Interfaces[1].Mac == "" {
				t.Errorf("interfaces %+v", res.Interfaces)
			}
			if len(res.IPs) != 2 || *res.IPs[0].Interface != 1 || res.IPs[0].Gateway.String() != "10.7.0.1" || res.IPs[1].Gateway.String() != "fd00:7::1" {
				t.Errorf("addresses %v", res.IPs)
			}
			if len(res.Routes) != 2 {
				t.Errorf("routes %v", res.Routes)
			}
			hello(t, pod, 80)
			wantHello(t, r.world.Outside, netlab.HostAddr+":8080", "pod")
			wantHello(t, r.world.Host, net.JoinHostPort(res.IPs[0].Address.IP.String(), "80"), "pod")
			wantHello(t, pod, netlab.OutsideAddr+":9000", "outside")
			ct := decode[api.Container](r.rig, "inspect", "c-"+version)
			if ct.Runtime != "cni" || ct.RuntimeID != rt.ContainerID || len(ct.Ports) != 2 || ct.Endpoints[0].RuntimeNetwork != "blue" {
				t.Errorf("container %+v", ct)
			}
			// From 0.4.0 there is CHECK; ADD again says what stands.
			if err := r.check(l, rt); (err != nil) != (version < "0.4.0") {
				t.Errorf("CHECK: %v", err)
			}
			if again := r.mustAdd(l, rt); again.IPs[0].Address.String() != res.IPs[0].Address.String() {
				t.Errorf("ADD again: %v, want %v", again.IPs, res.IPs)
			}
			for i := range 3 { // also without result, and without namespace
				if err := r.del(l, rt); err != nil {
					t.Errorf("DEL %d: %v", i, err)
				}
				rt.NetNS = ""
			}
			if got := r.names(); got != nil {
				t.Errorf("containers %v are left", got)
			}
			if _, stderr, code := r.vswitch("network", "inspect", "blue"); code == 0 || !strings.Contains(stderr, "does not exist") {
				t.Errorf("the network is left: %s", stderr)
			}
		})
	}
}

// A runtime may give a container interfaces one by one, two of them in one
// network, and take them away in any order.
func TestCNISeveralInterfaces(t *testing.T) {
	r := newCNIRig(t)
	blue, green := r.list("1.0.0", "blue", `"subnet":"10.7.0.0/24"`), r.list("1.0.0", "green", `"subnet":"10.8.0.0/24","network":"emerald"`)
	pod := labtest.New(t, "pod")
	conf := func(ifname string) *libcni.RuntimeConf {
		return &libcni.RuntimeConf{ContainerID: strings.Repeat("0123456789abcdef", 4), NetNS: pod.Path(), IfName: ifname, Args: [][2]string{
			{"IgnoreUnknown", "1"}, {"K8S_POD_NAMESPACE", "shop"}, {"K8S_POD_NAME", "web-0"}, {"K8S_POD_INFRA_CONTAINER_ID", "x"}, {"K8S_POD_UID", "u1"}}}
	}
	r.mustAdd(blue, conf("eth0"))
	r.mustAdd(green, conf("net1"))
	r.mustAdd(blue, conf("net2"))
	ct := decode[api.Container](r.rig, "inspect", "web-0.shop")
	if len(ct.Endpoints) != 3 || ct.Endpoints[1].Network != "emerald" || ct.Labels["io.kubernetes.pod.uid"] != "u1" {
		t.Errorf("container %+v", ct)
	}
	if ps := r.must("ps", "--runtime", "cni"); !strings.Contains(ps, "web-0.shop") || !strings.Contains(ps, "cni:0123456789ab ") {
		t.Errorf("vswitch ps:\n%s", ps)
	}
	for _, ifname := range []string{"eth0", "net1", "net2"} {
		l := blue
		if ifname == "net1" {
			l = green
		}
		if err := r.check(l, conf(ifname)); err != nil {
			t.Errorf("CHECK %s: %v", ifname, err)
		}
	}
	// Another pod of the same name, as after a restart of its sandbox.
	other := labtest.New(t, "other")
	second := conf("eth0")
	second.ContainerID, second.NetNS = strings.Repeat("f", 64), other.Path()
	r.mustAdd(blue, second)
	names := r.names()
	if len(names) != 2 || names[0] != "web-0.shop" || !strings.HasPrefix(names[1], "web-0.shop-") {
		t.Errorf("names %v", names)
	}
	for _, ifname := range []string{"eth0", "net2", "net1"} {
		l := blue
		if ifname == "net1" {
			l = green
		}
		if err := r.del(l, conf(ifname)); err != nil {
			t.Errorf("DEL %s: %v", ifname, err)
		}
	}
	if err := r.del(blue, second); err != nil {
		t.Error(err)
	}
	if got := r.names(); got != nil {
		t.Errorf("containers %v are left", got)
	}
	if l, err := pod.Links(); err != nil || len(l) != 1 {
		t.Errorf("links of the pod %v, %v", l, err)
	}
}

func TestCNICapabilitiesAndArgs(t *testing.T) {
	r := newCNIRig(t)
	for _, tc := range []struct {
		name  string
		words string
		caps  map[string]any
		args  [][2]string
		ip    string
		mac   string
	}{
		{"ips and mac", `"subnet":"10.7.0.0/24"`, map[string]any{"ips": []string{"10.7.0.77/24"}, "mac": "02:00:00:00:00:07"}, nil, "10.7.0.77/24", "02:00:00:00:00:07"},
		{"CNI_ARGS", `"subnet":"10.7.0.0/24"`, nil, [][2]string{{"IgnoreUnknown", "1"}, {"IP", "10.7.0.78"}, {"MAC", "02:00:00:00:00:08"}}, "10.7.0.78/24", "02:00:00:00:00:08"},
		{"args.cni", `"subnet":"10.7.0.0/24","args":{"cni":{"ips":["10.7.0.79"],"mac":"02:00:00:00:00:09"}}`, nil, nil, "10.7.0.79/24", "02:00:00:00:00:09"},
		{"ipRanges", "", map[string]any{"ipRanges": [][]map[string]any{{{"subnet": "10.9.0.0/24", "rangeStart": "10.9.0.128", "rangeEnd": "10.9.0.254", "gateway": "10.9.0.9"}}}}, nil, "10.9.0.128/24", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			l := r.list("1.0.0", "blue", tc.words)
			rt := &libcni.RuntimeConf{ContainerID: "c1", NetNS: labtest.New(t, "pod").Path(), IfName: "eth0", CapabilityArgs: tc.caps, Args: tc.args}
			defer r.del(l, rt)
			res := r.mustAdd(l, rt)
			if got := res.IPs[0].Address.String(); got != tc.ip {
				t.Errorf("address %s, want %s", got, tc.ip)
			}
			if got := res.Interfaces[1].Mac; tc.mac != "" && got != tc.mac {
				t.Errorf("MAC %s, want %s", got, tc.mac)
			}
		})
	}
	l := r.list("1.0.0", "blue", `"subnet":"10.7.0.0/24","dns":{"nameservers":["10.7.0.1"]}`)
	rt := &libcni.RuntimeConf{ContainerID: "c2", NetNS: labtest.New(t, "pod").Path(), IfName: "eth0", CapabilityArgs: map[string]any{
		"bandwidth": map[string]any{"ingressRate": 1000000, "ingressBurst": 1000},
		"aliases":   map[string]any{"blue": []string{"api", "front"}, "other": []string{"x"}},
		"dns":       map[string]any{"searches": []string{"shop.example"}, "servers": []string{"10.7.0.2"}},
	}}
	res := r.mustAdd(l, rt)
	ct := decode[api.Container](r.rig, "inspect", "c2")
	if !slices.Equal(ct.Endpoints[0].Aliases, []string{"api", "front"}) || !strings.Contains(ct.Labels["org.vswitch.bandwidth"], "1000000") {
		t.Errorf("labels %v", ct.Labels)
	}
	if !slices.Equal(res.DNS.Nameservers, []string{"10.7.0.2"}) || !slices.Equal(res.DNS.Search, []string{"shop.example"}) {
		t.Errorf("dns %+v", res.DNS)
	}
	if err := r.del(l, rt); err != nil {
		t.Error(err)
	}
}

func TestCNIGC(t *testing.T) {
	r := newCNIRig(t)
	blue, green := r.list("1.1.0", "blue", `"subnet":"10.7.0.0/24"`), r.list("1.1.0", "green", `"subnet":"10.8.0.0/24"`)
	for _, id := range []string{"c1", "c2", "c3"} {
		ns := labtest.New(t, id)
		r.mustAdd(blue, &libcni.RuntimeConf{ContainerID: id, NetNS: ns.Path(), IfName: "eth0"})
		r.mustAdd(green, &libcni.RuntimeConf{ContainerID: id, NetNS: ns.Path(), IfName: "net1"})
	}
	// What libcni has in its cache it would DEL itself: without, the plugin has to.
	if err := os.RemoveAll(filepath.Join(r.dir, "cache")); err != nil {
		t.Fatal(err)
	}
	gc := func(l *libcni.NetworkConfigList, valid []types.GCAttachment, want ...string) {
		t.Helper()
		err := r.on(func() error { return r.GCNetworkList(context.Background(), l, &libcni.GCArgs{ValidAttachments: valid}) })
		if err != nil {
			t.Errorf("GC: %v", err)
		}
		var got []string
		for _, ct := range decode[[]api.Container](r.rig, "ps") {
			for _, e := range ct.Endpoints {
				got = append(got, ct.Name+"/"+e.Interface)
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("attachments %v, want %v", got, want)
		}
	}
	all := []string{"c1/eth0", "c1/net1", "c2/eth0", "c2/net1", "c3/eth0", "c3/net1"}
	gc(blue, nil, all...)
	gc(blue, []types.GCAttachment{{ContainerID: "c1", IfName: "eth0"}, {ContainerID: "c3", IfName: "eth0"}}, "c1/eth0", "c1/net1", "c2/net1", "c3/eth0", "c3/net1")
	gc(green, []types.GCAttachment{}, "c1/eth0", "c3/eth0")
	gc(blue, []types.GCAttachment{})
}
