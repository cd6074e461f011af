package state

import (
	"net/netip"
	"time"
)

// Network is a network as it was made.
type Network struct {
	ID       string   `json:"id"`
	Name     string   `json:"name"`
	Subnets  []Subnet `json:"subnets"` // at most one of each family, IPv4 first
	MTU      int      `json:"mtu"`
	Internal bool     `json:"internal,omitempty"`
	NoICC    bool     `json:"no_icc,omitempty"` // containers do not reach each other
	// Ephemeral: removed with its last container.
	Ephemeral bool `json:"ephemeral,omitempty"`
	// NoHostAccess: containers open no flow to the host.
	NoHostAccess bool `json:"no_host_access,omitempty"`
	// NoDNS: its gateways answer no names.
	NoDNS bool `json:"no_dns,omitempty"`
	// DNSServers are asked for names outside; none: the host's.
	DNSServers []netip.Addr `json:"dns_servers,omitempty"`
	// Filter is eif, or empty for filtering by address and port.
	Filter  string            `json:"filter,omitempty"`
	Exempt  []netip.Prefix    `json:"exempt,omitempty"` // destinations that are not translated
	Labels  map[string]string `json:"labels,omitempty"`
	Created time.Time         `json:"created"`
	// TAP is the name of the device towards the host.
	TAP string `json:"tap"`
	// Number is the network's own in the data path, PortNumber that of the TAP's port;
	// 0: none was given.
	Number     int `json:"number,omitempty"`
	PortNumber int `json:"port_number,omitempty"`
}

// Subnet is what a network has of one address family.
type Subnet struct {
	Prefix   netip.Prefix          `json:"prefix"`
	Gateway  netip.Addr            `json:"gateway"`
	IPRange  netip.Prefix          `json:"ip_range"`
	Reserved map[string]netip.Addr `json:"reserved,omitempty"`
	// Mode is one of the gateway modes of the API, empty for nat.
	Mode string `json:"mode,omitempty"`
}

// Container is an attached container.
type Container struct {
	ID   string `json:"id"`
	Name string `json:"name"`
	Mode string `json:"mode"`
	Peer string `json:"peer,omitempty"`
	// Runtime attached it and knows it as RuntimeID; empty: somebody by hand.
	Runtime   string `json:"runtime,omitempty"`
	RuntimeID string `json:"runtime_id,omitempty"`
	// Netns is a path, or empty when the namespace is that of process PID.
	Netns    string `json:"netns,omitempty"`
	NetnsDev uint64 `json:"netns_dev"`
	NetnsIno uint64 `json:"netns_ino"`
	PID      int    `json:"pid,omitempty"`
	PIDStart uint64 `json:"pid_start,omitempty"` // clock ticks since boot
	// Handover: the runtime moves its ends into its namespace, which is not known.
	Handover bool `json:"handover,omitempty"`
	// Bound: released when process PID ends.
	Bound   bool              `json:"bound,omitempty"`
	BootID  string            `json:"boot_id"` // of the kernel that ran it
	Created time.Time         `json:"created"`
	Labels  map[string]string `json:"labels,omitempty"`
	Expose  []string          `json:"expose,omitempty"`
	// Hostname is a name of it in all its networks.
	Hostname string `json:"hostname,omitempty"`
	DNS      DNS    `json:"dns,omitzero"`
	// Digest is that of the request, to recognise its repetition.
	Digest    string     `json:"digest"`
	Endpoints []Endpoint `json:"endpoints,omitempty"` // in the order they were joined
	Ports     []Port     `json:"ports,omitempty"`
}

// Endpoint is a container's place in a network.
type Endpoint struct {
	Network string `json:"network"` // ID
	// RuntimeNetwork is the runtime's name of the network, when not its own.
	RuntimeNetwork string `json:"runtime_network,omitempty"`

	Ifname  string `json:"ifname"`
	Veth    string `json:"veth"` // host end
	Ifindex int    `json:"ifindex"`
	// PortNumber is that of its port in the data path; 0: none was given.
	PortNumber int `json:"port_number,omitempty"`

	Alias string       `json:"alias"`
	Addrs []netip.Addr `json:"addrs"` // one for each subnet of the network, in its order
	MAC   string       `json:"mac"`
	Guard string       `json:"guard,omitempty"` // empty: on, off on a trunk
	VLAN  int          `json:"vlan,omitempty"`
	Trunk string       `json:"trunk,omitempty"`
	// MaxFlows and FlowRate: 0 is the default, -1 no limit.
	MaxFlows int `json:"max_flows,omitempty"`
	FlowRate int `json:"flow_rate,omitempty"`
	// Egress is the way by which its flows leave; empty: the host's.
	Egress string `json:"egress,omitempty"`
	// Routes are beside the default routes.
	Routes []Route `json:"routes,omitempty"`
	// Aliases are names in the network, beside the container's own.
	Aliases []string `json:"aliases,omitempty"`
}

// DNS is what a container wants beside the names of its neighbours.
type DNS struct {
	Servers []netip.Addr `json:"servers,omitempty"`
	Search  []string     `json:"search,omitempty"`
	Options []string     `json:"options,omitempty"`
	Hosts   []Host       `json:"hosts,omitempty"`
}

// IsZero reports whether it wants nothing.
func (d DNS) IsZero() bool {
	return len(d.Servers)+len(d.Search)+len(d.Options)+len(d.Hosts) == 0
}

// Host is a name that a container alone knows.
type Host struct {
	Name string     `json:"name"`
	Addr netip.Addr `json:"addr"` // invalid: the gateway
}

// Route is one in a container's namespace.
type Route struct {
	To     netip.Prefix `json:"to"`
	Via    netip.Addr   `json:"via"` // invalid: the network's gateway, without one the link
	Metric int          `json:"metric,omitempty"`
}

// Port is a published interval of ports.
type Port struct {
	Proto          uint8      `json:"proto"`
	HostIP         netip.Addr `json:"host_ip"` // invalid: all; unspecified: all of its family
	HostFirst      uint16     `json:"host_first"`
	HostLast       uint16     `json:"host_last"`
	ContainerFirst uint16     `json:"first"`
	// ByHand: somebody added it to a container of a runtime, which does not know it.
	ByHand bool `json:"by_hand,omitempty"`
	// Kept are the cookies of the sockets by which programs keep the ports for it.
	Kept []uint64 `json:"kept,omitempty"`
}

// ByHand are the ports that somebody added to a container which is away and may come back:
// its runtime stopped it.
type ByHand struct {
	Container string `json:"container"` // the runtime's ID of it
	Name      string `json:"name"`
	Ports     []Port `json:"ports"`
}

// Numbers are those of the data path for what has no record of its own.
type Numbers struct {
	Uplinks []UplinkNumber `json:"uplinks,omitempty"` // those that are away for longest first
	Slots   []SlotNumber   `json:"slots,omitempty"`   // likewise
}

// UplinkNumber is the number of the port of an interface of the host.
type UplinkNumber struct {
	Name       string `json:"name"`
	PortNumber int    `json:"port_number"`
}

// SlotNumber is the number of the claim slot of an address of the host.
type SlotNumber struct {
	Addr   netip.Addr `json:"addr"`
	Number int        `json:"number"`
}

// Latest are the numbers that were given out last, 0 for none.
type Latest struct {
	Network int `json:"network,omitempty"`
	Port    int `json:"port,omitempty"`
}

// PortRange is an interval of ports, both ends included.
type PortRange struct {
	First uint16 `json:"first"`
	Last  uint16 `json:"last"`
}
