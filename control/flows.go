package control

import (
	"cmp"
	"context"
	"net/netip"
	"time"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/dataplane"
	"github.com/vswitch/vswitch/dataplane/frame"
)

// Flows lists the flows of all containers, or of one as it sees them, those with
// the highest rate first.
func (c *Controller) Flows(_ context.Context, q api.FlowQuery) ([]api.Flow, error) {
	names, only, err := c.flowNamesFor(q.Container)
	if err != nil {
		return nil, err
	}
	busiest := first[dataplane.ConnInfo]{n: q.Limit, order: func(a, b *dataplane.ConnInfo) int {
		return cmp.Or(cmp.Compare(b.Rate, a.Rate), cmp.Compare(b.Bytes[0]+b.Bytes[1], a.Bytes[0]+a.Bytes[1]), cmp.Compare(a.Age, b.Age))
	}}
	c.sw.EachFlow(func(i *dataplane.ConnInfo) {
		if only != "" {
			if s := names.sides(i); s.near != only && s.far != only {
				return
			}
		}
		busiest.add(i)
	})
	now := time.Now()
	infos := busiest.sorted()
	list := make([]api.Flow, 0, len(infos))
	for i := range infos {
		f := names.view(&infos[i], now)
		if only != "" && f.Container != only {
			f = turned(f)
		}
		list = append(list, f)
	}
	return list, nil
}

// flowNamesFor is the names for a list of all flows, or of those of a container, whose
// own name is only then.
func (c *Controller) flowNamesFor(container string) (names flowNames, only string, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if container != "" {
		ct, err := c.findContainerLocked(container)
		if err != nil {
			return names, "", err
		}
		only = ct.rec.Name
	}
	return c.flowNamesLocked(), only, nil
}

// flowNames finds the names of addresses and ports for a list of flows, as they were
// when it was made.
type flowNames struct {
	addrs map[netip.Addr]owner
	hosts map[netip.Addr]bool // the host's own
	ports map[frame.PortID]portName
}

// owner is the container that has an address.
type owner struct{ name, network string }

func (c *Controller) flowNamesLocked() flowNames {
	n := flowNames{addrs: make(map[netip.Addr]owner), hosts: make(map[netip.Addr]bool), ports: make(map[frame.PortID]portName, len(c.byPort))}
	for id := range c.byPort {
		n.ports[id], _ = c.portNameLocked(id)
	}
	for _, ct := range c.containers {
		for _, e := range ct.endpoints {
			for _, a := range e.addrs {
				n.addrs[a] = owner{ct.rec.Name, e.net.rec.Name}
			}
		}
	}
	for _, nw := range c.networks {
		for _, s := range nw.rec.Subnets {
			n.hosts[s.Gateway] = true
		}
	}
	for _, r := range c.world.routes {
		if r.Kind == dataplane.RouteLocal && r.Prefix.IsSingleIP() {
			n.hosts[r.Prefix.Addr()] = true
		}
	}
	return n
}

// hostName is what the host is called where a container's name could stand.
const hostName = "host"

// of is the name of an address, "" for one of the world.
func (n *flowNames) of(a netip.Addr) (name, network string) {
	if o, ok := n.addrs[a]; ok {
		return o.name, o.network
	}
	if n.hosts[a] {
		return hostName, ""
	}
	return "", ""
}

// view shows a flow from the side of the container that it is on the account of;
// when both sides are containers, from the one that began it.
func (n *flowNames) view(i *dataplane.ConnInfo, now time.Time) api.Flow {
	f := api.Flow{
		Proto: protoName(i.Orig.Proto), Kind: i.Kind.String(), State: i.State, Rate: float64(i.Rate),
		Age: i.Age.Seconds(), Idle: i.Idle.Seconds(), Start: now.Add(-i.Age).UTC(),
		Direction: api.FlowOut, Address: side(i.Orig.Src, i.Orig.SrcPort), PeerAddress: side(i.Orig.Dst, i.Orig.DstPort),
		SentPackets: i.Packets[0], SentBytes: i.Bytes[0], ReceivedPackets: i.Packets[1], ReceivedBytes: i.Bytes[1],
	}
	switch i.Kind {
	case dataplane.ConnMasquerade:
		f.Outside = side(i.Reply.Dst, i.Reply.DstPort)
	case dataplane.ConnHairpin, dataplane.ConnPublish, dataplane.ConnInbound:
		f.Outside, f.PeerAddress = side(i.Orig.Dst, i.Orig.DstPort), side(i.Reply.Src, i.Reply.SrcPort)
	}
	s := n.sides(i)
	f.Container, f.Peer = s.near, s.far
	network, peerNetwork := s.network, s.farNetwork
	if f.Network = network; f.Network == "" {
		f.Network = peerNetwork
	}
	if (f.Container == "" || f.Container == hostName) && f.Peer != "" && f.Peer != hostName || i.Kind == dataplane.ConnPublish && f.Container == hostName {
		f = turned(f)
	}
	if f.Container == hostName {
		f.Container = ""
	}
	return f
}

// sides are the names of a flow's ends, near that of who began it, and their networks.
type sides struct{ near, network, far, farNetwork string }

func (n *flowNames) sides(i *dataplane.ConnInfo) (s sides) {
	far := i.Orig.Dst
	switch i.Kind {
	case dataplane.ConnHairpin, dataplane.ConnPublish, dataplane.ConnInbound:
		far = i.Reply.Src // the container is at the address behind the published one
	}
	s.near, s.network = n.of(i.Orig.Src.NetIP())
	s.far, s.farNetwork = n.of(far.NetIP())
	if i.Kind == dataplane.ConnBridged { // an unguarded port may use any address
		s.near, s.network = n.behind(i.Port, s.near, s.network)
		s.far, s.farNetwork = n.behind(i.Other, s.far, s.farNetwork)
	}
	return s
}

// behind names the container or the host at a port, where the address has no
// name.
func (n *flowNames) behind(id frame.PortID, name, network string) (string, string) {
	p, ok := n.ports[id]
	switch {
	case name != "" || !ok:
		return name, cmp.Or(network, p.network)
	case p.kind == "host":
		return hostName, p.network
	}
	return p.container, p.network
}

// turned is the flow as the other side sees it.
func turned(f api.Flow) api.Flow {
	f.Container, f.Peer = f.Peer, f.Container
	f.Address, f.PeerAddress = f.PeerAddress, f.Address
	f.SentPackets, f.ReceivedPackets = f.ReceivedPackets, f.SentPackets
	f.SentBytes, f.ReceivedBytes = f.ReceivedBytes, f.SentBytes
	if f.Direction == api.FlowOut {
		f.Direction = api.FlowIn
	} else {
		f.Direction = api.FlowOut
	}
	return f
}
