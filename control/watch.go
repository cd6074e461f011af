package control

import (
	"github.com/vswitch/vswitch/control/host"
	"github.com/vswitch/vswitch/control/inventory"
	"github.com/vswitch/vswitch/dataplane/frame"
)

// cableEvent is told of what happens to links that the switch made. It must return
// quickly.
func (c *Controller) cableEvent(e host.Event) {
	switch e.Kind {
	case host.Resync:
		c.spawn(c.checkLinks)
		c.spawn(func() { readdress(c, 0) })
		return
	case host.AddrGone:
		c.spawn(func() { readdress(c, e.Addr.Ifindex) })
		return
	}
	ct, renamed := c.ownerOfLink(e.Link)
	switch {
	case ct == nil:
	case e.Kind == host.LinkGone:
		c.spawn(func() { c.linkGone(ct) })
	case renamed || ct.Rec.Handover && e.Link.Running:
		c.spawn(func() { c.handedOver(ct, renamed) })
	}
}

// ownerOfLink is the container whose cable has a host end, also by another name than it had.
func (c *Controller) ownerOfLink(l host.Link) (ct *inventory.Container, renamed bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.inv.EndpointOf(l)
	if e == nil {
		return nil, false
	}
	return e.Container, e.Veth != l.Name
}

// portGone looks after a port whose device has vanished.
func (c *Controller) portGone(id frame.PortID) {
	c.mu.Lock()
	o := c.byPort[id]
	c.mu.Unlock()
	switch {
	case o.ep != nil:
		c.spawn(func() { c.linkGone(o.ep.Container) })
	case o.uplink:
		c.underlay.Kick()
	case o.net != nil:
		c.log.Error("the device of a network has vanished: restart the daemon to make it again",
			"network", o.net.Rec.Name, "interface", o.net.Rec.TAP)
	}
}

// checkLinks looks after all containers, when events may have been missed.
func (c *Controller) checkLinks() {
	links, err := c.edge.Links()
	if err != nil {
		c.log.Error("read the links", "err", err)
		return
	}
	c.mu.Lock()
	lost, moved := c.inv.Missed(links)
	c.mu.Unlock()
	for ct, renamed := range moved { // first: what is lost is looked for by name
		c.handedOver(ct, renamed)
	}
	for ct := range lost {
		c.linkGone(ct)
	}
}
