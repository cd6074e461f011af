package control

import (
	"net/netip"
	"slices"

	"github.com/vswitch/vswitch/control/directory"
	"github.com/vswitch/vswitch/control/edge"
	"github.com/vswitch/vswitch/control/host"
	"github.com/vswitch/vswitch/control/inventory"
	"github.com/vswitch/vswitch/control/model"
	"github.com/vswitch/vswitch/control/underlay"
	"github.com/vswitch/vswitch/dataplane"
	"github.com/vswitch/vswitch/dataplane/conntrack"
	"github.com/vswitch/vswitch/dataplane/frame"
	"github.com/vswitch/vswitch/dataplane/header"
)

// uplinkPorts are the numbered ports of uplinks, underlay.Ports: numbers, tables and
// directory are the controller's.
type uplinkPorts struct{ c *Controller }

func newUnderlay(c *Controller) *underlay.Underlay {
	ports := uplinkPorts{c}
	return underlay.New(underlay.Config{
		Edge: c.edge, Ports: ports, Slots: c.claims, Names: c.cfg.Uplinks, Log: c.log, Tell: c.events.Emit,
		Masquerade: func() (ports, last []conntrack.PortRange) { return masqueradePorts(&c.cfg, c.edge) },
		Made:       ports.made, Chosen: ports.chosen, Devices: ports.devices, Cable: c.cableEvent, Shaping: c.shaping.Kick,
		Resolvers: underlay.Resolvers,
		Changed:   ports.changed, Settled: c.storeNumbers,
		Device:    func(id frame.NetworkID) int { c.mu.Lock(); defer c.mu.Unlock(); return c.inv.Device(id) },
		Stale:     func() { c.sw.ForgetWays() },
		Over:      func(which conntrack.Selector) int { return c.sw.FlushConns(which) },
		Neighbors: func(n map[dataplane.NeighborKey]header.MAC) { c.sw.SetNeighbors(n) },
	})
}

// Open makes an interface of the host an uplink.
func (p uplinkPorts) Open(l host.Link) (frame.PortID, error) {
	c := p.c
	id, err := c.openPort(inventory.OfUplink(l.Name), edge.Port{Index: l.Index, Name: l.Name, Packets: !l.Ethernet}, c.edge.OpenUplink)
	if err != nil {
		return id, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.byPort[id] = portOwner{uplink: true}
	c.dir.PutUplink(id, l.Name)
	return id, nil
}

// Close gives an interface back, and forgets the numbers of those that are long away.
func (p uplinkPorts) Close(id frame.PortID) error {
	c := p.c
	c.mu.Lock()
	delete(c.byPort, id)
	c.dir.DropUplink(id)
	c.mu.Unlock()
	err := c.closePort(id)
	c.mu.Lock()
	c.inv.Numbers.ForgetUplinks(func(id frame.PortID) bool { _, open := c.byPort[id]; return open })
	c.mu.Unlock()
	return err
}

// Rename lets the number of an uplink follow its name.
func (p uplinkPorts) Rename(id frame.PortID, name string) {
	p.c.mu.Lock()
	defer p.c.mu.Unlock()
	p.c.inv.Numbers.Ports.Rename(int(id), inventory.OfUplink(name))
	p.c.dir.PutUplink(id, name)
}

// Forget ends the memory of a number whose name is another device's.
func (p uplinkPorts) Forget(id frame.PortID) {
	p.c.mu.Lock()
	defer p.c.mu.Unlock()
	p.c.inv.Numbers.Ports.Forget(int(id))
}

// devices are the networks' devices, by index.
func (p uplinkPorts) devices() map[int]bool {
	c := p.c
	c.mu.Lock()
	defer c.mu.Unlock()
	list := make(map[int]bool, len(c.inv.Networks))
	for _, n := range c.inv.Networks {
		list[n.TAPIndex] = true
	}
	return list
}

// chosen are the ways that containers have in place of the host's.
func (p uplinkPorts) chosen() map[string]underlay.Egress {
	c := p.c
	c.mu.Lock()
	defer c.mu.Unlock()
	words := slices.Clone(c.recorded)
	for _, e := range c.inv.Endpoints {
		words = append(words, e.Egress)
	}
	m := make(map[string]underlay.Egress)
	for _, w := range words {
		if e, err := model.ParseEgress(w); err == nil && w != "" {
			m[w] = underlay.Egress(e)
		}
	}
	return m
}

// changed gives a new view to the directory and the switch.
func (p uplinkPorts) changed() error {
	view := p.c.underlay.Now()
	named := make([]directory.Uplink, 0, len(view.Uplinks))
	for _, u := range view.Uplinks {
		named = append(named, directory.Uplink{Port: u.Port, Name: u.Link.Name, MAC: u.MAC(), Addrs: u.Addrs})
	}
	var slots map[netip.Addr]int
	if len(view.Configs) > 0 {
		slots = view.Configs[0].Slots // the same of every uplink
	}
	p.c.mu.Lock()
	p.c.dir.SetHost(view.Own)
	p.c.dir.SetUplinks(named, slots)
	p.c.mu.Unlock()
	return p.c.builder.rebuild()
}

// made reports whether a link is one that the switch made.
func (p uplinkPorts) made(l host.Link) bool {
	ct, _ := p.c.ownerOfLink(l)
	return ct != nil || p.c.inv.Marks.IsOurs(l)
}
