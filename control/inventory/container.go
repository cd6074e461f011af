package inventory

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/control/directory"
	"github.com/vswitch/vswitch/control/host"
	"github.com/vswitch/vswitch/control/model"
	"github.com/vswitch/vswitch/control/process"
	"github.com/vswitch/vswitch/control/state"
	"github.com/vswitch/vswitch/dataplane/frame"
	"github.com/vswitch/vswitch/dataplane/header"
)

// Container is an attached container, or one being attached.
type Container struct {
	Rec       state.Container // without Endpoints and Ports, which are below
	Endpoints []*Endpoint
	Mappings  []*Mapping
	Ready     bool
	Process   *process.Process // when bound to one
}

// Endpoint is a container's port in a network.
type Endpoint struct {
	Network   *Network
	Container *Container
	// RuntimeNet is the runtime's name of the network, "": that of Network.
	RuntimeNet string
	Aliases    []string // names in the network

	Ifname  string
	Veth    string
	Index   int // of the host end
	Alias   string
	Addrs   []netip.Addr // one for each of Network.Rec.Subnets
	MAC     header.MAC
	Layer2  model.Layer2
	Quota   model.Quota
	Shaping host.Shaping
	Program host.Program // of others, that frames into the container must pass
	Egress  string       // model.Egress in words
	Away    string       // why nothing leaves by Egress, when compiled last
	Routes  []state.Route
	Port    frame.PortID
	Plugged bool
	Live    bool // compiled into snapshots
}

// SetProgram notes the program that others have attached on the way into the container, or that
// there is none. way reports whether frames go another way for it, tell whether it is a new one.
func (e *Endpoint) SetProgram(p host.Program) (way, tell bool) {
	was := e.Program
	e.Program = p
	return (p.Name != "") != (was.Name != "") || p.Misses != was.Misses, p.Name != "" && p.Name != was.Name
}

// Gateway is the endpoint through which a container reaches what is not in its
// networks, and to which its published ports lead: for each family the first
// with a way out, in the order of its interfaces. nil when there is none.
func (ct *Container) Gateway(f model.Family) *Endpoint {
	for _, e := range ct.Endpoints {
		if e.LeadsOut(f) {
			return e
		}
	}
	return nil
}

// Routed is the endpoint that had a container's default route before another was added, nil when none had.
func (ct *Container) Routed(f model.Family, added *Endpoint) *Endpoint {
	for _, e := range ct.Endpoints {
		if e != added && e.Live && e.LeadsOut(f) {
			return e
		}
	}
	return nil
}

// LeadsOut reports whether an endpoint's gateway leads to what is not in its networks.
func (e *Endpoint) LeadsOut(f model.Family) bool {
	s := model.SubnetOf(e.Network.Rec, f)
	return s != nil && !e.Network.Rec.Internal && s.Mode != api.GatewayIsolated
}

// Addr is the endpoint's address of a family, invalid when it has none.
func (e *Endpoint) Addr(f model.Family) netip.Addr {
	for _, a := range e.Addrs {
		if model.FamilyOf(a) == f {
			return a
		}
	}
	return netip.Addr{}
}

// Prefixes are the addresses with the lengths of their subnets.
func (e *Endpoint) Prefixes() []netip.Prefix {
	list := make([]netip.Prefix, len(e.Addrs))
	for i, a := range e.Addrs {
		list[i] = netip.PrefixFrom(a, e.Network.Rec.Subnets[i].Prefix.Bits())
	}
	return list
}

// RuntimeNetwork is the runtime's name of an endpoint's network.
func (e *Endpoint) RuntimeNetwork() string {
	if e.RuntimeNet != "" {
		return e.RuntimeNet
	}
	return e.Network.Rec.Name
}

// StaticRoutes are the routes for the kernel: default routes come by Gateways.
func (e *Endpoint) StaticRoutes() (list []host.StaticRoute) {
	for _, r := range e.Routes {
		if r.To.Bits() == 0 {
			continue
		}
		via := r.Via
		if !via.IsValid() {
			via = model.GatewayIn(e.Network.Rec, model.FamilyOf(r.To.Addr()))
		}
		list = append(list, host.StaticRoute{To: r.To, Via: via, Metric: r.Metric})
	}
	return list
}

// EndpointIn is the first endpoint in a network, nil when there is none.
func (ct *Container) EndpointIn(n *Network) *Endpoint {
	for _, e := range ct.Endpoints {
		if e.Network == n {
			return e
		}
	}
	return nil
}

// EndpointNamed is the endpoint whose interface has a name, nil when there is none.
func (ct *Container) EndpointNamed(ifname string) *Endpoint {
	for _, e := range ct.Endpoints {
		if e.Ifname == ifname {
			return e
		}
	}
	return nil
}

// freeIfname is the first of eth0, eth1, ... that no endpoint has.
func (ct *Container) freeIfname() string {
	for i := 0; ; i++ {
		if name := fmt.Sprintf("eth%d", i); ct.EndpointNamed(name) == nil {
			return name
		}
	}
}

// NeedsEndpoints refuses what a container of another mode than bridge cannot have.
func (ct *Container) NeedsEndpoints() error {
	if ct.Rec.Mode != api.ModeBridge {
		return model.Invalidf("it runs with --network %s and has no port of its own: attach it in mode bridge", ct.Rec.Mode)
	}
	return nil
}

// Selected reports whether a filter takes a container.
func (ct *Container) Selected(f api.ContainerFilter) bool {
	return (f.Runtime == "" || f.Runtime == ct.Rec.Runtime) &&
		(f.RuntimeID == "" || f.RuntimeID == ct.Rec.RuntimeID) &&
		(f.Network == "" || slices.ContainsFunc(ct.Endpoints, func(e *Endpoint) bool { return e.Network.Rec.Name == f.Network }))
}

// Record is what is stored of a container.
func (ct *Container) Record() state.Container {
	rec := ct.Rec
	rec.Endpoints, rec.Ports = nil, nil
	for _, e := range ct.Endpoints {
		er := state.Endpoint{
			Network: e.Network.Rec.ID, RuntimeNetwork: e.RuntimeNet, Ifname: e.Ifname, Veth: e.Veth, Ifindex: e.Index, PortNumber: int(e.Port),
			Alias: e.Alias, Addrs: e.Addrs, MAC: e.MAC.String(),
		}
		e.Layer2.Keep(&er)
		e.Quota.Keep(&er)
		er.Egress, er.Routes, er.Aliases = e.Egress, e.Routes, e.Aliases
		rec.Endpoints = append(rec.Endpoints, er)
	}
	for _, m := range ct.Mappings {
		rec.Ports = append(rec.Ports, m.Record())
	}
	return rec
}

// Called is the name that people have for it.
func (ct *Container) Called() string {
	if name := ct.Rec.Labels[api.LabelContainerName]; name != "" && ct.Rec.Runtime != "" {
		return name
	}
	return ct.Rec.Name
}

// keys are what tells which other pieces its runtime attached of the same container.
func (ct *Container) keys() (list []string) {
	if ct.Rec.Runtime == "" {
		return nil // what somebody writes by hand tells nothing
	}
	if id := ct.Rec.Labels[api.LabelContainerID]; id != "" {
		list = append(list, directory.KeyOfRuntime+id)
	}
	if sandbox := ct.Rec.Labels[api.LabelSandbox]; sandbox != "" {
		list = append(list, "sandbox:"+sandbox)
	}
	return list
}

// listing is the entry of a container in the directory.
func (ct *Container) listing() directory.Container {
	l := directory.Container{
		ID: ct.Rec.ID, Name: ct.Rec.Name, Runtime: ct.Rec.Runtime, RuntimeID: ct.Rec.RuntimeID, Keys: ct.keys(), Created: ct.Rec.Created, WayOut: ct.Rec.Labels[api.LabelWayOut] != "",
		Mode: ct.Rec.Mode, Peer: ct.Rec.Peer, Ready: ct.Ready, Hostname: ct.Rec.Hostname, NameServers: ct.Rec.DNS.Servers,
		Endpoints: make([]directory.Endpoint, 0, len(ct.Endpoints)),
	}
	l.Labels, l.Project = ct.Rec.Labels, ct.Rec.Labels[api.LabelProject]
	for name := range strings.SplitSeq(ct.Rec.Labels[api.LabelService]+","+ct.Rec.Labels[api.LabelAliases], ",") {
		if name != "" {
			l.Services = append(l.Services, name)
		}
	}
	for _, h := range ct.Rec.DNS.Hosts {
		l.Hosts = append(l.Hosts, directory.Host(h))
	}
	if name := ct.Called(); name != l.Name {
		l.Called = name
	}
	for _, e := range ct.Endpoints {
		l.Endpoints = append(l.Endpoints, directory.Endpoint{
			Network: e.Network.Called(), Ifname: e.Ifname, Veth: e.Veth, MAC: e.MAC, Addrs: e.Addrs, Aliases: e.Aliases, Port: e.Port, Plugged: e.Plugged,
			Live: e.Live, LeadsOut: [2]bool{e.LeadsOut(model.IPv4), e.LeadsOut(model.IPv6)},
		})
	}
	ports := make(map[string]int)
	for _, m := range ct.Mappings {
		ports[model.ProtoName(m.Proto)] += int(m.HostLast-m.HostFirst) + 1
	}
	for _, proto := range slices.Sorted(maps.Keys(ports)) {
		l.Published = append(l.Published, directory.Published{Proto: proto, Ports: ports[proto]})
	}
	return l
}
