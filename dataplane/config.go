package dataplane

import (
	"net/netip"

	"github.com/vswitch/vswitch/dataplane/frame"
	"github.com/vswitch/vswitch/dataplane/header"
)

// NetworkID names a network (a broadcast domain) inside one switch. It keys FDB
// entries, which outlive snapshots: an ID is not given to another network
// while the switch runs. 0 is no network.
type NetworkID uint16

// PortKind is what lies behind a port.
type PortKind uint8

const (
	// PortContainer is the veth of a container, or of anything else that speaks
	// Ethernet in a network.
	PortContainer PortKind = iota
	// PortHost is the TAP device that joins a network to the host's stack.
	PortHost
	// PortUplink is a NIC of the host; only frames that the switch claimed
	// arrive from it.
	PortUplink
)

// SnapshotConfig is all that the controller tells the data path. NewSnapshot
// checks it and turns it into the tables the workers read.
type SnapshotConfig struct {
	Revision uint64 // grows with each snapshot
	Ports    []PortConfig
	Networks []NetworkConfig
	// Hosts are the addresses that were handed out.
	Hosts []HostConfig
	// Routes are the host's routes: its own addresses as RouteLocal, the rest as
	// RouteUplink or, where no uplink leads there, RouteUnreachable. The
	// networks' subnets are added by NewSnapshot. The longest prefix wins.
	Routes []RouteConfig
	// Uplinks describe the ports of kind PortUplink.
	Uplinks []UplinkConfig
	// Publish are the published ports. Intervals of one protocol and host
	// address must not overlap; a specific address wins over the wildcard.
	Publish []PublishConfig
	// MasqueradePorts are the ports that masquerade may use: an endpoint's own
	// among all of them (see masquerade), or else a random one, in order of
	// preference.
	MasqueradePorts []PortRange
	// Timeouts are those of conntrack.
	Timeouts Timeouts
}

// PortConfig places a port.
type PortConfig struct {
	ID      frame.PortID
	Kind    PortKind
	Network NetworkID // 0 for an uplink
	// Ifindex is the interface's, where the kernel's flow table may carry its flows
	// on; otherwise 0.
	Ifindex uint32
	// Queued says that the interface has a queueing discipline: the kernel's flow table
	// must not pass it by.
	Queued bool
	// MAC, unless zero, is pinned to this port: a static FDB entry, and a frame
	// that bears it elsewhere in the network is a spoof. For PortHost it is the
	// network's gateway MAC.
	MAC header.MAC
	// Guarded holds a container to MAC and to the addresses of its Hosts: frames
	// with another source, and the messages of routers and DHCP servers, are
	// dropped. It is for PortContainer and needs a MAC. Without it stations are
	// learned, MaxMACs of them at once; 0 is 8192.
	Guarded bool
	MaxMACs int
	// Isolated ports of a network do not reach each other.
	Isolated bool
	// VLAN is that of untagged frames, 0 the network's own. Trunk are the VLANs
	// that the port carries tagged besides; a port without is an access port. The
	// host's port is in VLAN 0, the gateway serves them all.
	VLAN  uint16
	Trunk []VLANRange
	// StormRate bounds the frames a second that are flooded from the port:
	// broadcast, multicast and unknown unicast. 0 is 1000, negative no bound.
	StormRate int
	// Quota is that of a container.
	Quota Quota
	// NoICMPErrors keeps the switch from sending ICMP errors of its own out of
	// this port (RFC 5508 REQ-9).
	NoICMPErrors bool
}

// VLANRange is an interval of VLAN IDs, both ends included, from 1 to 4094.
type VLANRange struct{ First, Last uint16 }

// NetworkConfig is one network.
type NetworkConfig struct {
	ID         NetworkID
	HostPort   frame.PortID // of kind PortHost, or frame.NoPort
	GatewayMAC header.MAC
	Gateways   []netip.Addr // the gateway's address, one for each family
	Subnets    []netip.Prefix
	MTU        int
	Internal   bool // no way out through an uplink
	Isolated   bool // every container's port is (Docker's icc=false)
	// NoHostAccess keeps the containers from opening a flow to any address of the
	// host; published ports, and what the host begins, are not concerned.
	NoHostAccess bool
	// Modes are those of IPv4 and IPv6.
	Modes [2]GatewayMode
	// Filter says who may come in by a masquerade mapping.
	Filter Filter
	// Exempt are destinations behind an uplink that see the containers' own
	// addresses (RFC 6888 REQ-6).
	Exempt []netip.Prefix
	// MSSClamp is for the TCP flows between this network and others.
	MSSClamp MSSClamp
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

// MSSClamp lowers the maximum segment size in SYNs. A positive value is the
// limit in bytes.
type MSSClamp int

const (
	// MSSAuto lowers it to what fits the uplink when the uplink's MTU is
	// smaller than the network's: many networks lose the ICMP errors that path
	// MTU discovery needs.
	MSSAuto MSSClamp = 0
	// MSSKeep leaves it alone.
	MSSKeep MSSClamp = -1
)

// HostConfig is an address of a container.
type HostConfig struct {
	Addr    netip.Addr
	Network NetworkID
	MAC     header.MAC
	Port    frame.PortID
}

// RouteKind is what happens to a packet that matches a route.
type RouteKind uint8

const (
	RouteUnreachable RouteKind = iota // no uplink leads there
	RouteLocal                        // an address of the host
	RouteUplink                       // out through an uplink
	routeNetwork                      // into a network of this switch
)

// RouteConfig is one route of the host.
type RouteConfig struct {
	Prefix netip.Prefix
	Kind   RouteKind
	// Uplink, Via and Source are for RouteUplink. Via is the next hop, invalid
	// when the destination is on the link. Source is the address that masquerade
	// uses; it has a slot in the claims.
	Uplink frame.PortID
	Via    netip.Addr
	Source netip.Addr
}

// UplinkConfig is a NIC of the host.
type UplinkConfig struct {
	Port frame.PortID
	MAC  header.MAC
	MTU  int
	// Slots gives the claim slot of each host address that masquerade may use
	// on this uplink.
	Slots map[netip.Addr]int
	// MSSClamp is for the TCP flows over this uplink. MSSKeep here or in the
	// network switches it off; of two limits the lower counts.
	MSSClamp MSSClamp
}

// PublishConfig is one -p rule: an interval of host ports that leads to an
// interval of container ports of the same length.
type PublishConfig struct {
	Proto    uint8      // header.ProtoTCP, ProtoUDP or ProtoSCTP
	HostAddr netip.Addr // of Addr's family; unspecified or invalid: every one of the host
	// First and Last are host ports, Target the container port that First
	// leads to.
	First, Last uint16
	Addr        netip.Addr // of the container, one of Hosts
	Target      uint16
}

// PortRange is an interval of ports, both ends included.
type PortRange struct{ First, Last uint16 }

// NeighborKey names a next hop on an uplink.
type NeighborKey struct {
	Uplink frame.PortID
	Addr   header.Addr
}
