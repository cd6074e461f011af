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
		list = append(list, dataplane.PublishConfig{
			Proto: m.Proto, HostAddr: header.AddrFrom(at), HostFirst: m.HostFirst, HostLast: m.HostLast, ContainerAddr: header.AddrFrom(target.Addr(f)), ContainerFirst: m.ContainerFirst,
		})
	}
	return list
}
