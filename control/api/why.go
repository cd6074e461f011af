package api

import "time"

// WhyQuery asks what would become of a packet: GET /v1/why.
type WhyQuery struct {
	From string // container, outside:ADDRESS, or host
	To   string // ADDRESS or container, [:PORT], [/tcp|udp|icmp]
}

// Why is the way that a packet would take. No packet was sent.
type Why struct {
	From   string    `json:"from"`   // as it was understood
	To     string    `json:"to"`     // as it was understood
	Packet string    `json:"packet"` // that was made up
	Steps  []WhyStep `json:"steps"`
	// Verdict is one of the Verdict constants.
	Verdict string `json:"verdict"`
	// Output is where it leaves: a container, an interface, the host; Sent is what
	// it then looks like.
	Output string `json:"output,omitempty"`
	Sent   string `json:"sent,omitempty"`
	// Reason is the drop reason as in stats, Explanation what that means here, Fix
	// what changes it, with the command where there is one.
	Reason      string `json:"reason,omitempty"`
	Rule        string `json:"rule,omitempty"` // that lets it pass or not, in words
	Explanation string `json:"explanation,omitempty"`
	Fix         string `json:"fix,omitempty"`
}

// WhyStep is what one stage of the switch decided, and by which entry of which
// table.
type WhyStep struct {
	Stage string `json:"stage"` // as in docs/frame-walk.md
	Table string `json:"table"` // guard, FDB, conntrack, published ports, routes, neighbours, NAT, ...
	Text  string `json:"text"`
}

// Verdicts of Why.
const (
	VerdictSent     = "sent"     // it leaves by Output
	VerdictHost     = "host"     // the host's own stack gets it
	VerdictFlooded  = "flooded"  // to every port: nobody knows the destination
	VerdictWaits    = "waits"    // for the address of the next hop
	VerdictDropped  = "dropped"  // by the switch, for Reason
	VerdictNotSent  = "not-sent" // the sender has no way there, and does not even send it
	VerdictAnswered = "answered" // the switch answers itself
)

// Drop is a frame that was dropped, or several in a row that look alike: a row of
// GET /v1/drops, the latest first.
type Drop struct {
	Time        time.Time `json:"time"`  // of the last of them
	Count       uint64    `json:"count"` // at least: a flood is not noted frame by frame
	Reason      string    `json:"reason"`
	Explanation string    `json:"explanation"`
	Fix         string    `json:"fix,omitempty"`
	Interface   string    `json:"interface"` // where it came in; for the egress reasons where it should have left
	Container   string    `json:"container,omitempty"`
	Network     string    `json:"network,omitempty"`
	VLAN        int       `json:"vlan,omitempty"`
	SourceMAC   string    `json:"source_mac"`
	DestMAC     string    `json:"destination_mac"`
	Proto       string    `json:"proto,omitempty"` // tcp, udp, icmp, arp, ...
	Source      string    `json:"source,omitempty"`
	Dest        string    `json:"destination,omitempty"`
	Peer        string    `json:"peer,omitempty"` // container of the destination, or host
}
