// Package edge says what the controller changes and asks on the host's side of the
// switch: cables of containers, devices of networks, uplinks, claims, reserved ports,
// neighbours. control/edge/linux does it with the kernel; control/edge/edgetest is a
// model of the kernel for tests.
//
// The values are control/host's, which speaks to the kernel: a link or a route has one
// type, whoever made it.
package edge

import (
	"context"
	"net"
	"net/netip"
	"os"

	"github.com/vswitch/vswitch/control/host"
	"github.com/vswitch/vswitch/control/names"
	"github.com/vswitch/vswitch/control/relay"
	"github.com/vswitch/vswitch/control/reserve"
	"github.com/vswitch/vswitch/control/resolver"
	"github.com/vswitch/vswitch/dataplane/bpfmap"
	"github.com/vswitch/vswitch/dataplane/flowmap"
	"github.com/vswitch/vswitch/dataplane/port"
)

// Edge is one network namespace, the host's, and what the switch has there. Its methods
// are safe for concurrent use. Each makes a thing whole or not at all.
type Edge interface {
	// Begin says who the edge works for from now on. It removes what a killed process
	// of the same owner has left in the state. It comes before everything that makes
	// something.
	Begin(Owner) error
	// Together says, before Begin, that a start goes on until end: so many cables are about to
	// be opened, with rings of so many slots, and ports to be taken. What the kernel would be
	// asked for each, or wait for each, is done once for all of them, and the links are read
	// once.
	Together(cables, slots int) (end func())
	// HeldFor is the identity of the owner whose devices and sockets a process before has left
	// open for this one, "" when there are none, and its state directory, "" when it has not
	// told.
	HeldFor() (identity, directory string)
	// HoldState has a copy of the state, a file in memory that begins with b, stay with what outlives
	// the process, in place of the one before, and returns it for who writes on; nil where nothing
	// outlives it.
	HoldState(b []byte) (*os.File, error)
	// HeldState is, before Begin, the one that a process before has left, which becomes the
	// caller's; nil when there is none.
	HeldState() *os.File
	// DropHeld closes those that nobody has asked for, and gives ports back.
	DropHeld() error
	// Keep has stay what is closed from now on, for the process to come: devices stay open,
	// and ports taken.
	Keep()

	Namespaces
	Cables
	Devices
	Uplinks
	Claims
	Reservations
	Neighbors
	Reader

	// Steer relays the host's own connections to published ports to the containers that
	// Lead names, until the result is closed, and after Keep goes on with what it was told.
	// reached is told of a user of the host who has all that one may have; it must not block.
	Steer(reached func(relay.Reached)) (Relay, error)

	// AnswerNames answers what containers ask for at port 53 of the gateways that AnswerAt names, until the
	// result is closed, and after Keep goes on with what it was told. changed is told of a name server of the host
	// that fails, or answers again; it must not block. It comes after Steer. The resolver of a
	// process before has ended by then: its sockets would be in the way of published ports.
	AnswerNames(changed func(resolver.Server)) (Resolver, error)
	// Listeners are the sockets of the host that are bound to a port.
	Listeners(port uint16) ([]host.Socket, error)

	// Lead says where published ports lead, from now on and until the next Lead: connections of the
	// host itself to loopback and its own addresses are made to a container where that can be, and
	// relayed otherwise, see ConnectHooks. own may lack loopback. It keeps ways.
	Lead(own map[netip.Addr]bool, ways []relay.Way)
	// ConnectHooks is nil when connections are made to containers; otherwise it says why each is
	// relayed. Before Steer it is an error.
	ConnectHooks() error

	// Close gives back what ends with the process. Cables stay, with the flows that the
	// kernel carries, the shields of uplinks, and after Keep all else that can. All ports are
	// closed by then.
	Close() error
}

// Relay serves the host's own connections to published ports until Close.
type Relay interface {
	Stats() relay.Stats
	// Recheck ends what leads where the last Lead does not, relayed or not.
	Recheck()
	Close() error
}

// Resolver answers names by what it is told (control/names).
type Resolver interface {
	PutNetwork(names.Network)
	DropNetwork(id string)
	PutContainer(names.Container)
	DropContainer(id string)
	// Begin says that all has been told that there is. Nobody is answered before.
	Begin()
	// AnswerAt says by which protocols names are answered at a gateway; what is asked by others is the
	// host's. NoGateway undoes it.
	AnswerAt(gateway netip.Addr, tcp, udp bool) error
	NoGateway(gateway netip.Addr) error
	// Stats is how it did a second ago.
	Stats() resolver.Stats
	Close() error
}

// Owner is for whom an edge works: a state directory.
type Owner struct {
	Identity  string // of letters, digits and hyphens
	Directory string // its path
	// Reserved are ranges that a process before has entered in
	// net.ipv4.ip_local_reserved_ports, and PutReserved stores them (reserve.Config).
	Reserved    []reserve.Range
	PutReserved func([]reserve.Range) error
	Kept        []uint32 // inodes of listeners whose ports nobody may publish
}

// Netns is an open network namespace of a container. It lives on until Close.
type Netns interface {
	// ID names the namespace for as long as it exists: device and inode.
	ID() (dev, inode uint64)
	Close() error
}

// Namespaces opens them.
type Namespaces interface {
	// OpenNetns opens a namespace by path or, if that is empty, by a process in it. The
	// error wraps host.ErrNoNetns when it names none.
	OpenNetns(path string, pid int) (Netns, error)
	// IsHost reports whether a namespace is the host's own.
	IsHost(Netns) bool
}

// Cable describes a veth pair of a container. Every field is needed except where it
// says otherwise.
type Cable struct {
	Name     string           // of the host end, 1 to 15 bytes
	Alias    string           // of the host end, says whose it is: up to 255 bytes
	Ifname   string           // of the container end
	MAC      net.HardwareAddr // of the container end
	MTU      int              // of both ends
	Addrs    []netip.Prefix   // of the container end; may be empty
	Gateways []netip.Addr     // next hops of the default routes, at most one a family; may be empty
	// GatewayMAC is that of all Gateways; nil: the container asks.
	GatewayMAC net.HardwareAddr
	Routes     []host.StaticRoute // beside the default routes; may be empty
	NoUSO      bool               // the devices have no words for UDP segmentation
	// SharesIngress leaves the ingress of the host end to others too, where the kernel
	// can: plugins that come after us put qdiscs there.
	SharesIngress bool
}

// Port says which interface OpenCable or OpenUplink opens.
type Port struct {
	Index  int
	Name   string // for messages
	Number int    // of the port in the switch, whose tally the programs keep
	Slots  int    // of its ring; 0 is the default
	// Packets: it speaks IP without a header of the link, as tunnels do. Of uplinks alone.
	Packets bool
}

// Socket is an interface that is open for the data path, which makes a port of the
// Descriptor. It is closed once the port has been removed.
type Socket interface {
	Descriptor() port.Descriptor
	Close() error
}

// Cables are the containers' interfaces. A cable is sealed, so that no frame of a
// container reaches the host's stack; it outlives the process.
type Cables interface {
	// AddCable makes a pair with one end in ns and returns the index of the host end.
	// Both are up. The error wraps host.ErrExists when there is an interface of one of
	// the names, and host.ErrHasDefault when ns has a default route.
	AddCable(ns Netns, c Cable) (index int, err error)
	// AddWaitingCable is AddCable for a runtime that moves the container end by itself:
	// it waits in the host's namespace under the name Ifname, down and without addresses
	// and routes.
	AddWaitingCable(c Cable) (index int, err error)
	// AdoptCable puts the seal of this process on the host end of a cable of a process
	// before. Nothing passes unsealed meanwhile.
	AdoptCable(index int, c Cable) error
	// CheckCable compares a cable with what AddCable made of c; the error is the first
	// difference. Without a namespace the container end is left out.
	CheckCable(ns Netns, index int, c Cable) error
	// OpenCable opens the host end. Closing the socket leaves the cable.
	OpenCable(Port) (Socket, error)
	// DelLink removes an interface; index, unless 0, must be its index. That there is
	// none is no error.
	DelLink(name string, index int) error

	// Peer returns the container end of a cable from wherever it is, and whether that
	// is the host's namespace.
	Peer(name string, index int) (peer host.Link, here bool, err error)
	// SetDefaultRoute makes gw the default gateway of its family in ns.
	SetDefaultRoute(ns Netns, ifname string, gw netip.Addr) error
	// Shapings returns what others have set up on our cables that have anything, by
	// index.
	Shapings(ours func(index int) bool) (map[int]host.Shaping, error)
	// Programs names, by index, what others have hung up on our cables that frames on
	// their way into the container must pass, too. It asks for each cable by itself.
	Programs(ours func(index int) bool) (map[int]host.Program, error)
	// SetLimit limits what a container sends; the zero Limit ends it.
	SetLimit(ns Netns, ifname string, l host.Limit) error
}

// DeviceSpec describes the device of a network towards the host.
type DeviceSpec struct {
	Name  string
	Alias string // says whose it is
	MAC   net.HardwareAddr
	MTU   int
	Addrs []netip.Prefix // of the host in the network; others are removed
}

// Device is the device of a network, open at its far end. Closing it, when the data path
// has its port no more, removes it, except after Keep.
type Device interface {
	Socket
	Index() int
	// USO reports whether it takes UDP segments.
	USO() bool
	// Readdress gives the device back which of its addresses somebody has taken, and returns them.
	Readdress() (lost []netip.Prefix, err error)
	// Describe gives the device another alias.
	Describe(alias string) error
	// Carry has the kernel tell what the host forwards into the network, and with a flow
	// table carry what the host itself sends, on the tally of a port's number, for as long as
	// there is the device. No worker has it yet.
	Carry(number int) error
}

// Devices are the networks' interfaces.
type Devices interface {
	// OpenDevice makes a device or adopts the one of that name which a process before has left,
	// with its routes, and sets it up.
	OpenDevice(DeviceSpec) (Device, error)
}

// Uplinks are interfaces of the host that the switch shares with it.
type Uplinks interface {
	// Uplinks resolves names to links, see host.Host.Uplinks.
	Uplinks(names []string) ([]host.Link, error)
	// OpenUplink opens a port that sees what is claimed, once a shield keeps that from
	// the host's stack, in place of that of a process before. Closing the socket leaves the
	// shield, and so does the end of the process.
	OpenUplink(Port) (Socket, error)
	// KeepUplinks removes the owner's shields from all interfaces but these, and returns
	// the names of those that had one. No port of theirs is open.
	KeepUplinks(indexes ...int) (others []string, err error)
	// OthersPorts are ports of TCP and UDP that masquerade leaves to the switches of other owners at
	// our uplinks, where the kernel tells of them: what they have flows from, or publish, and, unless
	// our ranges are somebody's choice, their part of all ports.
	OthersPorts() ([]OthersPorts, error)
	// LocalPorts is net.ipv4.ip_local_port_range, from which the host takes the ports of
	// its own connections.
	LocalPorts() (low, high uint16)
}

// OthersPorts has a bit for each port of a protocol.
type OthersPorts struct {
	Proto uint8
	Ports [1024]uint64
}

// Claims say which packets of an uplink are ours. An address of the host has a slot of
// both planes.
type Claims interface {
	// ClaimSlot gives an address a slot, 1 to flowmap.WildcardSlot6-1. The same again is
	// no error; another address for the slot, or another slot, is one.
	ClaimSlot(addr netip.Addr, slot int) error
	// DropSlot takes it back and clears what is claimed there. An address without a
	// slot is no error.
	DropSlot(addr netip.Addr) error
	// ClaimSubnet says that p is a network's; if it is routed, every packet to it is ours.
	ClaimSubnet(p netip.Prefix, routed bool) error
	// DropSubnet undoes it. A subnet without a claim is no error.
	DropSubnet(p netip.Prefix) error
	// Settle drops the slots and subnets that a process before has claimed and nobody has
	// claimed again.
	Settle() error
	// Published and Opened are the planes, borrowed until Close: of published ports, and
	// of mappings that are open to strangers. The bits of a process before are set.
	Published() flowmap.ClaimPlane
	Opened() flowmap.ClaimPlane
	// Peers are the maps of the flows that leave with an address of the host, and Flows is the
	// flow table, zero when there is none. Both are borrowed until Close, and have what a
	// process before has left.
	Peers() bpfmap.PeerDescriptor
	Flows() bpfmap.FlowDescriptor
	// Consumers asks what of the host takes packets of SCTP and of protocols without ports
	// now: no container may have such a peer.
	Consumers() []host.Consumer
	// WatchConsumers calls changed, which returns at once, when there may be others than
	// Consumers said, until ctx ends.
	WatchConsumers(ctx context.Context, changed func())
}

// Hold is a range of ports that nobody else on the host gets.
type Hold interface {
	// Release gives the ports back. It may be called more than once.
	Release() error
	// Kept are the cookies of the sockets by which programs keep ports of it.
	Kept() []uint64
}

// Reservations keep published ports from the host's programs, see control/reserve.
type Reservations interface {
	// TakePorts takes a range for one address of the host, or for all when addr is
	// invalid. The error wraps reserve.ErrTaken and names who has a port, unless it
	// is the keeper.
	TakePorts(proto uint8, addr netip.Addr, first, last uint16, keeper reserve.Keeper) (Hold, error)
	// FreePort returns the first of n ports in a row that nobody holds.
	FreePort(proto uint8, addr netip.Addr, n int) (uint16, error)
	// BusyPorts are the sockets whose ports masquerade must not use.
	BusyPorts() ([]host.Socket, error)
	// WatchPorts calls changed, which returns at once, when the kernel may have bound a UDP
	// port for itself, which no hook of bind tells of, until ctx ends.
	WatchPorts(ctx context.Context, changed func())
	// Intruders are sockets that programs have bound inside ranges that were taken.
	Intruders() ([]host.Socket, error)
	// BindHooks is nil when the programs hear of UDP ports as soon as programs of the host
	// bind them; otherwise it says why they do not, and the switch learns of them by
	// BusyPorts.
	BindHooks() error
	// SocketOwner names the program that has a socket, "" when none is found.
	SocketOwner(inode uint32) string
}

// Neighbors are the host's ARP and ND entries.
type Neighbors interface {
	// Resolve asks for a neighbour's MAC and returns at once; the answer is an event of
	// Watch.
	Resolve(ifindex int, next netip.Addr) error
	// SetNeighbor tells the host a neighbour's MAC before it asks.
	SetNeighbor(host.Neighbor) error
	// DelNeighbor forgets one. That there is none is no error.
	DelNeighbor(ifindex int, addr netip.Addr) error
}

// Reader asks what the host's network is.
type Reader interface {
	Links() ([]host.Link, error)
	// Link returns one link by name; the error wraps host.ErrNotFound.
	Link(name string) (host.Link, error)
	Addrs() ([]host.Addr, error)
	// Routes returns the best route for each prefix.
	Routes() ([]host.Route, error)
	Neighbors() ([]host.Neighbor, error)
	// WayOut and Ruled ask the kernel by its rules of policy routing, see host.Host.
	WayOut(host.WayQuery) (host.Route, error)
	Ruled() ([2]bool, error)
	// Overlaps names a route that p overlaps, see host.Host.Overlaps.
	Overlaps(p netip.Prefix) (route string, yes bool)
	// Watch calls fn for every change until ctx ends, first with host.Resync.
	Watch(ctx context.Context, fn func(host.Event)) error
}
