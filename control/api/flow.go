package api

import "time"

// Flow is a connection, or the like of it in a protocol without any, that a
// container has: a row of GET /v1/flows and a line of GET /v1/flows/log. Sent and
// received are seen from the container.
type Flow struct {
	Proto   string `json:"proto"`
	Kind    string `json:"kind"` // masquerade, publish, hairpin, routed, inbound, bridged
	State   string `json:"state"`
	Network string `json:"network,omitempty"`
	// Container is the side the row is about, Address its end. It is empty for a
	// flow whose container has gone.
	Container string `json:"container,omitempty"`
	Address   string `json:"address"`
	// Peer is the other side's name: a container, "host", or empty for an address
	// of the world.
	Peer        string `json:"peer,omitempty"`
	PeerAddress string `json:"peer_address"`
	Direction   string `json:"direction"` // out: the container began it; in: its peer
	// Outside is the address of the host that the other side sees or wrote to,
	// where there is one.
	Outside         string    `json:"outside,omitempty"`
	SentPackets     uint64    `json:"sent_packets"`
	SentBytes       uint64    `json:"sent_bytes"`
	ReceivedPackets uint64    `json:"received_packets"`
	ReceivedBytes   uint64    `json:"received_bytes"`
	Rate            float64   `json:"rate"` // bytes a second of both directions, over the last seconds
	Age             float64   `json:"age"`  // seconds since the first packet
	Idle            float64   `json:"idle"` // seconds since the last one
	Start           time.Time `json:"start"`
	// End is set in the flow log: when the last packet came.
	End *time.Time `json:"end,omitempty"`
	// Lost is set in the flow log alone, in a line without a flow: so many are
	// missing here because the reader was too slow.
	Lost uint64 `json:"lost,omitempty"`
}

// Directions of a Flow.
const (
	FlowOut = "out"
	FlowIn  = "in"
)

// NATQuery selects translated connections.
type NATQuery struct {
	Container string // only its
	Limit     int    // how many at most, the oldest if up to 16,384; 0: all
}

// FlowQuery selects flows.
type FlowQuery struct {
	Container string // only those that it has a part in, seen from it
	// Limit is how many at most, those with the highest rate if up to 16,384; 0: all.
	Limit int
}
