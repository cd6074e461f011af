// Package bpfmap is the maps that control hands to the data path: what the stages write into
// and the BPF programs read. They cross as descriptors, from which the data path opens maps
// of its own. control/kernel makes the maps and loads the programs.
package bpfmap

import (
	"fmt"
	"time"

	"github.com/vswitch/vswitch/dataplane/flowmap"
)

// Kind says what a descriptor describes. The zero Kind is nothing at all: the switch works
// without.
type Kind uint8

const (
	KindKernel Kind = iota + 1 // maps of the kernel
	kinds
)

// FlowDescriptor is the kernel's side of the flow table as it crosses the door of the data
// path. The descriptors are borrowed for the call that has them, the memory until the switch is
// closed. The tally of a port crosses with the port.
type FlowDescriptor struct {
	Kind Kind
	// Entries is where the memory of all entries lies. The first Made are there; 0: all. Chunks is the
	// descriptor of the array of maps that holds them.
	Entries      []flowmap.Entry
	Made, Chunks int
	Ends         *flowmap.Ends // memory in which the programs note what has ended
	// Identifiers is memory in which the programs count identifications; nil: they cannot.
	Identifiers *flowmap.Identifiers
	Keys        int // of a hash: flowmap.Key -> number of an entry
	// Outer is the descriptor of an array of one map, Inner that map's: the kernel waits for
	// its programs when the element is exchanged.
	Outer, Inner int
	Clock        int // of a program that returns the lower half of the jiffies
	// Of hashes: ifindex -> flowmap.Asker, flowmap.StationKey -> flowmap.Station.
	Askers, Stations int
	Rows             []flowmap.StationRow // memory of all of them, by number of a port
	// Of hashes: flowmap.StationKey -> number of a row, flowmap.Key -> flowmap.StationFlow.
	StationKeys, StationFlows int
}

// There are the entries that are made.
func (d *FlowDescriptor) There() []flowmap.Entry {
	if d.Made == 0 {
		return d.Entries
	}
	return d.Entries[:d.Made]
}

// Flows is the flow table of a FlowDescriptor. It is safe for concurrent use.
type Flows interface {
	// InJiffies is a time in the unit of flowmap.Entry.LastUse, half of what 32 bits count at most.
	InJiffies(d time.Duration) uint32
	// Insert enters a key, which must not be there yet.
	Insert(k flowmap.Key, number uint32) error
	// Grow makes more entries and returns how many there are then. One may call it at a time.
	Grow() (made int, err error)
	// Delete takes keys out; their entries stay as they are. It goes on at keys that are
	// not there.
	Delete(keys []flowmap.Key) error
	// Entered returns the keys that are there, with their numbers: a process before may have
	// left some.
	Entered() (map[flowmap.Key]uint32, error)
	// Ticks is the lower half of the jiffies now; ok is false when that cannot be told.
	Ticks() (now uint32, ok bool)
	// Stations returns whom the programs tell of whom while nobody is there: a process before
	// may have said so.
	Stations() (flowmap.Stations, error)
	// Tell adds to these or changes them, Forget takes out. Where there is no room for all,
	// some are left out.
	Tell(flowmap.Stations) error
	Forget(flowmap.Stations) error
	// Placed returns the addresses by which the programs find the rows of stations. Place adds to
	// these, and Displace takes out.
	Placed() (map[flowmap.StationKey]uint32, error)
	Place(map[flowmap.StationKey]uint32) error
	Displace([]flowmap.StationKey) error
	// StationFlows calls fn for the flows between stations, EndStationFlows forgets some.
	StationFlows(fn func(flowmap.Key, flowmap.StationFlow)) error
	EndStationFlows([]flowmap.Key) error
	// Wait returns when no program runs that began before the call.
	Wait()
	Close() error
}

// PeerDescriptor is the maps of peers as they cross the door, borrowed for the call.
type PeerDescriptor struct {
	Kind      Kind
	Claimed   int // of a hash: flowmap.PeerKey -> flowmap.PeerClaimed or PeerAsked
	Strangers int // of a hash: flowmap.PeerKey -> ns, monotonic
}

// Peers is the maps of a PeerDescriptor. They say whose packets to the host's addresses are
// the switch's. It is safe for concurrent use.
type Peers interface {
	// Claim makes the packets of a peer the switch's. It is an error when there is no room.
	Claim(flowmap.Peer) error
	// Drop gives the packets of a peer back to the host, at the next Settle at the latest. It
	// may fail unheard.
	Drop(flowmap.Peer)
	Settle()
	// Claimed returns the peers that are claimed: a process before may have left some.
	Claimed() ([]flowmap.Peer, error)
	// Strange is how long ago a packet of a peer came that nobody had claimed; ok is false
	// when none did. It is known of SCTP and of protocols without ports.
	Strange(flowmap.Peer) (ago time.Duration, ok bool)
	Close() error
}

// flows and peers are the kinds that this program can open. A kind is added by Register.
var (
	flows = map[Kind]func(FlowDescriptor) (Flows, error){KindKernel: openFlows}
	peers = map[Kind]func(PeerDescriptor) (Peers, error){KindKernel: openPeers}
)

// Register adds a kind of maps, in an init function, and returns its number.
func Register(openFlows func(FlowDescriptor) (Flows, error), openPeers func(PeerDescriptor) (Peers, error)) Kind {
	k := kinds + Kind(len(flows))
	flows[k], peers[k] = openFlows, openPeers
	return k
}

// OpenFlows opens the flow table that d describes, nil for nothing.
func OpenFlows(d FlowDescriptor) (Flows, error) { return open("flow table", flows, d.Kind, d) }

// OpenPeers opens the maps of peers that d describes, nil for nothing.
func OpenPeers(d PeerDescriptor) (Peers, error) { return open("peers", peers, d.Kind, d) }

func open[D, M any](name string, kinds map[Kind]func(D) (M, error), k Kind, d D) (m M, err error) {
	if k == 0 {
		return m, nil
	}
	o := kinds[k]
	if o == nil {
		return m, fmt.Errorf("%s: kind %d: this program has no such maps", name, k)
	}
	if m, err = o(d); err != nil {
		return m, fmt.Errorf("%s: %w", name, err)
	}
	return m, nil
}
