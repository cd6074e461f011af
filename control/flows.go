package control

import (
	"cmp"
	"context"
	"net/netip"
	"slices"
	"time"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/dataplane"
	"github.com/vswitch/vswitch/dataplane/frame"
)

// Flows lists the flows of all containers, or of one as it sees them, those with
// the highest rate first.
func (c *Controller) Flows(_ context.Context, q api.FlowQuery) ([]api.Flow, error) {
	only := ""
	if q.Container != "" {
		c.mu.Lock()
		ct, err := c.findContainerLocked(q.Container)
		if err != nil {
			c.mu.Unlock()
			return nil, err
		}
		only = ct.rec.Name
		c.mu.Unlock()
	}
	infos := c.sw.Flows()
	busier := func(a, b dataplane.ConnInfo) int {
		return cmp.Or(cmp.Compare(b.Rate, a.Rate), cmp.Compare(b.Bytes[0]+b.Bytes[1], a.Bytes[0]+a.Bytes[1]), cmp.Compare(a.Age, b.Age))
	}
	slices.SortFunc(infos, busier)
	now := time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	names := c.flowNamesLocked()
	list := []api.Flow{}
	for i := range infos {
		f := names.view(&infos[i], now)
		if only != "" && f.Container != only {
			if f.Peer != only {
				continue
			}
			f = turned(f)
		}
		list = append(list, f)
		if q.Limit > 0 && len(list) == q.Limit {
			break
		}
	}
	return list, nil
}

// flowNames finds the names of addresses and ports for a list of flows.
type flowNames struct {
	c     *Controller
	addrs map[netip.Addr]*endpoint
	hosts map[netip.Addr]bool // the host's own
}

func (c *Controller) flowNamesLocked() flowNames {
	n := flowNames{c: c, addrs: make(map[netip.Addr]*endpoint), hosts: make(map[netip.Addr]bool)}
	for _, ct := range c.containers {
		for _, e := range ct.endpoints {
			for _, a := range e.addrs {
				n.addrs[a] = e
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
	switch e := n.addrs[a]; {
	case e != nil:
		return e.ct.rec.Name, e.net.rec.Name
	case n.hosts[a]:
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
	near, far := i.Orig.Src, i.Orig.Dst
	switch i.Kind {
	case dataplane.ConnMasquerade:
		f.Outside = side(i.Reply.Dst, i.Reply.DstPort)
	case dataplane.ConnHairpin:
		far = i.Reply.Src
		f.Outside, f.PeerAddress = side(i.Orig.Dst, i.Orig.DstPort), side(i.Reply.Src, i.Reply.SrcPort)
	case dataplane.ConnPublish, dataplane.ConnInbound:
		// The container is the other side, at the address behind the published one.
		far = i.Reply.Src
		f.Outside, f.PeerAddress = side(i.Orig.Dst, i.Orig.DstPort), side(i.Reply.Src, i.Reply.SrcPort)
	}
	var network, peerNetwork string
	f.Container, network = n.of(near.NetIP())
	f.Peer, peerNetwork = n.of(far.NetIP())
	if i.Kind == dataplane.ConnBridged { // an unguarded port may use any address
		f.Container, network = n.behind(i.Port, f.Container, network)
		f.Peer, peerNetwork = n.behind(i.Other, f.Peer, peerNetwork)
	}
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

// behind names the container or the host at a port, where the address has no
// name.
func (n *flowNames) behind(id frame.PortID, name, network string) (string, string) {
	p, ok := n.c.portNameLocked(id)
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
