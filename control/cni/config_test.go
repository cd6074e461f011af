package cni

import (
	"slices"
	"strings"
	"testing"

	"github.com/containernetworking/cni/pkg/skel"

	"github.com/vswitch/vswitch/control/api"
)

func parse(t *testing.T, stdin, env string) *call {
	t.Helper()
	args := &skel.CmdArgs{ContainerID: "c1", IfName: "eth0", Netns: "/run/netns/c1", Args: env, StdinData: []byte(stdin)}
	c, err := parseConfig(args)
	if err != nil {
		t.Fatal(err)
	}
	return &call{config: c, args: args}
}

// Which network a configuration means, by name.
func TestNetworkName(t *testing.T) {
	for stdin, want := range map[string]string{
		`{"name":"a"}`:                               "a",
		`{"name":"a","bridge":"cni0"}`:               "cni0",
		`{"name":"a","bridge":"cni0","network":"b"}`: "b",
	} {
		if got := parse(t, stdin, "").network(); got != want {
			t.Errorf("%s: network %q, want %q", stdin, got, want)
		}
	}
}

func TestContainerName(t *testing.T) {
	for _, tc := range []struct{ env, id, want string }{
		{"", "cnitool-0a3a77", "cnitool-0a3a77"},
		{"", strings.Repeat("0123456789abcdef", 4), "0123456789ab"},
		{"", "default-" + strings.Repeat("0123456789abcdef", 4), "default-0123456789ab"},
		{"K8S_POD_NAME=web-0;K8S_POD_NAMESPACE=shop", "x", "web-0.shop"},
		{"K8S_POD_NAME=v1", "x", "v1"},
		{"K8S_POD_NAME=v1;K8S_POD_NAMESPACE=v1", "x", "v1"},
		{"", "_odd/name", "odd-name"},
	} {
		if got := parse(t, `{"name":"a"}`, tc.env).name(tc.id); got != tc.want {
			t.Errorf("%+v: %q", tc, got)
		}
	}
	long := parse(t, `{"name":"a"}`, "K8S_POD_NAME="+strings.Repeat("p", 200))
	other := parse(t, `{"name":"a"}`, "K8S_POD_NAME="+strings.Repeat("p", 201))
	if a, b := long.name("x"), other.name("x"); len(a) != 63 || a == b {
		t.Errorf("long names %q and %q", a, b)
	}
}

func TestRanges(t *testing.T) {
	for _, tc := range []struct{ first, last, want string }{
		{"", "", ""},
		{"10.1.0.128", "10.1.0.255", "10.1.0.128/25"},
		{"10.1.0.129", "10.1.0.254", "10.1.0.128/25"},
		{"10.1.0.128", "10.1.0.254", "10.1.0.128/25"},
		{"10.1.0.7", "10.1.0.7", "10.1.0.7/32"},
		{"10.1.0.128", "", "10.1.0.128/25"},
		{"10.1.0.7", "10.1.0.99", "error"},
		{"10.9.0.7", "", "error"},
		{"10.1.0.99", "10.1.0.7", "error"},
	} {
		in := api.NetworkCreate{}
		err := ipRange{Subnet: "10.1.0.0/24", RangeStart: tc.first, RangeEnd: tc.last}.addTo(&in)
		got := strings.Join(in.IPRanges, ",")
		if err != nil {
			got = "error"
		}
		if got != tc.want || !slices.Equal(in.Subnets, []string{"10.1.0.0/24"}) {
			t.Errorf("%s to %s: %q, %v, %v", tc.first, tc.last, got, in.Subnets, err)
		}
	}
}

// Whatever a runtime sends, it gets an answer in the specification's form.
func FuzzConfig(f *testing.F) {
	f.Add([]byte(`{"name":"a","runtimeConfig":{"portMappings":[{"HostPort":80,"containerPort":80}],"ips":["10.0.0.1/24"],"ipRanges":[[{"subnet":"10.0.0.0/24","rangeStart":"10.0.0.1"}]],"aliases":{"a":["b"]}}}`), "IP=10.0.0.1;IgnoreUnknown=1")
	f.Add([]byte(`{"args":{"cni":{"ips":["::1"]}},"ipam":{"type":"x"},"cni.dev/valid-attachments":[]}`), "K8S_POD_NAME=x")
	f.Fuzz(func(t *testing.T, stdin []byte, env string) {
		args := &skel.CmdArgs{ContainerID: "c1", IfName: "eth0", Netns: "/run/netns/c1", Args: env, StdinData: stdin}
		conf, err := parseConfig(args)
		if err != nil {
			if strings.Contains(err.Error(), "\n") {
				t.Errorf("error of several lines: %q", err)
			}
			return
		}
		c := &call{config: conf, args: args}
		if in, err := c.request(nil); err == nil && len(in.Networks) != 1 {
			t.Errorf("request %+v", in)
		}
		_, _ = c.wanted(nil)
	})
}
