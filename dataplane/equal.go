package dataplane

import (
	"maps"
	"slices"
)

// equal reports whether two snapshots say the same, whatever their revisions are and in
// whichever order they were told. What follows from other fields is not compared.
func (s *Snapshot) equal(o *Snapshot) bool {
	for id, p := range s.ports {
		if !p.equal(o.ports[id]) {
			return false
		}
	}
	return maps.EqualFunc(s.networks, o.networks, (*network).equal) &&
		maps.EqualFunc(s.stations, o.stations, func(a, b *station) bool {
			return a.network.ID == b.network.ID && a.mac == b.mac && a.port == b.port
		}) &&
		s.fib.Equal(o.fib) &&
		maps.EqualFunc(s.publish, o.publish, slices.Equal[[]PublishConfig]) &&
		slices.Equal(s.rules, o.rules) &&
		s.pool.Equal(o.pool) &&
		s.timeouts == o.timeouts && s.ruled == o.ruled && s.byUplink == o.byUplink
}

func (p *portConfig) equal(o *portConfig) bool {
	if p == nil || o == nil {
		return p == o
	}
	return p.ID == o.ID && p.Kind == o.Kind && p.Network == o.Network && p.Ifindex == o.Ifindex && p.Queued == o.Queued && p.Missed == o.Missed &&
		p.MAC == o.MAC && p.Guarded == o.Guarded && p.MaxMACs == o.MaxMACs && slices.Equal(p.Groups, o.Groups) && p.VLAN == o.VLAN &&
		slices.Equal(p.Trunk, o.Trunk) && p.storm == o.storm && p.quota == o.quota && p.tenant == o.tenant && p.NoICMPErrors == o.NoICMPErrors && p.Egress == o.Egress &&
		p.uplink.equal(o.uplink)
}

func (u *uplink) equal(o *uplink) bool {
	if u == nil || o == nil {
		return u == o
	}
	return u.MAC == o.MAC && u.Packets == o.Packets && u.MTU == o.MTU && u.MSSClamp == o.MSSClamp && maps.Equal(u.slots, o.slots)
}

func (n *network) equal(o *network) bool {
	return n.ID == o.ID && n.HostPort == o.HostPort && n.GatewayMAC == o.GatewayMAC && slices.Equal(n.Gateways, o.Gateways) &&
		slices.Equal(n.Subnets, o.Subnets) && n.Names == o.Names && n.MTU == o.MTU && n.MSSClamp == o.MSSClamp
}

// Equal is what the table of routes compares by.
func (r *route) Equal(o *route) bool {
	// Tables of other snapshots point to networks and uplinks of theirs.
	return r.RouteConfig == o.RouteConfig && (r.network == nil) == (o.network == nil) &&
		(r.network == nil || r.network.ID == o.network.ID)
}
