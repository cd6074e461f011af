package dataplane

import (
	"fmt"
	"net/netip"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/vswitch/vswitch/dataplane/bpfmap"
	"github.com/vswitch/vswitch/dataplane/conntrack"
	"github.com/vswitch/vswitch/dataplane/flowmap"
	"github.com/vswitch/vswitch/dataplane/frame"
	"github.com/vswitch/vswitch/dataplane/header"
)

const (
	defaultConns = 262144
	defaultFDB   = 16384
)

// Config is what a switch is made with. Zero fields take the default.
type Config struct {
	// Workers is the number of forwarding threads. Default: half the CPUs, at
	// least one, at most eight.
	Workers int
	// Clock is memory that holds monotonic nanoseconds. Default: the machine's clock, which
	// goes on from process to process.
	Clock *atomic.Int64
	// MaxConns bounds conntrack, default 262144. MaxFDB bounds the learned MAC
	// addresses of all ports together, default 16384.
	MaxConns, MaxFDB int
	// Masquerade is where masquerade writes down the ports in use, default private
	// memory that nobody reads.
	Masquerade flowmap.ClaimPlane
	// Opened is the plane of claims of mappings that are open to strangers (FilterEIF).
	// Default: nobody reads it.
	Opened flowmap.ClaimPlane
	// Peers are the maps of the flows that leave with an address of the host: what their
	// other ends send is the switch's. Zero: nobody reads them.
	Peers bpfmap.PeerDescriptor
	// PortKey makes masquerade find the same ports again for the same endpoints
	// after a restart, so that their TCP flows go on. It is secret. Default: a
	// random one.
	PortKey [16]byte
	// Flows is the kernel's flow table; zero: every frame comes to userspace.
	Flows bpfmap.FlowDescriptor
	// Spin is how long a worker polls after the last frame before it sleeps.
	// Default 100 us, 0 takes the default, negative never spins.
	Spin time.Duration
}

// complete fills in what is not said.
func (cfg *Config) complete() error {
	if cfg.Workers == 0 {
		cfg.Workers = min(max(1, runtime.NumCPU()/2), 8)
	}
	if cfg.Workers < 0 {
		return fmt.Errorf("%d workers: at least one is needed", cfg.Workers)
	}
	if cfg.MaxConns == 0 {
		cfg.MaxConns = defaultConns
	}
	if cfg.MaxFDB == 0 {
		cfg.MaxFDB = defaultFDB
	}
	if cfg.Masquerade == nil {
		cfg.Masquerade = make(flowmap.ClaimPlane, flowmap.ClaimWords)
	}
	if len(cfg.Masquerade) != flowmap.ClaimWords {
		return fmt.Errorf("claim plane of %d words: want %d", len(cfg.Masquerade), flowmap.ClaimWords)
	}
	if cfg.Spin == 0 {
		cfg.Spin = 100 * time.Microsecond
	}
	return nil
}

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
	// Stations are the addresses that were handed out.
	Stations []StationConfig
	// Routes are the host's routes: its own addresses as RouteLocal, the rest as
	// RouteUplink, RouteBroadcast or, where no uplink leads there, RouteUnreachable. The
	// networks' subnets are added by NewSnapshot. The longest prefix wins.
	Routes []RouteConfig
	// Ruled says, of IPv4 and of IPv6, that Routes do not say which way containers' packets leave:
	// it is asked for by NoticeWay. ByUplink says the same of answers to what came in by an uplink.
	Ruled    [2]bool
	ByUplink bool
	// Uplinks describe the ports of kind PortUplink.
	Uplinks []UplinkConfig
	// Publish are the published ports. Intervals of one protocol and host
	// address must not overlap; a specific address wins over the wildcard.
	Publish []PublishConfig
	// Rules say who may speak to whom, in no order. Without any nothing is routed.
	Rules []Rule
	// MasqueradePorts are the ports that masquerade may use: an endpoint's own
	// among all of them (see masquerade), or else a random one, in order of
	// preference.
	MasqueradePorts []conntrack.PortRange
	// MasqueradeLast are the host's own ports, of which a flow may have one for its peer alone
	// when there is nothing else.
	MasqueradeLast []conntrack.PortRange
	// Timeouts are those of conntrack.
	Timeouts conntrack.Timeouts
}

// PortConfig places a port.
type PortConfig struct {
	ID      frame.PortID
	Kind    PortKind
	Network frame.NetworkID // 0 for an uplink
	// Ifindex is the interface's, where the kernel's flow table may carry its flows
	// on; otherwise 0.
	Ifindex uint32
	// Queued says that the interface has a queueing discipline or a program: the kernel's flow table
	// must not pass it by.
	Queued bool
	// Missed says that the interface, a cable or an uplink, has a filter which does not see what
	// the kernel's flow table sends there: no flow into it is carried.
	Missed bool
	// MAC, unless zero, is pinned to this port: a static FDB entry, and a frame
	// that bears it elsewhere in the network is a spoof. For PortHost it is the
	// network's gateway MAC.
	MAC header.MAC
	// Guarded holds a container to MAC and to the addresses of its Stations: frames
	// with another source, and the messages of routers and DHCP servers, are
	// dropped. It is for PortContainer and needs a MAC. Without it stations are
	// learned, MaxMACs of them at once; 0 is 8192.
	Guarded bool
	MaxMACs int
	// Groups are the sets of ports that rows know it by.
	Groups []GroupID
	// VLAN is that of untagged frames, 0 the network's own. Trunk are the VLANs
	// that the port carries tagged besides; a port without is an access port. The
	// host's port is in VLAN 0, the gateway serves them all.
	VLAN  uint16
	Trunk []VLANRange
	// StormRate bounds the frames a second that are flooded from the port:
	// broadcast, multicast and unknown unicast. 0 is 1000, negative no bound.
	StormRate int
	// Tenant is the port that all ports of its container are counted on, for quotas and
	// shares; 0: its own ID.
	Tenant frame.PortID
	// Egress, unless empty, is the way by which flows that a container begins leave, and no other. It
	// is in words of control, which says by SetWay where it leads.
	Egress string
	// Quota is that of a container.
	Quota conntrack.Quota
	// NoICMPErrors keeps the switch from sending ICMP errors of its own out of
	// this port (RFC 5508 REQ-9).
	NoICMPErrors bool
}

// VLANRange is an interval of VLAN IDs, both ends included, from 1 to 4094.
type VLANRange struct{ First, Last uint16 }

// PortOfNames is the port of DNS, of UDP and TCP (RFC 1035, 4.2).
const PortOfNames = 53

// NetworkConfig is one network.
type NetworkConfig struct {
	ID         frame.NetworkID
	HostPort   frame.PortID // of kind PortHost, or frame.NoPort
	GatewayMAC header.MAC
	Gateways   []netip.Addr // the gateway's address, one for each family
	Subnets    []netip.Prefix
	MTU        int
	// Names: the host answers names at the gateways. A port that is published at every address is
	// not published there, if it is PortOfNames.
	Names bool
	// MSSClamp is for the TCP flows between this network and others.
	MSSClamp MSSClamp
}

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

// StationConfig is an address of a container.
type StationConfig struct {
	Addr    netip.Addr
	Network frame.NetworkID
	MAC     header.MAC
	Port    frame.PortID
}

// RouteKind is what happens to a packet that matches a route.
type RouteKind uint8

const (
	RouteUnreachable RouteKind = iota // no uplink leads there
	RouteLocal                        // an address of the host
	RouteUplink                       // out through an uplink
	RouteBroadcast                    // a broadcast of a link, which no router forwards (RFC 2644)
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
	// Packets: it speaks IP without a header of the link, and so has no neighbours. MAC is zero.
	Packets bool
	// Slots gives the claim slot of each host address that masquerade may use
	// on this uplink.
	Slots map[netip.Addr]int
	// MSSClamp is for the TCP flows over this uplink. MSSKeep here or in the
	// network switches it off; of two limits the lower counts.
	MSSClamp MSSClamp
}

// PublishConfig is an interval of host ports that leads to an interval of container ports of
// the same length, for one address family. The stages ask it as it is.
type PublishConfig struct {
	Proto               uint8       // header.ProtoTCP, ProtoUDP or ProtoSCTP
	HostAddr            header.Addr // of ContainerAddr's family; unspecified or zero: every one of the host
	ContainerAddr       header.Addr // one of Stations
	HostFirst, HostLast uint16
	ContainerFirst      uint16 // HostFirst leads there
	// Inside: it is published at every address, and HostAddr is the gateway of another network of
	// the container's than that of its way out.
	Inside bool
}

// port is the container's port that a host port leads to.
func (p *PublishConfig) port(host uint16) uint16 { return p.ContainerFirst + (host - p.HostFirst) }

// NeighborKey names a next hop on an uplink.
type NeighborKey struct {
	Uplink frame.PortID
	Addr   header.Addr
}
