package control

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"os"
	"slices"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/control/state"
	"github.com/vswitch/vswitch/dataplane"
	"github.com/vswitch/vswitch/dataplane/frame"
	"github.com/vswitch/vswitch/dataplane/header"
)

// Info describes the daemon.
func (c *Controller) Info(context.Context) (api.Info, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	info := api.Info{
		Version: c.cfg.Version, PID: os.Getpid(), Started: c.started, StateDir: c.cfg.StateDir,
		Uplinks: []api.Uplink{}, Workers: c.cfg.Workers,
	}
	if c.recorder != nil {
		info.CaptureRing = words(c.recorder.targets)
	}
	for _, u := range c.world.uplinks {
		v := api.Uplink{Interface: u.link.Name, MTU: u.link.MTU, Addresses: []string{}}
		for _, a := range u.addrs {
			v.Addresses = append(v.Addresses, a.Addr().String())
		}
		if u.via.IsValid() {
			v.Gateway = u.via.String()
		}
		info.Uplinks = append(info.Uplinks, v)
	}
	return info, nil
}

// Networks lists all networks, by name.
func (c *Controller) Networks(context.Context) ([]api.Network, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	list := []api.Network{}
	for _, n := range c.sortedNetworksLocked() {
		list = append(list, c.viewNetworkLocked(n))
	}
	return list, nil
}

// Network returns one network, by name or ID.
func (c *Controller) Network(_ context.Context, name string) (api.Network, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	n, err := c.findNetworkLocked(name)
	if err != nil {
		return api.Network{}, err
	}
	return c.viewNetworkLocked(n), nil
}

func (c *Controller) viewNetworkLocked(n *network) api.Network {
	v := api.Network{
		ID: n.rec.ID, Name: n.rec.Name, MTU: n.rec.MTU, Internal: n.rec.Internal, ICC: !n.rec.NoICC, HostAccess: !n.rec.NoHostAccess, Ephemeral: n.rec.Ephemeral,
		Filter: filterWord(n.rec), Labels: n.rec.Labels, Interface: n.rec.TAP,
		GatewayMAC: n.mac.String(), Created: n.rec.Created, Containers: []api.NetworkMember{},
	}
	if len(n.rec.Exempt) > 0 {
		v.Exempt = texts(n.rec.Exempt)
	}
	for _, s := range n.rec.Subnets {
		v.Subnets = append(v.Subnets, viewSubnet(s))
		for name, a := range s.Reserved {
			if v.Reserved == nil {
				v.Reserved = make(map[string]string)
			}
			v.Reserved[name] = a.String()
		}
	}
	v.Subnet, v.Gateway, v.IPRange = v.Subnets[0].Subnet, v.Subnets[0].Gateway, v.Subnets[0].IPRange
	for e := range n.members {
		if e.live {
			addrs := texts(e.prefixes())
			v.Containers = append(v.Containers, api.NetworkMember{
				Name: e.ct.rec.Name, Address: addrs[0], Addresses: addrs, MAC: e.mac.String(),
			})
		}
	}
	slices.SortFunc(v.Containers, func(a, b api.NetworkMember) int { return cmp.Compare(a.Name, b.Name) })
	return v
}

func viewSubnet(s state.Subnet) api.Subnet {
	v := api.Subnet{Subnet: s.Prefix.String(), Mode: s.Mode}
	if v.Mode == "" {
		v.Mode = api.GatewayNAT
	}
	if s.Mode != api.GatewayIsolated {
		v.Gateway = s.Gateway.String()
	}
	if s.IPRange.IsValid() {
		v.IPRange = s.IPRange.String()
	}
	return v
}

// prefixes are the addresses with the lengths of their subnets.
func (e *endpoint) prefixes() []netip.Prefix {
	list := make([]netip.Prefix, len(e.addrs))
	for i, a := range e.addrs {
		list[i] = netip.PrefixFrom(a, e.net.rec.Subnets[i].Prefix.Bits())
	}
	return list
}

func texts[T fmt.Stringer](list []T) []string {
	out := make([]string, len(list))
	for i, v := range list {
		out[i] = v.String()
	}
	return out
}

// Containers lists the attached containers that a filter takes, by name.
func (c *Controller) Containers(_ context.Context, f api.ContainerFilter) ([]api.Container, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	list := []api.Container{}
	for _, ct := range c.sortedContainersLocked() {
		if selects(f, ct) {
			list = append(list, c.viewContainerLocked(ct))
		}
	}
	return list, nil
}

// Container returns one attached container, by name or ID.
func (c *Controller) Container(_ context.Context, name string) (api.Container, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	ct, err := c.findContainerLocked(name)
	if err != nil {
		return api.Container{}, err
	}
	return c.viewContainerLocked(ct), nil
}

func (c *Controller) viewContainerLocked(ct *container) api.Container {
	v := api.Container{
		ID: ct.rec.ID, Name: ct.rec.Name, Runtime: ct.rec.Runtime, RuntimeID: ct.rec.RuntimeID, Mode: ct.rec.Mode, Peer: ct.rec.Peer,
		Netns: ct.rec.Netns, PID: ct.rec.PID, Created: ct.rec.Created,
		Labels: ct.rec.Labels, Expose: ct.rec.Expose,
		Endpoints: []api.Endpoint{}, Ports: viewMappings(ct, ct.mappings),
	}
	for _, e := range ct.endpoints {
		addrs := texts(e.prefixes())
		ev := api.Endpoint{
			Network: e.net.rec.Name, RuntimeNetwork: e.runtimeNet, Interface: e.ifname, HostInterface: e.veth, Address: addrs[0], Addresses: addrs,
			Guard: e.layer2.guard(), VLAN: int(e.layer2.vlan), Trunk: e.layer2.trunkText(),
			MaxFlows: e.quota.flows, FlowRate: e.quota.rate, Routes: e.viewRoutes(),
			Gateways: []string{}, MAC: e.mac.String(), MTU: e.net.rec.MTU,
			DefaultRoute: e == ct.gateway(ipv4) || e == ct.gateway(ipv6),
		}
		for _, p := range gatewayPrefixes(e.net.rec) {
			ev.Gateways = append(ev.Gateways, p.Addr().String())
		}
		if ct.rec.Handover {
			ev.Handover = e.waitsAs()
		}
		if len(ev.Gateways) > 0 {
			ev.Gateway = ev.Gateways[0]
		}
		v.Endpoints = append(v.Endpoints, ev)
	}
	return v
}

func viewMappings(ct *container, mappings []*mapping) []api.PortMapping {
	list := []api.PortMapping{}
	for _, m := range mappings {
		v := api.PortMapping{
			Proto: protoName(m.proto), HostPort: m.first, HostPortEnd: m.last,
			Port: m.target, PortEnd: m.target + (m.last - m.first),
		}
		if m.hostIP.IsValid() {
			v.HostIP = m.hostIP.String()
		}
		for _, f := range families {
			if gw := ct.gateway(f); gw != nil && (!m.hostIP.IsValid() || m.hostIP.IsLoopback() || familyOf(m.hostIP) == f) {
				v.Addresses = append(v.Addresses, gw.addr(f).String())
			}
		}
		if len(v.Addresses) > 0 {
			v.Address = v.Addresses[0]
		}
		list = append(list, v)
	}
	return list
}

// portName is what a port is called in tables, and whose it is.
type portName struct {
	name, kind, network, container, ifname string
}

func (c *Controller) portNameLocked(id frame.PortID) (n portName, ok bool) {
	o, ok := c.byPort[id]
	switch {
	case o.ep != nil:
		n = portName{o.ep.veth, "container", o.ep.net.rec.Name, o.ep.ct.rec.Name, o.ep.ifname}
	case o.net != nil:
		n = portName{name: o.net.rec.TAP, kind: "host", network: o.net.rec.Name, ifname: o.net.rec.TAP}
	case o.uplink != nil:
		n = portName{name: o.uplink.link.Name, kind: "uplink", ifname: o.uplink.link.Name}
	}
	return n, ok
}

// FDB lists the MAC tables, by network and address.
func (c *Controller) FDB(context.Context) ([]api.FDBEntry, error) {
	rows := c.sw.FDB()
	c.mu.Lock()
	defer c.mu.Unlock()
	names := make(map[dataplane.NetworkID]string, len(c.networks))
	for _, n := range c.networks {
		names[n.id] = n.rec.Name
	}
	list := make([]api.FDBEntry, 0, len(rows))
	for _, r := range rows {
		p, ok := c.portNameLocked(r.Port)
		if !ok || names[r.Network] == "" {
			continue // removed since the table was read
		}
		list = append(list, api.FDBEntry{
			Network: names[r.Network], VLAN: int(r.VLAN), MAC: r.MAC.String(), Port: p.name, Container: p.container,
			Static: r.Static, Age: r.Age.Seconds(),
		})
	}
	slices.SortFunc(list, func(a, b api.FDBEntry) int {
		return cmp.Or(cmp.Compare(a.Network, b.Network), cmp.Compare(a.MAC, b.MAC))
	})
	return list, nil
}

// NAT lists the translated connections, oldest first.
func (c *Controller) NAT(_ context.Context, q api.NATQuery) ([]api.NATEntry, error) {
	names, only, err := c.flowNamesFor(q.Container)
	if err != nil {
		return nil, err
	}
	oldest := first[dataplane.ConnInfo]{n: q.Limit, order: func(a, b *dataplane.ConnInfo) int { return cmp.Compare(b.Age, a.Age) }}
	c.sw.EachConn(func(i *dataplane.ConnInfo) {
		if i.Kind != dataplane.ConnRouted && (only == "" || names.ports[i.Port].container == only) {
			oldest.add(i)
		}
	})
	conns := oldest.sorted()
	list := make([]api.NATEntry, 0, len(conns))
	for _, i := range conns {
		p := names.ports[i.Port]
		list = append(list, api.NATEntry{
			Proto: protoName(i.Orig.Proto), State: i.State, Kind: i.Kind.String(), Container: p.container,
			Source: side(i.Orig.Src, i.Orig.SrcPort), Dest: side(i.Orig.Dst, i.Orig.DstPort),
			NATSource: side(i.Reply.Dst, i.Reply.DstPort), NATDest: side(i.Reply.Src, i.Reply.SrcPort),
			Packets: i.Packets[0] + i.Packets[1], Bytes: i.Bytes[0] + i.Bytes[1], Age: i.Age.Seconds(), Expires: max(0, i.Expires.Seconds()),
		})
	}
	return list, nil
}

// side writes one end of a flow; the asked side of an ICMP query has no port.
func side(a header.Addr, port uint16) string {
	if port == 0 {
		return a.String()
	}
	return netip.AddrPortFrom(a.NetIP(), port).String()
}

// FlushNAT forgets translated connections. One that still carries packets is
// begun anew by the next that may begin one.
func (c *Controller) FlushNAT(_ context.Context, in api.NATFlush) (api.NATFlushed, error) {
	switch in.Proto {
	case "", "tcp", "udp", "icmp", "sctp":
	default:
		return api.NATFlushed{}, invalidf("protocol %q: use tcp, udp, icmp or sctp", in.Proto)
	}
	ports := make(map[frame.PortID]bool)
	if in.Container != "" {
		c.mu.Lock()
		ct, err := c.findContainerLocked(in.Container)
		if err != nil {
			c.mu.Unlock()
			return api.NATFlushed{}, err
		}
		for _, e := range ct.endpoints {
			ports[e.port] = true
		}
		c.mu.Unlock()
	}
	n := c.sw.FlushConns(func(i dataplane.ConnInfo) bool {
		name := protoName(i.Orig.Proto)
		if name == "icmpv6" {
			name = "icmp"
		}
		return i.Kind != dataplane.ConnRouted &&
			(in.Proto == "" || in.Proto == name) && (in.Container == "" || ports[i.Port])
	})
	return api.NATFlushed{Count: n}, nil
}

// Stats returns the counters of all ports, by name.
func (c *Controller) Stats(context.Context) (api.Stats, error) {
	st := c.sw.Stats()
	c.mu.Lock()
	defer c.mu.Unlock()
	out := api.Stats{Drops: make(map[string]uint64), Connections: st.Conns,
		Flows: api.FlowStats{Rows: st.Flows.Rows, Active: st.Flows.Active, Frames: st.Flows.Frames}}
	for r, count := range st.Drops {
		if count > 0 {
			out.Drops[dataplane.DropReason(r).String()] = count
		}
	}
	out.Ports = c.viewPortsLocked(st.Ports)
	return out, nil
}

// viewPortsLocked names the ports of the data path and sorts them.
func (c *Controller) viewPortsLocked(ports []dataplane.PortStats) []api.PortStats {
	list := make([]api.PortStats, 0, len(ports))
	for _, p := range ports {
		n, ok := c.portNameLocked(p.ID)
		if !ok {
			continue
		}
		v := api.PortStats{
			Port: n.name, Kind: n.kind, Network: n.network, Container: n.container,
			RxFrames: p.Rx, RxBytes: p.RxBytes, TxFrames: p.Tx, TxBytes: p.TxBytes,
			KernelDrops: p.KernelDrops, Drops: make(map[string]uint64),
		}
		for r, count := range p.Drops {
			if count > 0 {
				v.Drops[dataplane.DropReason(r).String()] = count
			}
		}
		list = append(list, v)
	}
	slices.SortFunc(list, func(a, b api.PortStats) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Container, b.Container), cmp.Compare(a.Port, b.Port))
	})
	return list
}
