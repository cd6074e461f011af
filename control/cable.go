package control

import (
	"net"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/control/edge"
	"github.com/vswitch/vswitch/control/host"
	"github.com/vswitch/vswitch/control/inventory"
	"github.com/vswitch/vswitch/control/model"
	"github.com/vswitch/vswitch/dataplane/conntrack"
	"github.com/vswitch/vswitch/dataplane/frame"
	"github.com/vswitch/vswitch/dataplane/header"
)

// cableOf describes an endpoint's cable; introduce tells it the gateway's MAC address.
func cableOf(e *inventory.Endpoint, introduce bool) edge.Cable {
	n := e.Network
	spec := edge.Cable{
		Name: e.Veth, Alias: e.Alias, Ifname: e.Ifname,
		MAC: net.HardwareAddr(e.MAC[:]), MTU: n.Rec.MTU,
		Addrs: e.Prefixes(), NoUSO: !n.TAP.USO(), Routes: e.StaticRoutes(),
		// CNI's bandwidth plugin comes after us and uses the ingress of the cable.
		SharesIngress: e.Container.Rec.Runtime == api.RuntimeCNI,
	}
	if introduce {
		spec.GatewayMAC = net.HardwareAddr(n.MAC[:])
	}
	for _, f := range model.Families {
		if e.Container.Gateway(f) == e && e.Container.Routed(f, e) == nil {
			spec.Gateways = append(spec.Gateways, model.SubnetOf(n.Rec, f).Gateway)
		}
	}
	return spec
}

// introduceUpTo is the number of ports up to which host and container are told each
// other's MAC. The kernel has one table of neighbours for all namespaces, and two of its
// entries are a container's: from gc_thresh2, 512, on they would push out the host's own.
const introduceUpTo = 200

func (c *Controller) introduces() bool { return c.countPorts() <= introduceUpTo }

func (c *Controller) countPorts() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.byPort)
}

// introduce tells the host the MAC of an endpoint, in place of that of a container
// which had its addresses before. Unplug forgets it. Without it the host asks.
func (h *change) introduce(e *inventory.Endpoint) {
	c := h.c
	if !c.introduces() {
		return
	}
	for i, a := range e.Addrs {
		if e.Network.Rec.Subnets[i].Mode == api.GatewayIsolated {
			continue // the host has no address there, and perhaps none of the family
		}
		if err := c.edge.SetNeighbor(host.Neighbor{Ifindex: e.Network.TAPIndex, Addr: a, MAC: e.MAC[:]}); err != nil {
			c.log.Warn("the host has to ask for a container", "container", e.Container.Called(), "err", err)
		}
	}
}

// announce tells the neighbours which addresses have another MAC address than they had: until
// their entries are tested, in half a minute or more, they would send to who has gone.
func (h *change) announce() {
	h.c.mu.Lock()
	defer h.c.mu.Unlock()
	for _, e := range h.endpoints {
		for _, a := range e.Moved() {
			h.c.sw.Announce(e.Port, e.MAC, header.AddrFrom(a))
		}
	}
}

// plug opens the host end of an endpoint's cable.
func (h *change) plug(e *inventory.Endpoint) error {
	c := h.c
	id, err := c.openPort(e.Veth, edge.Port{Index: e.Index, Name: e.Veth, Slots: ringSlots(c.countPorts())}, c.edge.OpenCable)
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	e.Port, e.Plugged = id, true
	c.byPort[id] = portOwner{ep: e}
	c.inv.Changed(e.Container)
	return nil
}

// Slots of the rings of containers' ports. 256 ride out a burst that is four batches
// long; for thousands of ports that would be gigabytes, and so 2,000 fit in one.
const (
	slotsFew       = 256
	slotsMany      = 128
	manyContainers = 512
)

func ringSlots(ports int) int {
	if ports >= manyContainers {
		return slotsMany
	}
	return slotsFew
}

// unplug takes an endpoint out of the switch, with the connections it had: its
// address may soon be another container's.
func (h *change) unplug(e *inventory.Endpoint) error {
	id, had := h.forgetPort(e)
	if !had {
		return nil
	}
	return h.c.closePort(id)
}

// forgetPort is the first half of it: nothing knows the port any more but the
// switch, nor its addresses.
func (h *change) forgetPort(e *inventory.Endpoint) (id frame.PortID, had bool) {
	c := h.c
	c.mu.Lock()
	id, had = e.Port, e.Plugged
	e.Plugged = false
	if had {
		delete(c.byPort, id)
		c.inv.Changed(e.Container)
	}
	c.mu.Unlock()
	if had {
		c.sw.FlushConns(conntrack.Selector{Ports: []frame.PortID{id}, Targets: e.Addrs})
		for _, a := range e.Addrs {
			if err := c.edge.DelNeighbor(e.Network.TAPIndex, a); err != nil {
				c.log.Warn("the host keeps a neighbour that is gone", "err", err)
			}
		}
	}
	return id, had
}
