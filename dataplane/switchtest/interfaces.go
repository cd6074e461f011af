package switchtest

import (
	"slices"
	"testing"

	"github.com/vswitch/vswitch/dataplane"
	"github.com/vswitch/vswitch/dataplane/flowmap"
	"github.com/vswitch/vswitch/dataplane/flowmap/flowtest"
	"github.com/vswitch/vswitch/dataplane/frame"
	"github.com/vswitch/vswitch/dataplane/port"
	"github.com/vswitch/vswitch/dataplane/port/porttest"
)

// NewWithKernel is NewSized for a switch that has a kernel's side with so many rows, and
// whose ports have interfaces.
func NewWithKernel(t testing.TB, conns, rows int) (*Lab, *flowtest.Kernel) {
	t.Helper()
	var k *flowtest.Kernel
	l := NewCarried(t, conns, func(cfg *dataplane.Config) func(ifindex uint32) *flowmap.Tally {
		k = flowtest.New(rows, cfg.Clock.Load)
		cfg.Flows = flowtest.DescribeFlows(k, k.Rows, k.Ends)
		return k.Tally
	})
	l.Interfaces()
	return l, k
}

// Interfaces gives every port an interface, guards the containers, and installs that.
func (l *Lab) Interfaces() {
	l.T.Helper()
	for i := range l.Config.Ports {
		p := &l.Config.Ports[i]
		p.Ifindex = l.Ifindex(p.ID)
		p.Guarded = p.Kind == dataplane.PortContainer
	}
	l.Install()
}

// AddPort gives a port to the switch, with the tally of its interface.
func (l *Lab) AddPort(id frame.PortID, p port.Port) {
	l.T.Helper()
	if err := l.Switch.AddPort(id, l.Descriptor(id, p)); err != nil {
		l.T.Fatal(err)
	}
}

// Descriptor is that of a port, with the tally of its interface.
func (l *Lab) Descriptor(id frame.PortID, p port.Port) port.Descriptor {
	d := porttest.Describe(p)
	if l.tally != nil {
		d.Tally = l.tally(l.Ifindex(id))
	}
	return d
}

// Ifindex is the interface that Interfaces gives a port.
func (l *Lab) Ifindex(id frame.PortID) uint32 { return 100 + uint32(id) }

// Unplug removes a station's port from the switch, not from Config.
func (l *Lab) Unplug(name string) {
	l.T.Helper()
	if slices.Contains(l.unplugged, name) {
		return
	}
	if err := l.Switch.RemovePort(l.ids[name]); err != nil {
		l.T.Fatal(err)
	}
	l.unplugged = append(l.unplugged, name)
}

// Plug undoes Unplug.
func (l *Lab) Plug(name string) {
	l.T.Helper()
	l.ports[name] = porttest.New(name)
	l.AddPort(l.ids[name], l.ports[name])
	l.unplugged = slices.DeleteFunc(l.unplugged, func(n string) bool { return n == name })
}

// Unplugged are the stations without a port.
func (l *Lab) Unplugged() []string { return slices.Clone(l.unplugged) }

// Number is that of the port of an interface, and of its tally.
func Number(ifindex int) int { return ifindex - int((*Lab)(nil).Ifindex(0)) }
