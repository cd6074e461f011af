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
	Network   string   `json:"network,omitempty"`
	Interface string   `json:"interface,omitempty"` // in the host's namespace
	Addresses []string `json:"addresses,omitempty"`
	Ports     []string `json:"ports,omitempty"` // published, as after -p
	MAC       string   `json:"mac,omitempty"`
	VLAN      int      `json:"vlan,omitempty"`
	Owner     string   `json:"owner,omitempty"` // container or interface the MAC belongs to, or was at before
	Count     uint64   `json:"count,omitempty"` // of what was refused
	Lost      uint64   `json:"lost,omitempty"`  // events that a slow reader of this stream did not get
}

// Types of events.
const (
	EventAttach        = "attach"
	EventDetach        = "detach"
	EventConnect       = "connect"
	EventDisconnect    = "disconnect"
	EventPublish       = "publish"
	EventUnpublish     = "unpublish"
	EventNetworkCreate = "network-create"
	EventNetworkRemove = "network-remove"
	EventNetworkUpdate = "network-update"
	EventUplinkChanged = "uplink-changed" // an uplink was opened or closed
	EventMACSpoof      = "mac-spoof"      // a port used another station's MAC address
	EventLoop          = "loop"           // what was flooded came back
	EventMACFlap       = "mac-flap"       // a station moved too often and was frozen
	EventPortMoved     = "port-moved"     // a station moved to another port
	EventStorm         = "storm"          // a port floods more than it may
	EventTableFull     = "table-full"     // conntrack or the MAC table had no room
	EventLimitHit      = "limit-hit"      // a quota, or the masquerade ports, are used up
	EventPortTaken     = "port-taken"     // a program of the host bound a published port
	EventLost          = "lost"           // the reader was too slow: Lost events are missing here
)

// EventQuery says which events to send.
type EventQuery struct {
	// Since is the last one that the reader knows; those behind it that the
	// daemon still holds (1024) come first. Missing: only what happens from now on.
	Since *uint64
	// SinceTime is the same by time.
	SinceTime time.Time
	// Once: what there is, and no waiting for more.
	Once bool
}
