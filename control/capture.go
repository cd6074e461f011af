package control

import (
	"context"
	"slices"

	"github.com/vswitch/vswitch/control/server"
	"github.com/vswitch/vswitch/dataplane"
	"github.com/vswitch/vswitch/dataplane/frame"
)

// capture names the ports of a data path's capture.
type capture struct {
	*dataplane.Capture
	names []string
	index map[frame.PortID]int
}

// Capture begins to copy the frames of containers, of every port when none is
// named. Ports that come later are not in it.
func (c *Controller) Capture(_ context.Context, containers []string, snapLen int) (server.Capture, error) {
	c.mu.Lock()
	var ids []frame.PortID
	for _, name := range containers {
		ct, err := c.findContainerLocked(name)
		if err == nil && len(ct.endpoints) == 0 {
			err = invalidf("container %s runs with --network %s and has no port of its own: capture elsewhere", name, ct.rec.Mode)
		}
		if err != nil {
			c.mu.Unlock()
			return nil, err
		}
		for _, e := range ct.endpoints {
			if !slices.Contains(ids, e.port) {
				ids = append(ids, e.port)
			}
		}
	}
	if len(containers) == 0 {
		for id := range c.byPort {
			ids = append(ids, id)
		}
		slices.Sort(ids)
	}
	out := &capture{index: make(map[frame.PortID]int, len(ids))}
	for i, id := range ids {
		n, _ := c.portNameLocked(id)
		out.index[id] = i
		out.names = append(out.names, n.title())
	}
	c.mu.Unlock()
	if len(ids) == 0 {
		return nil, notFoundf("capture: the switch has no port")
	}
	dc, err := c.sw.OpenCapture(dataplane.CaptureConfig{Ports: ids, SnapLen: snapLen})
	if err != nil {
		return nil, err
	}
	out.Capture = dc
	return out, nil
}

// title is what a capture calls a port: "web/eth0 (bridge)".
func (n portName) title() string {
	switch n.kind {
	case "container":
		return n.container + "/" + n.ifname + " (" + n.network + ")"
	case "host":
		return "host/" + n.ifname + " (" + n.network + ")"
	}
	return n.kind + "/" + n.ifname
}

// Interfaces implements server.Capture.
func (c *capture) Interfaces() []string { return c.names }

// Next implements server.Capture.
func (c *capture) Next(ctx context.Context) (server.Frame, bool, error) {
	r, ok, err := c.Capture.Next(ctx)
	if err != nil || !ok {
		return server.Frame{}, false, err
	}
	return server.Frame{
		Time: r.Time, Interface: c.index[r.Port], Out: r.Dir == dataplane.DirTx, Data: r.Data, OrigLen: r.OrigLen,
	}, true, nil
}
