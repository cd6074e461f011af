package flowmap

import (
	"sync/atomic"

	"github.com/vswitch/vswitch/dataplane/header"
)

// MaxStationFlows is the number of flows between stations that the programs tell apart.
const MaxStationFlows = 65536

// Flags of a StationDecision.
const (
	StationSends    = 1 << iota // its frames go on by the row of who receives them
	StationReceives             // frames go to it
	StationPeer                 // into the namespace of its interface's other end
	StationHost                 // it is the host, by a network's TAP
)

// StationDecision is what the programs need to carry frames between a station and others of its
// network from the first one on: who it is, and of whom policy lets it speak to whom.
type StationDecision struct {
	Ifindex uint32
	Network uint32
	Flags   uint32
	MTU     uint32 // of IP packets; larger ones are left to the switch
	Addr4   [4]byte
	MAC     header.MAC
	Class   uint8
	_       byte
	Addr6   header.Addr // zero where there is none, as Addr4
	Reach   uint64      // a bit for each class of stations that it may speak to
}

// StationRow is the row of a station, at the number of its port, in memory that BPF programs read
// and write. While its state is Off nobody but the switch does.
type StationRow struct {
	State      State // Off, Pending or Active, written by the switch
	Generation uint32
	StationDecision

	// Of the programs. LastIn is Tally.In after the last frame that was let through to the switch
	// although its receiver is known: what comes after it waits until it is done with. LastUp is
	// the same of frames for the host.
	LastIn uint64
	Begun  uint64 // flows that the station has begun
	// Of flows for which there was no room: frames and bytes sent by the station, and sent to it.
	Sent, SentBytes, Got, GotBytes uint64
	Lease                          uint64 // how far Begun may grow, written by the switch
	LastUp                         uint64
}

// Off makes a row none.
func (r *StationRow) Off() { atomic.StoreUint32(&r.State, Off) }

// Decide gives a row that is off, and that no program holds, another content.
func (r *StationRow) Decide(d *StationDecision) {
	r.StationDecision = *d
	r.Generation++
	atomic.StoreUint64(&r.LastIn, 0)
	atomic.StoreUint64(&r.LastUp, 0)
	atomic.StoreUint32(&r.State, Pending)
}

// Resume goes on with a row of a process before: what was under way went with its sockets.
func (r *StationRow) Resume() {
	atomic.StoreUint64(&r.LastIn, 0)
	atomic.StoreUint64(&r.LastUp, 0)
	atomic.StoreUint32(&r.State, Active)
}

// Await lets nothing of the station overtake what its port has let through so far.
func (r *StationRow) Await(in uint64) {
	for {
		last := atomic.LoadUint64(&r.LastIn)
		if last >= in || atomic.CompareAndSwapUint64(&r.LastIn, last, in) {
			return
		}
	}
}

// StationFlow is what the programs know of a flow between stations. Its Key has the network as
// Side, and the lesser address, as a machine's words, as Src.
type StationFlow struct {
	Packets, Bytes [2]uint64 // from Src, from Dst of the key
	Created, Seen  uint64    // jiffies
	Ports          [2]uint16 // numbers of the rows: of Src, of Dst
	Flags          [2]uint8  // of TCP, all that were seen from each
	Began          uint8     // 0: Src sent the first frame, 1: Dst
	_              uint8
}
