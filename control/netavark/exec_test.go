package netavark

import (
	"encoding/json"
	"slices"
	"testing"

	"github.com/vswitch/vswitch/control/api"
)

func TestPortRules(t *testing.T) {
	for _, tc := range []struct {
		in   portMapping
		want []string
	}{
		{portMapping{ContainerPort: 80, HostPort: 8080, Protocol: "tcp", Range: 1}, []string{"8080:80/tcp"}},
		{portMapping{ContainerPort: 80, HostPort: 8080}, []string{"8080:80/tcp"}},
		{portMapping{ContainerPort: 80, HostPort: 8080, HostIP: "::1", Protocol: "tcp,udp", Range: 2}, []string{"[::1]:8080-8081:80-81/tcp", "[::1]:8080-8081:80-81/udp"}},
		{portMapping{ContainerPort: 80}, nil},
		{portMapping{ContainerPort: 80, HostPort: 65535, Range: 2}, nil},
	} {
		if got, err := tc.in.rule(); !slices.Equal(got, tc.want) || (err != nil) != (tc.want == nil) {
			t.Errorf("%+v: %v, %v, want %v", tc.in, got, err, tc.want)
		}
	}
}

// Routes of a network are for each of its containers.
func TestRoutes(t *testing.T) {
	var e exec
	in := `{"network":{"name":"vs1","subnets":[{"subnet":"10.45.0.0/24"}],"routes":[{"destination":"10.5.0.0/16","gateway":"10.45.0.9","metric":7}]},"network_options":{"interface_name":"eth0"}}`
	if err := json.Unmarshal([]byte(in), &e); err != nil {
		t.Fatal(err)
	}
	at, _, err := e.request("/run/netns/x", options{})
	want := []api.Route{{To: "10.5.0.0/16", Via: "10.45.0.9", Metric: 7}}
	if err != nil || !slices.Equal(at.Networks[0].Routes, want) {
		t.Errorf("%+v, %v", at, err)
	}
}

// Whatever comes on standard input, it is refused or makes one request.
func FuzzExec(f *testing.F) {
	f.Add([]byte(`{"container_id":"x","container_name":"w","port_mappings":[{"container_port":80,"host_port":80,"protocol":"tcp","range":1}],"network":{"name":"vs1","subnets":[{"subnet":"10.45.0.0/24","gateway":"10.45.0.1"}],"options":{"mtu":"1400","vlan":"7","icc":"no"}},"network_options":{"interface_name":"eth0","static_ips":["10.45.0.2","fd00::2"]}}`))
	f.Fuzz(func(t *testing.T, in []byte) {
		var e exec
		if json.Unmarshal(in, &e) != nil {
			return
		}
		opts, err := parseOptions(e.Network.Options)
		if err != nil {
			return
		}
		if at, _, err := e.request("/run/netns/x", opts); err == nil && len(at.Networks) != 1 {
			t.Errorf("request %+v", at)
		}
	})
}
