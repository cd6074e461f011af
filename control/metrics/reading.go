package metrics

import (
	"time"

	"github.com/vswitch/vswitch/control/api"
)

// Reading is what one scrape tells. Counters are those since the daemon began,
// unless something else is said.
type Reading struct {
	Networks, Containers int

	Ports []api.PortStats
	// Drops are the dropped frames of the whole switch by reason, removed ports
	// included. Every reason is in it.
	Drops map[string]uint64

	FDBLearned, FDBStatic, FDBMax int
	FDBMoves                      uint64

	Flows    map[string]int // tracked now, by protocol: tcp, udp, icmp, other
	MaxFlows int
	HalfOpen int
	// What limits cost: flows refused for a full table or for want of a port, and
	// ones that made room.
	TableFull, PortsExhausted, Evicted uint64

	// The kernel's flow table: flows in it, those whose frames the kernel carries
	// now, and the frames that it has carried. FlowBetween are flows between stations, FlowUntold
	// the frames of those for which there was no room.
	FlowRows, FlowActive, FlowBetween int
	FlowFrames, FlowUntold            uint64

	NAT       []NATPorts
	Published []Published
	Shares    []api.Share

	Captures    int    // running
	CaptureLost uint64 // frames that a capture wanted and had no room for

	Workers    []Worker
	BatchSizes []int // upper bounds of Worker.Batches

	Relay Relay
	Names Names

	Readers []ReaderUse
}

// ReaderUse is what the readers of the daemon hold of a kind, what they may, and how often
// one was refused.
type ReaderUse struct {
	Kind        string
	Held, Bound int
	Refused     uint64
}

// Relay counts the host's own connections to published ports: now, at most, and those that
// ended because another took their place.
type Relay struct {
	TCP, UDP, MaxTCP, MaxUDP int
	GaveTCP, GaveUDP         uint64
	Dropped                  uint64 // datagrams
}

// Names counts what containers have asked the resolver, and what became of it.
type Names struct {
	Asked, Local, Cached, Refused, Malformed, Failed, Looped, Lost uint64
	Servers                                                        []NameServer
}

// NameServer is one of the host's.
type NameServer struct {
	Addr          string
	Failing       bool
	Asked, Failed uint64
}

// NATPorts are the ports of one address of the host that masquerade may use, for
// ICMP its identifiers of queries.
type NATPorts struct {
	Address, Proto string
	Used, Free     int
}

// Published counts the ports that a container has published.
type Published struct {
	Container, Proto string
	Ports            int
}

// Worker is what one forwarding thread did.
type Worker struct {
	Turns, Frames, Spins, Sleeps uint64
	Batches                      []uint64 // turns by their number of frames, not cumulative
	Busy, Polling, Asleep        time.Duration
}
