// Package flowmap is what the switch and its BPF programs share: the rows of the
// flow table with their keys and tallies, the planes of claimed ports, and the key
// of a claimed peer. It holds types and layout and opens no map: control/kernel makes them,
// bpfmap opens them for the stages of dataplane, which read and write the memory.
//
// The programs are written against the same layout (control/kernel/bpf/flowmap.h), and a
// test of control/kernel compares the two.
package flowmap

import (
	"encoding/binary"
	"sync/atomic"

	"github.com/vswitch/vswitch/dataplane/header"
)

// Version is the number of this layout. It changes with every change of a type or a
// constant here that a program of another version would misread.
const Version = 6

// ClaimVersion is the number of the layout of claimed ports, addresses, subnets and peers. With it
// changes Version. Where Version alone differs the next process knows no flow of the one before,
// but the host resets none.
const ClaimVersion = 1

const (
	// MaxEntries is how many entries there may be, of 256 bytes each and, while they are in use, 112
	// more in the hash. ChunkEntries are made at once.
	MaxEntries   = 131072
	ChunkEntries = 8192
	MaxChunks    = MaxEntries / ChunkEntries
	// MaxPorts is the number of tallies, one for each port of a switch.
	MaxPorts = 4096
)

// State is who carries the frames of a row on.
type State = uint32

const (
	Off     State = iota // the switch
	Pending              // the switch; frames from before the row may be under way
	Ready                // the switch, until none of the flow's frames is under way
	Drain                // nobody, until then
	Active               // the kernel
)

// Flags of a Decision.
const (
	ToPeer   = 1 << iota // into the namespace of the output's other end; otherwise out of it
	Rewrite              // routed: TTL, MACs, Addrs, Ports, and of TCP the Half is kept
	NeedsDF              // IPv4 packets without DF need an identification of their own
	ToStack              // the host's stack has it, as if the output had received it
	ProveSum             // a container says where a partial checksum is: it is proved before somebody finishes it
)

// CounterShift is where Flags hold, beside NeedsDF, the number of the counter that packets without
// DF have their identifications from, and one; 0: they are left to the switch.
const (
	CounterShift = 16
	MaxCounters  = 2048
)

// Identifiers are the counters of identifications, which the switch and the programs share: who sends
// n packets adds n to one, in one step. Keys are of the hash that leads from a destination to a
// counter, 0: nobody has begun yet.
type Identifiers struct {
	Keys [4]uint64
	Next [MaxCounters]uint32
}

// Key names a flow in one direction, laid out as the programs put it together: bytes of
// packets in network order.
type Key struct {
	// Side is the interface of a cable or of a network's TAP, and 0 for all uplinks: a
	// flow may come back by another one.
	Side     uint32
	Realm    uint16 // 0; for VLANs and overlay networks
	Proto    uint8  // header.ProtoTCP or ProtoUDP
	_        uint8
	Src, Dst header.Addr
	Ports    [4]byte // source, destination
	_        [4]byte
}

// Decision is what is done with the frames of a direction: what they are known by, and
// what becomes of them. It does not change while the entry is in the hash.
type Decision struct {
	// Key is compared by whoever comes by the hash, whose elements are reused at once:
	// the number that was found may be another key's.
	Key   Key
	Flags uint32
	MTU   uint32 // of IP packets; larger ones are left to the switch
	// In and Match are the interface and the MAC addresses, destination and source, of
	// the frames that the flow was decided by. Others are left to the switch.
	In    uint32
	Out   uint32 // ifindex
	Match [12]byte

	// What Rewrite writes, in network order, and what it changes of checksums,
	// as ones' complement sums of words as the machine reads them.
	MACs                       [12]byte // destination, source
	Ports                      [4]byte
	L3Diff, AddrDiff, PortDiff uint32
	Addrs                      [32]byte // source, destination; IPv4 in the first 8

	// Policy is the rule that let the flow begin, 0: none. Rate is the limit that it counts
	// on; there are none yet. Payer is the number of the port that it is counted for.
	Policy, Rate, Payer uint32
}

// Half.Scale. The scale of a connection that was picked up in the middle is not known, and
// counts as the largest there is (RFC 7323, 2.3), but no window as more than MostUnknown:
// what lies in the window is what a stranger may guess.
const (
	ScaleMask    = 15
	ScaleUnknown = 1 << 4
	MostUnknown  = 16 << 20
)

// Tuple is the one of the packets that have a key.
func (k *Key) Tuple() header.Tuple {
	return header.Tuple{
		Src: k.Src, Dst: k.Dst, Proto: k.Proto,
		SrcPort: binary.BigEndian.Uint16(k.Ports[:]), DstPort: binary.BigEndian.Uint16(k.Ports[2:]),
	}
}

// Leaves is the tuple that packets leave with.
func (d *Decision) Leaves() header.Tuple {
	t := d.Key.Tuple()
	if d.Flags&Rewrite == 0 {
		return t
	}
	t.SrcPort, t.DstPort = binary.BigEndian.Uint16(d.Ports[:]), binary.BigEndian.Uint16(d.Ports[2:])
	if t.Src.Is4() {
		t.Src, t.Dst = header.AddrFrom4([4]byte(d.Addrs[:4])), header.AddrFrom4([4]byte(d.Addrs[4:8]))
	} else {
		t.Src, t.Dst = header.Addr(d.Addrs[:16]), header.Addr(d.Addrs[16:])
	}
	return t
}

// Half is what one side of a TCP connection has sent and has allowed the other side to
// send, as conntrack keeps it. Only segments of that side move it.
type Half struct {
	SeqEnd uint32 // highest sequence number sent, and one
	Ack    uint32 // highest acknowledgment
	Edge   uint32 // highest acknowledgment and the window announced there
	Window uint32 // largest window announced
	Scale  uint32 // of the windows in its segments, and whether it is known
	Ended  uint32 // HalfFIN or HalfRST
	// Doubt, when not 0, says that it is the half of who began the connection and has not shown yet
	// that he hears the answers. Until then the programs carry nothing but what shows that.
	Doubt uint32
	_     uint32
}

// How a side has ended. A reset hides a FIN, unless both sides have sent theirs before.
const (
	HalfFIN = 1 // its FIN
	HalfRST = 2 // its reset, with the exact number
)

// Ends is where the programs note pairs of entries whose connection may have ended, 1 each, and
// how often they have. It wakes nobody.
type Ends struct {
	Rung  uint64
	_     [56]byte
	Pairs [MaxEntries / 2]uint32
}

// Origin is what conntrack knows of a flow and no row needs: another process that finds the
// row goes on with the flow by it. It is zero of a flow that is not tracked.
type Origin struct {
	Conn              uint32 // kind, state, direction, and how its port is held, as conntrack has them
	Container, Holder uint16 // the number of its port, and of who holds the flow
	Born              uint32 // ns of the monotonic clock by 2^20, when it began
}

// Entry is one direction of a flow, in memory that BPF programs read and write. Its
// number with the lowest bit turned is that of the other direction. Each cache line has
// one writer at a time (ADR 23).
type Entry struct {
	State      State  // written by both sides
	Generation uint32 // how often the entry was given to a flow
	Decision

	// Of the switch alone. Timeout is how many jiffies after LastUse the entry is no flow any
	// more, whether somebody has removed it or not, unless the other direction was used since;
	// 0: never.
	Timeout uint32
	// Counted are the packets and bytes that conntrack has counted.
	// Ended, when not 0, says that it is no flow's any more: a program that is just about to
	// set State cannot undo that.
	Counted struct{ Packets, Bytes uint64 }
	Ended   uint32
	Origin

	// Of the program, while it carries the direction.
	LastIn  uint64 // Tally.In after the last frame that was let through
	Packets uint64 // carried by the kernel, super-packets as one
	Bytes   uint64
	LastUse uint64 // jiffies; 0: not yet
	// Half is of TCP with Rewrite; otherwise Ended alone is. The switch writes it while the program does not carry,
	// also where no key leads to the entry: what goes the other way is held against it.
	Half Half
}

// Begin makes an entry that no key leads to that of a flow. Half stays: the program of the
// other direction may be reading it.
func (m *Entry) Begin(d *Decision) {
	m.Decision = *d
	m.Generation++
	m.Timeout = 0
	m.Counted.Packets, m.Counted.Bytes, m.LastIn, m.Packets, m.Bytes, m.LastUse = 0, 0, 0, 0, 0, 0
	m.Origin = Origin{}
	atomic.StoreUint32(&m.Ended, 0)
	atomic.StoreUint32(&m.State, Pending)
}

// End gives the frames of an entry back to the switch, from the next one on. It is the
// switch's.
func (m *Entry) End() {
	atomic.StoreUint32(&m.Ended, 1)
	atomic.StoreUint32(&m.State, Off)
}

// IsOff reports whether an entry has ended.
func (m *Entry) IsOff() bool {
	return atomic.LoadUint32(&m.Ended) != 0 || atomic.LoadUint32(&m.State) == Off
}
