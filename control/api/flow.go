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
	// Carrier is who moves its packets now, in a list: one of the Carrier constants;
	// CarriedSince is since when, if that is the kernel.
	Carrier      string     `json:"carrier,omitempty"`
	CarriedSince *time.Time `json:"carried_since,omitempty"`
	// Event is set in the flow log, one of the FlowEvent constants, and Verdict with it: passed, or
	// the reason for which a frame was dropped.
	Event   string `json:"event,omitempty"`
	Verdict string `json:"verdict,omitempty"`
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

// Carriers of a Flow.
const (
	CarrierSwitch = "switch" // the daemon
	CarrierKernel = "kernel" // its flow table, in one direction at least
)

// Events of a Flow in the flow log.
const (
	FlowBegins  = "begin"
	FlowEnds    = "end"
	FlowRefused = "refused" // its packet was dropped
)

// FlowPasses is the Verdict of a flow whose packets pass.
const FlowPasses = "passed"

// NATQuery selects translated connections.
type NATQuery struct {
	Container string // only its
	Limit     int    // how many at most, the oldest if up to 16,384; 0: all
}

// FlowQuery selects flows. Empty fields select all.
type FlowQuery struct {
	Container string // only those that it has a part in, seen from it
	State     string // as in Flow
	Proto     string // as in Flow, or a number
	Peer      string // of the other side: a container, "host", an address or a prefix
	Port      int    // of either end, or of the host's address between them
	Direction string // FlowOut or FlowIn
	// Limit is how many at most, those with the highest rate if up to 16,384; 0: all. It is
	// for a list only.
	Limit int
	// Begins is for the flow log only: also flows that begin, and packets that are refused.
	Begins bool
	// Closed is for readers inside of the daemon that add up what passed: also flows that both ends
	// have closed, which are remembered for late packets only.
	Closed bool
}
