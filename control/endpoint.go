package control

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/control/host"
	"github.com/vswitch/vswitch/dataplane"
	"github.com/vswitch/vswitch/dataplane/frame"
	"github.com/vswitch/vswitch/dataplane/port"
)

// reserveEndpoint finds a place in a network.
func (c *Controller) reserveEndpoint(u *undo, ct *container, j joinPlan) error {
	var e *endpoint
	return u.do("address", func() (err error) {
		c.mu.Lock()
		defer c.mu.Unlock()
		e, err = c.reserveEndpointLocked(ct, j)
		return err
	}, func() error {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.freeEndpointLocked(e)
		return nil
	})
}

func (c *Controller) reserveEndpointLocked(ct *container, j joinPlan) (*endpoint, error) {
	n, err := c.findNetworkLocked(j.network)
	if err != nil {
		return nil, err
	}
	if ct.endpointIn(n) != nil && j.ifname == "" {
		return nil, conflictf("it is in network %s already: name each network once, or give each interface a name", n.rec.Name)
	}
	e := &endpoint{net: n, ct: ct, ifname: j.ifname, runtimeNet: j.runtimeNet, mac: j.mac, layer2: j.layer2, quota: j.quota, routes: j.routes}
	if e.ifname == "" && !ct.rec.Handover {
		e.ifname = ct.freeIfname()
	}
	for _, o := range ct.endpoints {
		if o.ifname == e.ifname {
			return nil, conflictf("interface %s is its port in network %s: choose another name with --ifname", e.ifname, o.net.rec.Name)
		}
	}
	if len(e.routes) > 0 && ct.rec.Handover {
		return nil, invalidf("its runtime gives its interfaces their routes: name them there")
	}
	if err := e.checkRoutes(); err != nil {
		return nil, err
	}
	if who := n.macs[e.mac]; who != "" {
		return nil, conflictf("MAC address %s is that of %s in network %s: choose another", e.mac, who, n.rec.Name)
	}
	if err := e.takeAddrs(j.ips); err != nil {
		return nil, err
	}
	of := e.addrs[0]
	if j.ips[ipv6].IsValid() && !j.ips[ipv4].IsValid() {
		of = j.ips[ipv6] // the one that the container's successor will ask for too
	}
	for try := 0; e.mac.IsZero() || j.mac.IsZero() && n.macs[e.mac] != ""; try++ {
		e.mac = deriveMAC(n.rec.ID, of, try)
	}
	n.macs[e.mac] = "container " + ct.rec.Name
	n.members[e] = true
	for e.veth == "" || c.byVeth[e.veth] != nil {
		e.veth = c.vethPrefix() + newID()[:6]
	}
	if ct.rec.Handover {
		e.ifname = e.waitsAs()
	}
	e.alias = c.aliasPrefix() + ct.rec.Name + "/" + e.ifname
	c.byVeth[e.veth] = e
	ct.endpoints = append(ct.endpoints, e)
	return e, nil
}

// takeAddrs gives an endpoint an address in each subnet of its network, the one
// that is asked for or the next that is free; all or none.
func (e *endpoint) takeAddrs(ips [2]netip.Addr) error {
	n, owner := e.net, e.ct.rec.Name
	for _, f := range families {
		if ips[f].IsValid() && !hasFamily(n.rec, f) {
			return invalidf("address %s: network %s has no %s subnet: leave it out or choose another network", ips[f], n.rec.Name, f)
		}
	}
	for i, p := range n.pools {
		a := ips[familyOf(n.rec.Subnets[i].Prefix.Addr())]
		var err error
		if a.IsValid() {
			err = p.take(a, owner, e.ct.rec.Runtime)
		} else {
			a, err = p.next(owner)
		}
		if err != nil {
			e.releaseAddrs()
			return err
		}
		e.addrs = append(e.addrs, a)
	}
	return nil
}

func (e *endpoint) releaseAddrs() {
	for i, a := range e.addrs {
		e.net.pools[i].release(a)
	}
}

func (c *Controller) freeEndpointLocked(e *endpoint) {
	e.releaseAddrs()
	delete(e.net.macs, e.mac)
	delete(e.net.members, e)
	delete(c.byVeth, e.veth)
	for i, o := range e.ct.endpoints {
		if o == e {
			// A view may still range over the old array.
			e.ct.endpoints = append(e.ct.endpoints[:i:i], e.ct.endpoints[i+1:]...)
			break
		}
	}
}

// freeIfname is the first of eth0, eth1, ... that no endpoint has.
func (ct *container) freeIfname() string {
next:
	for i := 0; ; i++ {
		name := fmt.Sprintf("eth%d", i)
		for _, e := range ct.endpoints {
			if e.ifname == name {
				continue next
			}
		}
		return name
	}
}

// reserveMapping finds and holds host ports.
func (c *Controller) reserveMapping(u *undo, ct *container, s PublishSpec) error {
	var m *mapping
	return u.do("ports", func() (err error) {
		if err := ct.checkPublish(s); err != nil {
			return err
		}
		if m, err = c.reservePorts(ct, s); err != nil {
			return err
		}
		c.mu.Lock()
		ct.mappings = append(ct.mappings, m)
		c.mu.Unlock()
		return nil
	}, func() error {
		c.dropMapping(m)
		return c.releasePorts(m)
	})
}

// serves reports whether a port published on a host address, invalid for every
// one, can lead to the container.
func (ct *container) serves(hostIP netip.Addr) bool {
	if !hostIP.IsValid() || hostIP.IsLoopback() { // by the relay from one family to the other
		return ct.gateway(ipv4) != nil || ct.gateway(ipv6) != nil
	}
	return ct.gateway(familyOf(hostIP)) != nil
}

func (ct *container) checkPublish(s PublishSpec) error {
	switch {
	case ct.serves(s.HostIP):
		return nil
	case ct.serves(netip.Addr{}):
		return invalidf("publish %s: it has no %s address with a gateway: connect it to a network that gives one, or leave the host address out",
			s, familyOf(s.HostIP))
	}
	return invalidf("publish %s: all its networks are internal or isolated: connect it to another network first", s)
}

func (c *Controller) dropMapping(m *mapping) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, o := range m.ct.mappings {
		if o == m {
			m.ct.mappings = append(m.ct.mappings[:i:i], m.ct.mappings[i+1:]...)
			return
		}
	}
}

// wire makes the cable of an endpoint and plugs it into the switch. Without a
// namespace its end waits for the runtime.
func (c *Controller) wire(u *undo, e *endpoint, ns *host.Netns) error {
	err := u.do("link", func() error {
		var index int
		var err error
		if ns == nil {
			index, err = c.host.AddWaitingVeth(c.vethSpec(e))
		} else {
			index, err = c.host.AddVeth(ns, c.vethSpec(e))
		}
		c.mu.Lock()
		e.index = index
		c.mu.Unlock()
		return wrapHost(err)
	}, func() error { return c.host.DelLink(e.veth, e.index) })
	if err != nil {
		return err
	}
	err = u.do("port", func() error { return c.plug(e) }, func() error { return c.unplug(e) })
	if err == nil {
		c.introduce(e)
	}
	return err
}

// introduceUpTo is the number of ports up to which host and container are told each
// other's MAC. The kernel has one table of neighbours for all namespaces, and two of its
// entries are a container's: from gc_thresh2, 512, on they would push out the host's own.
const introduceUpTo = 200

func (c *Controller) introduces() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.byPort) <= introduceUpTo
}

// introduce tells the host the MAC of an endpoint, in place of that of a container
// which had its addresses before. Unplug forgets it. Without it the host asks.
func (c *Controller) introduce(e *endpoint) {
	if !c.introduces() {
		return
	}
	for i, a := range e.addrs {
		if e.net.rec.Subnets[i].Mode == api.GatewayIsolated {
			continue // the host has no address there, and perhaps none of the family
		}
		if err := c.host.SetNeighbor(host.Neighbor{Ifindex: e.net.tapIndex, Addr: a, MAC: e.mac[:]}); err != nil {
			c.log.Warn("the host has to ask for a container", "container", e.ct.rec.Name, "err", err)
		}
	}
}

// plug opens the host end of an endpoint's cable.
func (c *Controller) plug(e *endpoint) error {
	account, err := c.kernel.AddFlowPort(e.index)
	if err != nil {
		return err
	}
	c.sockets.SetSlots(c.ringSlots())
	p, err := c.sockets.Open(port.PacketConfig{Ifindex: e.index, Name: e.veth, FilterFD: c.kernel.DecideFD(), Account: account})
	if err != nil {
		c.kernel.RemoveFlowPort(e.index)
		return err
	}
	id, err := c.sw.AddPort(p)
	if err != nil {
		return errors.Join(fullf("%w", err), p.Close())
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	e.port, e.hasPort = id, true
	c.setPortLocked(id, portOwner{ep: e})
	return nil
}

// Slots of the rings of containers' ports. 256 ride out a burst that is four batches
// long; for thousands of ports that would be gigabytes, and so 2,000 fit in one.
const (
	ringSlots      = 256
	ringSlotsMany  = 128
	manyContainers = 512
)

func (c *Controller) ringSlots() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.byPort) >= manyContainers {
		return ringSlotsMany
	}
	return ringSlots
}

// unplug takes an endpoint out of the switch, with the connections it had: its
// address may soon be another container's.
func (c *Controller) unplug(e *endpoint) error {
	id, had := c.forgetPort(e)
	if !had {
		return nil
	}
	return c.removePort(e, id)
}

func (c *Controller) removePort(e *endpoint, id frame.PortID) error {
	err := c.sw.RemovePort(id)
	c.kernel.RemoveFlowPort(e.index)
	return err
}

// forgetPort is the first half of it: nothing knows the port any more but the
// switch, nor its addresses.
func (c *Controller) forgetPort(e *endpoint) (id frame.PortID, had bool) {
	c.mu.Lock()
	id, had = e.port, e.hasPort
	e.hasPort = false
	if had {
		c.dropPortLocked(id)
	}
	c.mu.Unlock()
	if had {
		c.sw.FlushConns(func(i dataplane.ConnInfo) bool { return i.Port == id })
		for _, a := range e.addrs {
			if err := c.host.DelNeighbor(e.net.tapIndex, a); err != nil {
				c.log.Warn("the host keeps a neighbour that is gone", "err", err)
			}
		}
	}
	return id, had
}
