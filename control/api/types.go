// Package api holds the wire types of the daemon's HTTP+JSON interface, on the
// unix socket RUN-DIR/vswitch.sock. They are neither the controller's Spec nor
// the data path's Snapshot: each of the three can change without the others.
package api

import "time"

// Error is the body of every answer whose status is 400 or above.
type Error struct {
	// Message is one line that names the object and the way out.
	Message string `json:"error"`
}

// Info describes the daemon: GET /v1/info.
type Info struct {
	Version  string    `json:"version"`
	PID      int       `json:"pid"`
	Started  time.Time `json:"started"`
	StateDir string    `json:"state_dir"`
	Uplinks  []Uplink  `json:"uplinks"`
	Workers  int       `json:"workers"`
	// CaptureRing is whose newest frames the daemon keeps, as a capture names them;
	// empty: it keeps none.
	CaptureRing string `json:"capture_ring,omitempty"`
	// MasqueradePorts are the ports of the host that containers' connections leave from.
	MasqueradePorts []string `json:"masquerade_ports"`
	// NoBindHooks is why a UDP port that a program of the host binds is its own within a
	// second and not at once; empty: at once.
	NoBindHooks string `json:"no_bind_hooks,omitempty"`
	// NoConnectHooks is why the host's own connections to published ports are all relayed by
	// the daemon; empty: they are made to the containers where that can be.
	NoConnectHooks string `json:"no_connect_hooks,omitempty"`
}

// Uplink is an interface of the host through which containers go out.
type Uplink struct {
	Interface string   `json:"interface"`
	Addresses []string `json:"addresses"`
	Gateway   string   `json:"gateway,omitempty"`
	MTU       int      `json:"mtu"`
}

// NetworkCreate is the body of POST /v1/networks. Empty fields are chosen by
// the daemon. Subnet, Gateway and IPRange are one more entry of the lists, whose
// entries belong together by their address family; a family has one subnet.
type NetworkCreate struct {
	Name     string   `json:"name"`
	Subnet   string   `json:"subnet,omitempty"`    // CIDR
	Gateway  string   `json:"gateway,omitempty"`   // address
	IPRange  string   `json:"ip_range,omitempty"`  // CIDR inside Subnet
	Subnets  []string `json:"subnets,omitempty"`   // CIDR
	Gateways []string `json:"gateways,omitempty"`  // addresses
	IPRanges []string `json:"ip_ranges,omitempty"` // CIDR, each inside a subnet
	// IPv4 and IPv6 say which families the network has. Missing: the families
	// of the given subnets, or IPv4 when there are none or when IPv6 is asked for.
	IPv4     *bool             `json:"ipv4,omitempty"`
	IPv6     *bool             `json:"ipv6,omitempty"`
	Reserved map[string]string `json:"reserved,omitempty"` // name -> address never handed out
	MTU      int               `json:"mtu,omitempty"`
	Internal bool              `json:"internal,omitempty"`
	// Ephemeral: removed with its last container, for runtimes that say when a
	// container needs a network and never that nobody does any more.
	Ephemeral bool `json:"ephemeral,omitempty"`
	// Mode is one of the Gateway constants for both families, "" is nat;
	// ModeIPv4 and ModeIPv6 are for one and come first.
	Mode     string `json:"mode,omitempty"`
	ModeIPv4 string `json:"mode_ipv4,omitempty"`
	ModeIPv6 string `json:"mode_ipv6,omitempty"`
	// ICC, inter-container communication as Docker calls it: false lets containers
	// reach the gateway and the world, not each other. Missing: true.
	ICC *bool `json:"icc,omitempty"`
	// HostAccess: false keeps containers from the host's own services; published
	// ports, and what the host begins, are not concerned. Missing: true.
	HostAccess *bool `json:"host_access,omitempty"`
	// DisableDNS: its gateways answer no names.
	DisableDNS bool `json:"disable_dns,omitempty"`
	// DNSServers are asked for names outside, in the place of the host's.
	DNSServers []string `json:"dns_servers,omitempty"`
	// Filter is one of the Filter constants, "" is apdf.
	Filter string `json:"filter,omitempty"`
	// Exempt are destinations that see the containers' own addresses, CIDR.
	Exempt []string          `json:"exempt,omitempty"`
	Labels map[string]string `json:"labels,omitempty"`
	// Interface names the device towards the host. Missing: chosen.
	Interface string `json:"interface,omitempty"`
}

// UsedBy begins the keys of labels by which a runtime says that it relies on a
// network: prune leaves such a network alone. The rest of the key is the runtime's
// word, a dot and the runtime's name of the network.
const UsedBy = "org.vswitch.used-by."

// Modes of a network's gateway, as Docker has them.
const (
	GatewayNAT      = "nat"      // out with the host's address as source
	GatewayRouted   = "routed"   // out with the container's own address
	GatewayIsolated = "isolated" // no gateway: neither the outside nor the host
)

// Network is one network: GET /v1/networks, GET /v1/networks/{name}.
type Network struct {
	ID   string `json:"id"`
	Name string `json:"name"`
	// Ephemeral: it goes with its last container.
	Ephemeral bool `json:"ephemeral,omitempty"`

	Subnet     string            `json:"subnet"`             // the first of Subnets
	Gateway    string            `json:"gateway"`            // of Subnet
	IPRange    string            `json:"ip_range,omitempty"` // of Subnet
	Subnets    []Subnet          `json:"subnets"`            // at most one of each family, IPv4 first
	Reserved   map[string]string `json:"reserved,omitempty"`
	MTU        int               `json:"mtu"`
	Internal   bool              `json:"internal"`
	ICC        bool              `json:"icc"`
	HostAccess bool              `json:"host_access"`
	DisableDNS bool              `json:"disable_dns,omitempty"`
	DNSServers []string          `json:"dns_servers,omitempty"`
	Filter     string            `json:"filter"`
	Exempt     []string          `json:"exempt,omitempty"` // CIDR
	Labels     map[string]string `json:"labels,omitempty"`
	Interface  string            `json:"interface"` // TAP device in the host's namespace
	GatewayMAC string            `json:"gateway_mac"`
	Created    time.Time         `json:"created"`
	Containers []NetworkMember   `json:"containers"`
}

// Subnet is what a network has of one address family.
type Subnet struct {
	Subnet  string `json:"subnet"`
	Gateway string `json:"gateway,omitempty"` // empty in mode isolated
	IPRange string `json:"ip_range,omitempty"`
	Mode    string `json:"mode"`
}

// NetworkMember is a container's place in a network.
type NetworkMember struct {
	ID        string   `json:"id"`
	Name      string   `json:"name"`
	Address   string   `json:"address"`   // CIDR, the first of Addresses
	Addresses []string `json:"addresses"` // CIDR, one for each of the network's subnets
	MAC       string   `json:"mac"`
}

// Pruned is the answer to POST /v1/networks/prune.
type Pruned struct {
	Networks []string `json:"networks"`
}

// Modes of a container's network, as Docker has them.
const (
	ModeBridge    = "bridge"    // endpoints of its own
	ModeHost      = "host"      // the host's namespace
	ModeNone      = "none"      // a namespace with nothing but lo
	ModeContainer = "container" // the namespace of another container
)

// Attach is the body of POST /v1/containers: it registers a container and, in
// mode bridge, gives it an endpoint in each of Networks.
type Attach struct {
	Name string `json:"name"`
	// Runtime says who attaches, in one of the Runtime constants or another word
	// (a-z, 0-9, -), and RuntimeID what it calls the container: both or neither. A
	// runtime that attaches networks one by one repeats Attach with the same
	// RuntimeID and namespace: the container then gets the interfaces and ports that
	// it lacks, and keeps its first name.
	Runtime   string `json:"runtime,omitempty"`
	RuntimeID string `json:"runtime_id,omitempty"`

	Netns string `json:"netns,omitempty"` // path; or
	PID   int    `json:"pid,omitempty"`   // of a process in the namespace; or
	// Handover, when the runtime moves the interfaces into the namespace by itself
	// and gives them addresses and routes: they wait in the host's namespace, down.
	Handover bool `json:"handover,omitempty"`
	// Mode is one of the Mode constants, "" is bridge. In modes host, none and
	// container the registration lasts as long as process PID.
	Mode string `json:"mode,omitempty"`
	// Peer is the other container's name in mode container.
	Peer string `json:"peer,omitempty"`
	// Networks to join in mode bridge, default the default network. The first
	// gives the default route.
	Networks []Connect `json:"networks,omitempty"`
	Publish  []string  `json:"publish,omitempty"` // as after -p
	// PublishAll publishes every port of Expose ("80", "53/udp", "8000-8010") on
	// a random host port.
	PublishAll bool              `json:"publish_all,omitempty"`
	Expose     []string          `json:"expose,omitempty"`
	Labels     map[string]string `json:"labels,omitempty"`
	Hostname   string            `json:"hostname,omitempty"` // a name of it in all its networks
	DNS        *DNS              `json:"dns,omitempty"`
	// Ephemeral: released as soon as process PID has ended (vswitch run).
	Ephemeral bool `json:"ephemeral,omitempty"`
}

// Connect is the body of POST /v1/containers/{name}/networks.
type Connect struct {
	Network string `json:"network"`
	IP      string `json:"ip,omitempty"`
	IP6     string `json:"ip6,omitempty"`
	MAC     string `json:"mac,omitempty"`
	Ifname  string `json:"ifname,omitempty"` // default eth0, eth1, ...
	// RuntimeNetwork is what the runtime calls the network, where that is another
	// name: what GC goes by.
	RuntimeNetwork string `json:"runtime_network,omitempty"`
	// Guard, on by default but on a trunk, holds the container to its MAC and IP
	// addresses; off is for virtual machines, routers and bridges inside.
	Guard string `json:"guard,omitempty"`
	VLAN  int    `json:"vlan,omitempty"`  // of untagged frames, 0: the network's own
	Trunk string `json:"trunk,omitempty"` // VLANs carried tagged besides: 10,20-29
	// MaxFlows and FlowRate bound the flows that the container has begun and
	// begins each second. 0 is the default of 16384 and 20000, -1 no limit.
	MaxFlows int `json:"max_flows,omitempty"`
	FlowRate int `json:"flow_rate,omitempty"`
	// Egress is the way by which flows that the container begins leave, in place of the host's:
	// dev=INTERFACE, via=ADDRESS, source=ADDRESS, or several of them with commas, the addresses once for each
	// family. When it is not there nothing leaves by another.
	Egress string `json:"egress,omitempty"`
	// Routes are for the container, beside the default route.
	Routes []Route `json:"routes,omitempty"`
	// Aliases are further names of the container in this network, which several may have.
	Aliases []string `json:"aliases,omitempty"`
}

// Words of Guard.
const (
	GuardOn  = "on"
	GuardOff = "off"
)

// Container is one attached container: GET /v1/containers[/{name}].
type Container struct {
	ID   string `json:"id"`
	Name string `json:"name"`
	// Runtime attached it and calls it RuntimeID; "": somebody by hand.
	Runtime   string `json:"runtime,omitempty"`
	RuntimeID string `json:"runtime_id,omitempty"`

	Mode      string            `json:"mode"`
	Peer      string            `json:"peer,omitempty"`
	Netns     string            `json:"netns,omitempty"`
	PID       int               `json:"pid,omitempty"`
	Created   time.Time         `json:"created"`
	Labels    map[string]string `json:"labels,omitempty"`
	Expose    []string          `json:"expose,omitempty"`
	Hostname  string            `json:"hostname,omitempty"`
	DNS       *DNS              `json:"dns,omitempty"`
	Endpoints []Endpoint        `json:"endpoints"`
	Ports     []PortMapping     `json:"ports"`
}

// Endpoint is a container's port in a network.
type Endpoint struct {
	Network string `json:"network"`
	// RuntimeNetwork is the runtime's name of the network, where that is another.
	RuntimeNetwork string `json:"runtime_network,omitempty"`
	// RuntimeID is what the runtime calls the interface, where it attaches each by itself.
	RuntimeID string `json:"runtime_id,omitempty"`

	Interface     string   `json:"interface"`      // in the container
	HostInterface string   `json:"host_interface"` // veth end in the host's namespace
	Address       string   `json:"address"`        // CIDR, the first of Addresses
	Addresses     []string `json:"addresses"`      // CIDR, IPv4 first
	Gateway       string   `json:"gateway"`        // the first of Gateways
	Gateways      []string `json:"gateways"`       // at most one of each family, IPv4 first
	// NameServers are the gateways at which names are answered.
	NameServers  []string `json:"name_servers,omitempty"`
	MAC          string   `json:"mac"`
	MTU          int      `json:"mtu"`
	DefaultRoute bool     `json:"default_route"` // gives that of a family at least
	// Handover is the name under which the container's end was made in the host's
	// namespace, for the runtime to move it.
	Handover string `json:"handover,omitempty"`
	Guard    string `json:"guard"` // on, off
	VLAN     int    `json:"vlan,omitempty"`
	Trunk    string `json:"trunk,omitempty"`
	MaxFlows int    `json:"max_flows,omitempty"` // 0: the default, -1: no limit
	FlowRate int    `json:"flow_rate,omitempty"`
	Egress   string `json:"egress,omitempty"` // empty: the host's way
	// EgressAway is why nothing leaves by Egress now.
	EgressAway string   `json:"egress_away,omitempty"`
	Routes     []Route  `json:"routes,omitempty"`
	Aliases    []string `json:"aliases,omitempty"`
}

// PortMapping is a published port or range.
type PortMapping struct {
	Proto       string `json:"proto"`              // tcp, udp, sctp
	HostIP      string `json:"host_ip,omitempty"`  // empty: every address of the host
	HostPort    uint16 `json:"host_port"`          // first
	HostPortEnd uint16 `json:"host_port_end"`      // last, equal to HostPort for one port
	Port        uint16 `json:"container_port"`     // first
	PortEnd     uint16 `json:"container_port_end"` // last
	// Addresses of the container that the outside reaches by it, IPv4 first;
	// Address is the first.
	Address   string   `json:"address,omitempty"`
	Addresses []string `json:"addresses,omitempty"`
	// ByHand: somebody added it to a container of a runtime, which does not know it.
	ByHand bool `json:"by_hand,omitempty"`
	// Waits: the host does not have HostIP now, and the port comes with it.
	Waits bool `json:"waits,omitempty"`
}

// Publish is the body of POST and DELETE /v1/containers/{name}/ports.
type Publish struct {
	Ports []string `json:"ports"` // as after -p
}

// FDBEntry is a row of GET /v1/fdb.
type FDBEntry struct {
	Network   string  `json:"network"`
	VLAN      int     `json:"vlan,omitempty"` // 0: the network's own
	MAC       string  `json:"mac"`
	Port      string  `json:"port"` // interface name
	Container string  `json:"container,omitempty"`
	Static    bool    `json:"static"`
	Age       float64 `json:"age"` // seconds since last seen, 0 for static
}

// Share is a row of GET /v1/shares: what a container has of a table that all share.
type Share struct {
	Container string `json:"container"` // or the interface where that is no container's
	// ContainerID tells those apart that are called alike.
	ContainerID string `json:"container_id,omitempty"`

	Networks []string `json:"networks"`
	Shared   string   `json:"shared"` // flows, flows-received, nat-ports, stations, kernel-flows, waiting-bytes, next-hops, fragments, fragment-bytes, worker-time, hop-questions, group-members, bridged-flows, newcomer-bytes, station-flows
	Held     int      `json:"held"`
	Room     int      `json:"room,omitempty"` // for all containers together
	Gave     uint64   `json:"gave"`           // entries that gave way since the start
	Refused  uint64   `json:"refused"`        // entries that it did not get
}

// Stats is GET /v1/stats.
type Stats struct {
	Ports []PortStats       `json:"ports"`
	Drops map[string]uint64 `json:"drops"` // by reason, whole switch
	// Connections is the number of tracked flows now.
	Connections int `json:"connections"`
	// Flows is what the kernel's flow table carries past the daemon.
	Flows FlowStats `json:"flows"`
}

// FlowStats are counters of the flow table.
type FlowStats struct {
	Rows   int    `json:"rows"`   // flows in the table
	Active int    `json:"active"` // of them, carried by the kernel now
	Frames uint64 `json:"frames"` // carried by the kernel since the start
	// Stations are the containers between which the kernel carries from the first frame on,
	// Between the flows of the last minute that it carries so. Untold are the frames of flows
	// for which there was no room among these.
	Stations int    `json:"stations"`
	Between  int    `json:"between"`
	Untold   uint64 `json:"untold"`
}

// StatsQuery selects ports: of containers, or one interface of theirs, by a word as in
// ContainerFilter.Select; "" is all. With one the drops are the ones at these ports.
type StatsQuery struct{ Container string }

// PortStats are the counters of one port, seen from the switch: Rx is what
// came in from the container, host or uplink.
type PortStats struct {
	Port        string            `json:"port"` // interface name
	Kind        string            `json:"kind"` // container, host, uplink
	Network     string            `json:"network,omitempty"`
	Container   string            `json:"container,omitempty"`
	ContainerID string            `json:"container_id,omitempty"`
	Interface   string            `json:"interface,omitempty"` // in the container
	RxFrames    uint64            `json:"rx_frames"`
	RxBytes     uint64            `json:"rx_bytes"`
	TxFrames    uint64            `json:"tx_frames"`
	TxBytes     uint64            `json:"tx_bytes"`
	KernelDrops uint64            `json:"kernel_drops"`
	CostNS      uint64            `json:"cost_ns"` // of the worker's time, as the scheduler counts it
	Drops       map[string]uint64 `json:"drops"`   // by reason, frames that came in here
}
