package talk

import (
	"net"
	"net/netip"
	"testing"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/control/client"
	"github.com/vswitch/vswitch/internal/netlab"
	"github.com/vswitch/vswitch/internal/netlab/labtest"
)

// Port is where everybody echoes. That of container A is published as Published.
const (
	Port      = "7000"
	Published = "7080"
)

// Lab has two containers on the default network, which has both families, and one on another.
type Lab struct {
	*netlab.World
	A, B, C  *netlab.NS
	gateways []string
	addrs    map[*netlab.NS][]string
}

// Kind is a way from one to another.
type Kind struct {
	What string
	From *netlab.NS
	To   [2]string // by family, IPv4 first
}

// New makes the lab, in a world with a daemon that was made with IPv6.
func New(t testing.TB, world *netlab.World, daemon *client.Client) *Lab {
	t.Helper()
	l := &Lab{World: world, addrs: make(map[*netlab.NS][]string)}
	dual := true
	if _, err := daemon.CreateNetwork(t.Context(), api.NetworkCreate{Name: "other", IPv6: &dual}); err != nil {
		t.Fatal(err)
	}
	l.AttachA(t, daemon)
	l.B = l.Attach(t, daemon, api.Attach{Name: "b"})
	l.C = l.Attach(t, daemon, api.Attach{Name: "c", Networks: []api.Connect{{Network: "other"}}})
	for _, ns := range []*netlab.NS{world.Host, world.Outside} {
		Echo(t, ns, ":"+Port)
	}
	return l
}

// AttachA makes container A, also in the place of one that is gone.
func (l *Lab) AttachA(t testing.TB, daemon *client.Client) {
	t.Helper()
	l.A = l.Attach(t, daemon, api.Attach{Name: "a", Publish: []string{Published + ":" + Port, Published + ":" + Port + "/udp"}})
}

// Attach makes a container that echoes.
func (l *Lab) Attach(t testing.TB, daemon *client.Client, in api.Attach) *netlab.NS {
	t.Helper()
	ns := labtest.New(t, in.Name)
	in.Netns = ns.Path()
	ct, err := daemon.Attach(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	if in.Networks == nil {
		l.gateways = ct.Endpoints[0].Gateways
	}
	for _, s := range ct.Endpoints[0].Addresses {
		l.addrs[ns] = append(l.addrs[ns], netip.MustParsePrefix(s).Addr().String())
	}
	Echo(t, ns, ":"+Port)
	return ns
}

// Addrs are a container's addresses, IPv4 first.
func (l *Lab) Addrs(ns *netlab.NS) []string { return l.addrs[ns] }

// Gateways are the host's addresses on the default network.
func (l *Lab) Gateways() []string { return l.gateways }

// Kinds are all ways that the kernel carries.
func (l *Lab) Kinds() []Kind {
	host, outside := []string{netlab.HostAddr, netlab.HostAddr6}, []string{netlab.OutsideAddr, netlab.OutsideAddr6}
	return []Kind{
		{"bridged", l.B, at(l.addrs[l.A], Port)},
		{"host to container", l.Host, at(l.addrs[l.A], Port)},
		{"container to host", l.A, at(l.gateways, Port)},
		{"masqueraded", l.A, at(outside, Port)},
		{"published", l.Outside, at(host, Published)},
		{"hairpin", l.B, at(host, Published)},
		{"between networks", l.C, at(host, Published)},
	}
}

func at(addrs []string, port string) (to [2]string) {
	for family := range to {
		to[family] = net.JoinHostPort(addrs[family], port)
	}
	return to
}
