package edgetest

import (
	"net/netip"
	"testing"

	"github.com/vswitch/vswitch/control/edge"
	"github.com/vswitch/vswitch/control/host"
)

// model is a Kernel as the contract's Machine.
type model struct{ *Kernel }

func (m model) Open() edge.Edge { return m.Kernel.Open() }
func (m model) Next() edge.Edge { return m.Kernel.Open() }

func (m model) Netns(name string) string {
	path := "/run/netns/" + name
	m.AddNetns(path)
	return path
}

func (m model) Bind(port uint16) func() {
	return m.Kernel.Bind(6, netip.IPv4Unspecified(), port, "nginx (pid 123)")
}

func (m model) AddAddr(dev, p string) {
	m.Kernel.AddAddr(dev, host.Addr{Prefix: netip.MustParsePrefix(p)})
}
func (m model) DelAddr(dev, p string) { m.Kernel.DelAddr(dev, netip.MustParsePrefix(p)) }
func (m model) SetDown(dev string) {
	m.SetLink(dev, func(l *host.Link) { l.Up, l.Running = false, false })
}

func TestContract(t *testing.T) {
	Contract(t, func(*testing.T) Machine {
		k := New()
		k.AddNIC("eth0", netip.MustParsePrefix("198.51.100.2/24"))
		k.AddRoute("eth0", host.Route{Prefix: netip.MustParsePrefix("0.0.0.0/0"), Via: netip.MustParseAddr("198.51.100.1")})
		return model{k}
	})
}
