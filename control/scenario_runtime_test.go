package control

import (
	"errors"
	"testing"

	"github.com/vswitch/vswitch/control/api"
)

// What a repeated request of a runtime names in two ways comes once: a network by its name
// and its ID, a port with and without the host's.
func TestRuntimeNamesOneThingInTwoWays(t *testing.T) {
	for name, ports := range map[string][]string{
		"the host's first": {"8080:80", "80"}, "the host's last": {"80", "8080:80"}, "a range": {"8000-8999:80", "8080:80", "80"}, "thrice": {"80", "80", "8080:80/tcp"},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t).start()
			ctx := t.Context()
			blue, err := m.CreateNetwork(ctx, api.NetworkCreate{Name: "blue"})
			m.ok(err)
			m.AddNetns(netnsOf("web"))
			in := api.Attach{Name: "web", Runtime: api.RuntimeCNI, RuntimeID: "abc", Netns: netnsOf("web"), Networks: []api.Connect{{Network: "bridge", Ifname: "eth0"}}}
			_, err = m.Attach(ctx, in)
			m.ok(err)
			in.Networks, in.Publish = []api.Connect{{Network: "blue", Ifname: "net1"}, {Network: blue.ID, Ifname: "net1"}, {Network: blue.ID[:12]}}, ports
			for range 2 {
				out, err := m.Attach(ctx, in)
				m.ok(err)
				if len(out.Endpoints) != 2 || len(out.Ports) != 1 || out.Ports[0].HostPort != 8080 {
					t.Fatalf("web has %+v", out)
				}
			}
			in.Publish = []string{"80/udp", "127.0.0.1:8080:80"} // another protocol, another address
			out, err := m.Attach(ctx, in)
			if !errors.Is(err, api.ErrConflict) && (err != nil || len(out.Ports) != 3) {
				t.Errorf("web has %+v: %v", out.Ports, err)
			}
		})
	}
}
