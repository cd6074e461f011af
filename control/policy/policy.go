package policy

import (
	"net/netip"

	"github.com/vswitch/vswitch/dataplane"
	"github.com/vswitch/vswitch/dataplane/conntrack"
	"github.com/vswitch/vswitch/dataplane/frame"
	"github.com/vswitch/vswitch/dataplane/header"
)

// Network is what the way a network was made says of its containers.
type Network struct {
	ID       frame.NetworkID
	Internal bool // no way out through an uplink
	Isolated bool // containers do not reach each other (Docker's icc=false)
	// NoHostAccess keeps the containers from opening a flow to any address of the
	// host; published ports, and what the host begins, are not concerned.
	NoHostAccess bool
	Modes        [2]GatewayMode // of IPv4 and IPv6
	Filter       Filter         // who may come in by a masquerade mapping
	// Names are the gateways at which names are answered, whatever NoHostAccess says.
	Names []netip.Addr
	// Exempt are destinations behind an uplink that see the containers' own
	// addresses (RFC 6888 REQ-6).
	Exempt []netip.Prefix
}

// GatewayMode is what a network's gateway does with packets of a family.
type GatewayMode uint8

const (
	GatewayNAT      GatewayMode = iota // out through an uplink with the host's address
	GatewayRouted                      // out through an uplink with the container's own
	GatewayIsolated                    // nothing: only containers of the network reach each other
)

// Filter is the filtering behaviour of RFC 4787 section 5.
type Filter uint8

const (
	// FilterAPDF lets in who was written to, from the port that was written to
	// (address and port dependent filtering).
	FilterAPDF Filter = iota
	// FilterEIF lets in everybody (endpoint independent filtering), which some
	// peer-to-peer software needs.
	FilterEIF
)

// Isolated is the group of the ports that were isolated one by one. Numbers of other
// groups are above it.
const Isolated dataplane.GroupID = 1

// Compile returns the rows of all networks of a snapshot, of those that networks tells
// more about, and of the ports that are published into routed ones. A network that is not
// in the snapshot is left out.
func Compile(cfg *dataplane.SnapshotConfig, networks []Network) []dataplane.Rule {
	rows := general()
	is := make(map[frame.NetworkID]bool, len(cfg.Networks))
	for i := range cfg.Networks {
		id := cfg.Networks[i].ID
		is[id] = true
		inside := dataplane.Selector{Sides: dataplane.SideContainer, Network: id}
		rows = append(rows,
			dataplane.Rule{ID: ofNetwork(id, inNetwork), Tier: dataplane.TierNetwork, Direction: dataplane.In, From: inside, To: inside},
			dataplane.Rule{
				ID: ofNetwork(id, fromHost), Tier: dataplane.TierNetwork, Direction: dataplane.In,
				From: dataplane.Selector{Sides: dataplane.SideHost, Network: id}, To: inside,
			})
	}
	for _, p := range cfg.Ports {
		for _, g := range p.Groups {
			if g == Isolated {
				them := dataplane.Selector{Sides: dataplane.SideContainer, Network: p.Network, Group: Isolated}
				me := them
				me.OfPort, me.Port = true, p.ID
				rows = append(rows, deny(ofNetwork(p.Network, isolatedPorts), dataplane.In, dataplane.DropIsolated, them, me))
			}
		}
	}
	var routed [2]map[frame.NetworkID]bool
	for i := range networks {
		n := &networks[i]
		if !is[n.ID] {
			continue
		}
		rows = append(rows, n.compile()...)
		for f := range n.Modes {
			if n.Modes[f] == GatewayRouted && !n.Internal {
				if routed[f] == nil {
					routed[f] = make(map[frame.NetworkID]bool)
				}
				routed[f][n.ID] = true
			}
		}
	}
	if routed[0] == nil && routed[1] == nil {
		return rows
	}
	at := make(map[netip.Addr]*dataplane.StationConfig, len(cfg.Stations))
	for i := range cfg.Stations {
		at[cfg.Stations[i].Addr] = &cfg.Stations[i]
	}
	for _, p := range cfg.Publish {
		if h := at[p.ContainerAddr.NetIP()]; h != nil && routed[familyOf(h.Addr)][h.Network] {
			rows = append(rows, directPorts(h, &p))
		}
	}
	return rows
}

// general are the rows that hold in every network.
func general() []dataplane.Rule {
	container := dataplane.Selector{Sides: dataplane.SideContainer}
	ours := dataplane.Selector{Sides: dataplane.SideContainer | dataplane.SideHost}
	host, outside := dataplane.Selector{Sides: dataplane.SideHost}, dataplane.Selector{Sides: dataplane.SideOutside}
	vlans := deny(ofNetwork(0, vlansApart), dataplane.In, dataplane.DropIsolated, container, container)
	vlans.OtherVLAN = true
	apart := deny(ofNetwork(0, networksApart), dataplane.In, dataplane.DropIsolated, ours, container)
	apart.Tier = dataplane.TierBase
	unasked := deny(ofNetwork(0, unasked), dataplane.In, dataplane.DropUnclaimed, outside, dataplane.Selector{})
	unasked.Tier, unasked.Via = dataplane.TierBase, 0
	return []dataplane.Rule{
		vlans, apart, unasked,
		{ID: ofNetwork(0, published), Tier: dataplane.TierNetwork, Direction: dataplane.In, To: container, Via: dataplane.ViaPublished | dataplane.ViaPublishedInside},
		{ID: ofNetwork(0, wayOut), Tier: dataplane.TierBase, Direction: dataplane.Out, From: ours, To: outside},
		{ID: ofNetwork(0, toHost), Tier: dataplane.TierBase, Direction: dataplane.Out, From: ours, To: host},
	}
}

// compile returns what a network says beyond what holds in every one.
func (n *Network) compile() (rows []dataplane.Rule) {
	inside := dataplane.Selector{Sides: dataplane.SideContainer, Network: n.ID}
	sender := dataplane.Selector{Network: n.ID}
	outside := dataplane.Selector{Sides: dataplane.SideOutside}
	if n.Isolated {
		rows = append(rows, deny(ofNetwork(n.ID, icc), dataplane.In, dataplane.DropIsolated, inside, inside))
	}
	if n.Internal {
		rows = append(rows, deny(ofNetwork(n.ID, internal), dataplane.Out, dataplane.DropInternal, sender, outside))
		r := deny(ofNetwork(n.ID, internal), dataplane.Out, dataplane.DropInternal, sender, dataplane.Selector{Sides: dataplane.SideContainer})
		r.Via = dataplane.ViaPublishedInside // another network's own affair
		rows = append(rows, r)
	}
	if n.NoHostAccess {
		rows = append(rows, deny(ofNetwork(n.ID, hostAccess), dataplane.Out, dataplane.DropHostAccess, sender, dataplane.Selector{Sides: dataplane.SideHost}))
		for _, gateway := range n.Names {
			rows = append(rows, n.asks(gateway, header.ProtoUDP), n.asks(gateway, header.ProtoTCP))
		}
	}
	if n.Filter == FilterEIF {
		rows = append(rows, dataplane.Rule{
			ID: ofNetwork(n.ID, filterEIF), Tier: dataplane.TierNetwork, Direction: dataplane.In, From: outside, To: inside, Via: dataplane.ViaMapping,
		})
	}
	for f, mode := range n.Modes {
		family := [2]uint8{4, 6}[f]
		switch mode {
		case GatewayIsolated:
			r := deny(ofNetwork(n.ID, closed), dataplane.Out, dataplane.DropInternal, sender, dataplane.Selector{Sides: dataplane.SideGateway})
			r.Family = family
			rows = append(rows, r)
		case GatewayRouted:
			rows = append(rows, dataplane.Rule{
				ID: ofNetwork(n.ID, routed), Tier: dataplane.TierNetwork, Direction: dataplane.Keep, From: sender, To: outside, Family: family,
			})
			if !n.Internal {
				rows = append(rows, dataplane.Rule{
					ID: ofNetwork(n.ID, pings), Tier: dataplane.TierNetwork, Direction: dataplane.In, From: outside, To: inside,
					Via: dataplane.ViaAddress, Family: family, Proto: [2]uint8{header.ProtoICMP, header.ProtoICMPv6}[f],
				})
			}
		}
	}
	for _, p := range n.Exempt {
		rows = append(rows, dataplane.Rule{
			ID: ofNetwork(n.ID, exempt), Tier: dataplane.TierNetwork, Direction: dataplane.Keep, From: sender,
			To: dataplane.Selector{Sides: dataplane.SideOutside, Prefix: p},
		})
	}
	return rows
}

// asks lets containers ask for names. It comes before what else is said of the host.
func (n *Network) asks(gateway netip.Addr, proto uint8) dataplane.Rule {
	return dataplane.Rule{
		ID: ofNetwork(n.ID, asksNames), Tier: dataplane.TierAdmin, Direction: dataplane.Out, From: dataplane.Selector{Network: n.ID},
		To: dataplane.Selector{Sides: dataplane.SideHost, Prefix: netip.PrefixFrom(gateway, gateway.BitLen())}, Via: dataplane.ViaAddress,
		Proto: proto, Ports: conntrack.PortRange{First: dataplane.PortOfNames, Last: dataplane.PortOfNames},
	}
}

// directPorts lets the outside reach a published port of a container in a routed network at
// the container's own address.
func directPorts(h *dataplane.StationConfig, p *dataplane.PublishConfig) dataplane.Rule {
	return dataplane.Rule{
		ID: ofNetwork(h.Network, direct), Tier: dataplane.TierNetwork, Direction: dataplane.In,
		From: dataplane.Selector{Sides: dataplane.SideOutside},
		To:   dataplane.Selector{Sides: dataplane.SideContainer, OfPort: true, Port: h.Port, Prefix: netip.PrefixFrom(h.Addr, h.Addr.BitLen())},
		Via:  dataplane.ViaAddress, Proto: p.Proto, Ports: conntrack.PortRange{First: p.ContainerFirst, Last: p.ContainerFirst + (p.HostLast - p.HostFirst)},
	}
}

// deny refuses what comes by an address. A published port is open to who could not come so.
func deny(id dataplane.RuleID, d dataplane.Direction, why dataplane.DropReason, from, to dataplane.Selector) dataplane.Rule {
	return dataplane.Rule{ID: id, Tier: dataplane.TierNetwork, Direction: d, Deny: true, Reason: why, From: from, To: to, Via: dataplane.ViaAddress}
}

// familyOf indexes pairs by address family, as Modes does.
func familyOf(a netip.Addr) int {
	if a.Is4() {
		return 0
	}
	return 1
}
