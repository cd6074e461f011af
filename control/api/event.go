package api

import "time"

// Event is something that happened: a line of GET /v1/events.
type Event struct {
	// Seq grows with every event, over restarts of the daemon too.
	Seq  uint64    `json:"seq"`
	Time time.Time `json:"time"`
	Type string    `json:"type"` // one of the Event constants
	// Message is one line for people.
	Message   string   `json:"message"`
	Container string   `json:"container,omitempty"`
	Was       string   `json:"was,omitempty"` // what it was called before
	Network   string   `json:"network,omitempty"`
	Interface string   `json:"interface,omitempty"` // in the host's namespace
	Addresses []string `json:"addresses,omitempty"`
	Ports     []string `json:"ports,omitempty"` // published, as after -p
	MAC       string   `json:"mac,omitempty"`
	VLAN      int      `json:"vlan,omitempty"`
	Owner     string   `json:"owner,omitempty"`  // container or interface the MAC belongs to, or was at before
	Shared    string   `json:"shared,omitempty"` // of what table, see Share
	Count     uint64   `json:"count,omitempty"`  // of what was refused, or has ended
	Lost      uint64   `json:"lost,omitempty"`   // events that a slow reader of this stream did not get
}

// Types of events.
const (
	EventAttach        = "attach"
	EventDetach        = "detach"
	EventRename        = "rename" // of a container: Was has the name before
	EventConnect       = "connect"
	EventDisconnect    = "disconnect"
	EventPublish       = "publish"
	EventUnpublish     = "unpublish"
	EventNetworkCreate = "network-create"
	EventNetworkRemove = "network-remove"
	EventNetworkUpdate = "network-update"
	EventUplinkChanged = "uplink-changed" // an uplink was opened or closed
	EventAddressGone   = "address-gone"   // an address of the host is gone for good, and flows with it
	EventGatewayBack   = "gateway-back"   // somebody took the gateway's address from a network's device, which has it again
	EventMACSpoof      = "mac-spoof"      // a port used another station's MAC address
	EventMACFlood      = "mac-flood"      // a port used more source addresses than it may
	EventLoop          = "loop"           // what was flooded came back
	EventBadSource     = "bad-source"     // a multicast or zero source MAC address
	EventReservedGroup = "reserved-group" // STP, LLDP or 802.1X, which is not forwarded
	EventNoIPv6        = "no-ipv6"        // IPv6 in a network without
	EventNotFromHost   = "not-from-host"  // the host forwarded a packet of others into a network
	EventIPSpoof       = "ip-spoof"       // a packet from an address that its container was not given
	EventForgedSource  = "forged-source"  // a packet by an uplink from an address of a container or of the host
	EventARPSpoof      = "arp-spoof"      // ARP that speaks for such an address
	EventNDSpoof       = "nd-spoof"       // neighbour discovery that speaks for such an address
	EventRogueRouter   = "rogue-router"   // a router advertisement or redirect of a container
	EventRogueDHCP     = "rogue-dhcp"     // a DHCP server's message of a container
	EventUnreadable    = "unreadable"     // headers that hide what a packet is
	EventMACFlap       = "mac-flap"       // a station moved too often and was frozen
	EventPortMoved     = "port-moved"     // a station moved to another port
	EventStorm         = "storm"          // a port floods more than it may
	EventTableFull     = "table-full"     // conntrack or the MAC table had no room
	EventShare         = "share-reached"  // a container holds its share of a table: what it holds gives way, or more is refused
	EventLimitHit      = "limit-hit"      // a quota, or the masquerade ports, are used up
	EventCableProgram  = "cable-program"  // a program of others sees what goes into a container
	EventUplinkProgram = "uplink-program" // a program of others sees what leaves by an uplink
	EventPortTaken     = "port-taken"     // a program of the host bound a published port
	EventResolverTaken = "resolver-taken" // a program of the host bound port 53 of a gateway
	EventNameServer    = "name-server"    // a name server of the host fails, or answers again
	EventStateDamaged  = "state-damaged"  // what is stored was damaged: the message says what became of it
	EventLost          = "lost"           // the reader was too slow: Lost events are missing here
)

// EventQuery says which events to send.
type EventQuery struct {
	// Container is a word as in ContainerFilter.Select: only events of what it means. "": all.
	Container string
	// Since is the last one that the reader knows: later ones come first, as far as the
	// daemon still has them (the last 1024). Missing: only what happens from now on.
	Since *uint64
	// SinceTime is the same by time.
	SinceTime time.Time
	// Once: what there is, and no waiting for more.
	Once bool
}

// EventTypes are all types of events.
var EventTypes = []string{
	EventAttach,
	EventDetach,
	EventRename,
	EventConnect,
	EventDisconnect,
	EventPublish,
	EventUnpublish,
	EventNetworkCreate,
	EventNetworkRemove,
	EventNetworkUpdate,
	EventUplinkChanged,
	EventAddressGone,
	EventGatewayBack,
	EventMACSpoof,
	EventMACFlood,
	EventLoop,
	EventBadSource,
	EventReservedGroup,
	EventNoIPv6,
	EventNotFromHost,
	EventIPSpoof,
	EventForgedSource,
	EventARPSpoof,
	EventNDSpoof,
	EventRogueRouter,
	EventRogueDHCP,
	EventUnreadable,
	EventMACFlap,
	EventPortMoved,
	EventStorm,
	EventTableFull,
	EventShare,
	EventLimitHit,
	EventCableProgram,
	EventUplinkProgram,
	EventPortTaken,
	EventResolverTaken,
	EventNameServer,
	EventStateDamaged,
	EventLost,
}
