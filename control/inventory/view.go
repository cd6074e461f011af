package inventory

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/control/directory"
	"github.com/vswitch/vswitch/control/model"
	"github.com/vswitch/vswitch/control/state"
)

// View shows a network to clients.
func (n *Network) View() api.Network {
	v := api.Network{
		ID: n.Rec.ID, Name: n.Called(), MTU: n.Rec.MTU, Internal: n.Rec.Internal, ICC: !n.Rec.NoICC, HostAccess: !n.Rec.NoHostAccess, DisableDNS: n.Rec.NoDNS, Ephemeral: n.Rec.Ephemeral,
		Filter: model.FilterWord(n.Rec), Labels: n.Rec.Labels, Interface: n.Rec.TAP,
		GatewayMAC: n.MAC.String(), Created: n.Rec.Created, Containers: []api.NetworkMember{},
	}
	if len(n.Rec.DNSServers) > 0 {
		v.DNSServers = Texts(n.Rec.DNSServers)
	}
	if len(n.Rec.Exempt) > 0 {
		v.Exempt = Texts(n.Rec.Exempt)
	}
	for _, s := range n.Rec.Subnets {
		v.Subnets = append(v.Subnets, viewSubnet(s))
		for name, a := range s.Reserved {
			if v.Reserved == nil {
				v.Reserved = make(map[string]string)
			}
			v.Reserved[name] = a.String()
		}
	}
	v.Subnet, v.Gateway, v.IPRange = v.Subnets[0].Subnet, v.Subnets[0].Gateway, v.Subnets[0].IPRange
	for e := range n.Members {
		if e.Live {
			addrs := Texts(e.Prefixes())
			v.Containers = append(v.Containers, api.NetworkMember{
				ID: e.Container.Rec.ID, Name: e.Container.Called(), Address: addrs[0], Addresses: addrs, MAC: e.MAC.String(),
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

// View shows a container to clients.
func (ct *Container) View() api.Container {
	v := api.Container{
		ID: ct.Rec.ID, Name: ct.Rec.Name, Runtime: ct.Rec.Runtime, RuntimeID: ct.Rec.RuntimeID, Mode: ct.Rec.Mode, Peer: ct.Rec.Peer,
		Netns: ct.Rec.Netns, PID: ct.Rec.PID, Created: ct.Rec.Created,
		Labels: ct.Rec.Labels, Expose: ct.Rec.Expose, Hostname: ct.Rec.Hostname, DNS: model.ViewDNS(ct.Rec.DNS),
		Endpoints: []api.Endpoint{}, Ports: ct.ViewMappings(ct.Mappings),
	}
	for _, e := range ct.Endpoints {
		addrs := Texts(e.Prefixes())
		ev := api.Endpoint{
			Network: e.Network.Called(), RuntimeNetwork: e.RuntimeNet, Interface: e.Ifname, HostInterface: e.Veth, Address: addrs[0], Addresses: addrs,
			Guard: e.Layer2.Guard(), VLAN: int(e.Layer2.VLAN), Trunk: e.Layer2.TrunkText(),
			MaxFlows: e.Quota.Flows, FlowRate: e.Quota.Rate, Egress: e.Egress, EgressAway: e.Away, Routes: e.viewRoutes(), Aliases: e.Aliases,
			Gateways: []string{}, MAC: e.MAC.String(), MTU: e.Network.Rec.MTU,
			DefaultRoute: e == ct.Gateway(model.IPv4) || e == ct.Gateway(model.IPv6),
		}
		for _, p := range model.GatewayPrefixes(e.Network.Rec) {
			ev.Gateways = append(ev.Gateways, p.Addr().String())
		}
		if !e.Network.Rec.NoDNS {
			ev.NameServers = ev.Gateways
		}
		if ct.Rec.Handover {
			ev.Handover = e.WaitsAs()
		}
		if len(ev.Gateways) > 0 {
			ev.Gateway = ev.Gateways[0]
		}
		v.Endpoints = append(v.Endpoints, ev)
	}
	return v
}

// viewWhole shows all that is of a container as one.
func (v *Inventory) viewWhole(whole *directory.Container) api.Container {
	list := v.piecesOf(whole)
	out := list[0].View()
	out.ID, out.Name, out.RuntimeID = whole.ID, whole.Name, whole.RuntimeID
	out.Netns = cmp.Or(out.Netns, out.Labels[api.LabelSandbox])
	for i := range out.Endpoints {
		out.Endpoints[i].RuntimeID = pieceID(list[0], whole)
	}
	routed := [2]bool{}
	for f := range routed {
		routed[f] = list[0].Gateway(model.Family(f)) != nil
	}
	for _, ct := range list[1:] {
		more := ct.View()
		for i, e := range more.Endpoints {
			e.RuntimeID, e.DefaultRoute = pieceID(ct, whole), false
			for f := range routed {
				if gw := ct.Gateway(model.Family(f)); gw == ct.Endpoints[i] && !routed[f] {
					e.DefaultRoute, routed[f] = true, true
				}
			}
			out.Endpoints = append(out.Endpoints, e)
		}
		out.Ports = append(out.Ports, more.Ports...)
		for _, port := range more.Expose {
			if !slices.Contains(out.Expose, port) {
				out.Expose = append(slices.Clip(out.Expose), port)
			}
		}
		for key, value := range more.Labels {
			if _, ok := out.Labels[key]; !ok {
				out.Labels = model.MergeLabels(out.Labels, map[string]string{key: value})
			}
		}
		if more.Created.Before(out.Created) {
			out.Created = more.Created
		}
	}
	slices.SortStableFunc(out.Endpoints, func(a, b api.Endpoint) int {
		return cmp.Or(cmp.Compare(len(a.Interface), len(b.Interface)), cmp.Compare(a.Interface, b.Interface))
	})
	return out
}

// pieceID is what a runtime calls a piece, where that is another thing than the container.
func pieceID(ct *Container, whole *directory.Container) string {
	if ct.Rec.RuntimeID == whole.RuntimeID {
		return ""
	}
	return ct.Rec.RuntimeID
}

// ViewMappings shows published ports of a container to clients.
func (ct *Container) ViewMappings(mappings []*Mapping) []api.PortMapping {
	list := []api.PortMapping{}
	for _, m := range mappings {
		v := api.PortMapping{
			Proto: model.ProtoName(m.Proto), HostPort: m.HostFirst, HostPortEnd: m.HostLast,
			Port: m.ContainerFirst, PortEnd: m.ContainerFirst + (m.HostLast - m.HostFirst), ByHand: m.ByHand, Waits: m.Waits,
		}
		if m.HostIP.IsValid() {
			v.HostIP = m.HostIP.String()
		}
		for _, f := range model.Families {
			if gw := ct.Gateway(f); gw != nil && (!m.HostIP.IsValid() || m.HostIP.IsLoopback() || model.FamilyOf(m.HostIP) == f) {
				v.Addresses = append(v.Addresses, gw.Addr(f).String())
			}
		}
		if len(v.Addresses) > 0 {
			v.Address = v.Addresses[0]
		}
		list = append(list, v)
	}
	return list
}

func (e *Endpoint) viewRoutes() (list []api.Route) {
	for _, r := range e.StaticRoutes() {
		v := api.Route{To: r.To.String(), Metric: r.Metric}
		if r.Via.IsValid() {
			v.Via = r.Via.String()
		}
		list = append(list, v)
	}
	return list
}

// Texts are the texts of a list.
func Texts[T fmt.Stringer](list []T) []string {
	out := make([]string, len(list))
	for i, v := range list {
		out[i] = v.String()
	}
	return out
}
