package inventory

import (
	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/control/model"
	"github.com/vswitch/vswitch/control/policy"
	"github.com/vswitch/vswitch/dataplane"
	"github.com/vswitch/vswitch/dataplane/header"
)

// Compile gives a network to the data path.
func (n *Network) Compile() dataplane.NetworkConfig {
	cfg := dataplane.NetworkConfig{
		ID: n.ID, HostPort: n.Port, GatewayMAC: n.MAC, MTU: n.Rec.MTU, Names: !n.Rec.NoDNS,
	}
	for _, s := range n.Rec.Subnets {
		cfg.Subnets = append(cfg.Subnets, s.Prefix)
		if s.Mode != api.GatewayIsolated { // the host is not there
			cfg.Gateways = append(cfg.Gateways, s.Gateway)
		}
	}
	return cfg
}

// Policy says who may speak to whom in the network and beyond.
func (n *Network) Policy() policy.Network {
	p := policy.Network{ID: n.ID, Internal: n.Rec.Internal, Isolated: n.Rec.NoICC, NoHostAccess: n.Rec.NoHostAccess, Exempt: n.Rec.Exempt}
	if n.Rec.Filter == api.FilterEIF {
		p.Filter = policy.FilterEIF
	}
	for _, s := range n.Rec.Subnets {
		switch f := model.FamilyOf(s.Gateway); s.Mode {
		case api.GatewayIsolated:
			p.Modes[f] = policy.GatewayIsolated
		case api.GatewayRouted:
			p.Modes[f] = policy.GatewayRouted
		}
		if s.Mode != api.GatewayIsolated && !n.Rec.NoDNS {
			p.Names = append(p.Names, s.Gateway)
		}
	}
	return p
}

// Compile gives a mapping to the data path: once for each family in which both
// the host's side and the container's have an address.
func (m *Mapping) Compile() (list []dataplane.PublishConfig) {
	for _, f := range model.Families {
		target := m.Container.Gateway(f)
		if target == nil || !target.Live || m.HostIP.IsValid() && model.FamilyOf(m.HostIP) != f {
			continue
		}
		at := m.HostIP
		if !at.IsValid() {
			at = f.Unspecified()
		}
		p := dataplane.PublishConfig{
			Proto: m.Proto, HostAddr: header.AddrFrom(at), HostFirst: m.HostFirst, HostLast: m.HostLast, ContainerAddr: header.AddrFrom(target.Addr(f)), ContainerFirst: m.ContainerFirst,
		}
		list = append(list, p)
		if at == f.Unspecified() {
			list = append(list, m.inside(f, target, p)...)
		}
	}
	return list
}

// inside is where a port that is published at every address leads at the gateways of the container's
// other networks: to its address there. By the one of the way out its answer would leave from the
// wrong address, since the gateway is a neighbour of the other.
func (m *Mapping) inside(f model.Family, target *Endpoint, p dataplane.PublishConfig) (list []dataplane.PublishConfig) {
	for _, e := range m.Container.Endpoints {
		s := model.SubnetOf(e.Network.Rec, f)
		if e == target || !e.Live || s == nil || s.Mode == api.GatewayIsolated || e.Network == target.Network {
			continue
		}
		p.HostAddr, p.ContainerAddr, p.Inside = header.AddrFrom(s.Gateway), header.AddrFrom(e.Addr(f)), true
		list = append(list, p)
	}
	return list
}
