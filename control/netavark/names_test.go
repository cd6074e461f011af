package netavark

import (
	"slices"
	"testing"

	"github.com/vswitch/vswitch/control/api"
)

// Podman writes the servers that it is told into a container's resolv.conf: none where the user wants none, or where
// nobody would answer.
func TestNameServers(t *testing.T) {
	yes, no := true, false
	for _, tc := range []struct {
		dns     *bool
		servers []string
		want    bool
	}{{&yes, []string{"10.45.0.1", "fd45::1"}, true}, {&no, []string{"10.45.0.1"}, false}, {nil, []string{"10.45.0.1"}, false}, {&yes, nil, false}} {
		ct := api.Container{Name: "web", Endpoints: []api.Endpoint{{Network: "shop", Interface: "eth0", NameServers: tc.servers}}}
		st, err := statusOf(ct, network{Name: "podman1", DNS: tc.dns}, "eth0")
		if err != nil {
			t.Fatal(err)
		}
		var servers, search []string
		if tc.want {
			servers, search = tc.servers, []string{"shop"}
		}
		if !slices.Equal(st.DNSServerIPs, servers) || !slices.Equal(st.DNSSearchDomains, search) {
			t.Errorf("%+v: servers %v, search %v", tc, st.DNSServerIPs, st.DNSSearchDomains)
		}
		if in, err := (&network{Name: "podman1", DNS: tc.dns}).wanted(options{}); err != nil || in.DisableDNS != (tc.dns == &no) {
			t.Errorf("%+v: the network is made with %+v, %v", tc, in, err)
		}
	}
}
