package control

import (
	"context"
	"net"

	"github.com/vswitch/vswitch/control/host"
)

// Check returns nil when all that a container was given stands in the kernel.
func (c *Controller) Check(_ context.Context, name string) error {
	return c.onContainer(name, func(_ *undo, ct *container) error {
		if len(ct.endpoints) == 0 {
			return nil // its process runs, or the container would be gone
		}
		var ns *host.Netns
		if !ct.rec.Handover { // else its runtime did the rest, and does not say where
			var err error
			if ns, err = ct.openNetns(); err != nil {
				return err
			}
			defer ns.Close()
		}
		for _, e := range ct.endpoints {
			if err := c.host.CheckVeth(ns, e.index, c.vethSpec(e)); err != nil {
				return conflictf("network %s: %w: detach the container and attach it again", e.net.rec.Name, err)
			}
		}
		return nil
	})
}

// vethSpec is what an endpoint's cable is to be.
func (c *Controller) vethSpec(e *endpoint) host.VethSpec {
	n := e.net
	spec := host.VethSpec{
		Name: e.veth, Alias: e.alias, Ifname: e.ifname,
		MAC: net.HardwareAddr(e.mac[:]), MTU: n.rec.MTU,
		Addrs: e.prefixes(), NoUSO: !n.tap.USO(), Seal: c.sealOf(e.ct), Routes: e.staticRoutes(),
	}
	if c.introduces() {
		spec.GatewayMAC = net.HardwareAddr(n.mac[:])
	}
	for _, f := range families {
		if e.ct.gateway(f) == e {
			spec.Gateways = append(spec.Gateways, subnetOf(n.rec, f).Gateway)
		}
	}
	return spec
}
