// Package frame defines what a frame is while the switch holds it: its bytes
// with headroom, the port it came from, what Parse found in it and the offload
// facts that travel beside it. It does no I/O and takes no decision.
package frame

import "github.com/vswitch/vswitch/dataplane/header"

// PortID is a small dense integer that names a port of one switch. It indexes
// the arrays of a snapshot and is reused only after a port was removed and
// every worker has begun a new turn.
type PortID uint16

// NoPort is no port.
const NoPort PortID = 0xffff

// NetworkID names a network (a broadcast domain) inside one switch. It keys FDB
// entries, which outlive snapshots: an ID is not given to another network
// while the switch runs. 0 is no network.
type NetworkID uint16

// Headroom is the number of bytes that every Frame keeps free in front of the
// Ethernet header: a virtio_net_hdr, written by a port when it sends.
const Headroom = VnetHdrLen

// MaxLen is the largest Ethernet frame in bytes, a GSO super-frame with two VLAN tags. The
// length of IPv6 leaves out its header (RFC 8200, 3).
const MaxLen = 65535 + 40 + header.EthernetLen + 8

// BatchSize is the number of frames a worker takes from a port in one turn.
const BatchSize = 64

// Frame is one Ethernet frame. Its memory belongs to the port it came from (a
// ring slot) or to a worker's arena, and is borrowed until that port's Release.
type Frame struct {
	Buf     []byte // Headroom bytes, then the Ethernet frame
	In      PortID
	VLAN    uint16 // of its network; the bytes carry no tag behind the vlan stage
	Offload Offload
	Layers  header.Layers
	Note    uint8 // of the mirror, valid in a turn that is captured
}

// Data returns the Ethernet frame; it aliases Buf.
func (f *Frame) Data() []byte { return f.Buf[Headroom:] }

// Len is the length of the Ethernet frame in bytes.
func (f *Frame) Len() int { return len(f.Buf) - Headroom }

// Batch is what one turn works on: up to BatchSize frames of one port, owned
// by one worker. Not safe for concurrent use.
type Batch struct {
	Frames [BatchSize]Frame
	N      int
	left   int64 // ns of cost that frames may be taken for
	took   bool
	more   bool

	refused int64 // ns of cost of frames that were taken and are not in Frames
}

// Unlimited is a limit that no batch reaches.
const Unlimited int64 = 1 << 62

// Begin empties the batch. The frames that are taken may cost limit, in the nanoseconds of
// TakeCost and SendCost.
func (b *Batch) Begin(limit int64) {
	b.N, b.left, b.took, b.more, b.refused = 0, limit, false, false, 0
}

// Full reports whether no more frames may be taken.
func (b *Batch) Full() bool { return b.N == BatchSize || b.left <= 0 }

// More reports whether there may be frames for which the batch had no room.
func (b *Batch) More() bool { return b.more || b.Full() }

// Take counts a frame of n bytes, as if it went out by one port, and reports whether there
// is room for it: the first one has room, whatever it costs. vnet is its virtio_net_hdr,
// nil when there is none.
func (b *Batch) Take(n int, vnet []byte) bool {
	cost := costOf(n, vnet)
	if b.took && cost > b.left {
		b.more = true
		return false
	}
	b.left -= cost
	b.took = true
	return true
}

// Again lets frames be taken after some were given back: whether there are more is not known.
func (b *Batch) Again() { b.more = false }

// Return gives back what a frame was taken for, which then is not in the batch.
func (b *Batch) Return(f *Frame) { b.left += TakeCost(f.Len()) + f.Offload.SendCost(f.Len()) }

// Leave notes that there is a frame for which there is no room.
func (b *Batch) Leave() { b.more = true }

// Charge is Take for a frame that cannot be left where it was.
func (b *Batch) Charge(n int, vnet []byte) {
	b.left -= costOf(n, vnet)
	b.took = true
}

// Refuse notes that a frame which was taken, n bytes of it, is dropped by the port.
func (b *Batch) Refuse(n int) { b.refused += TakeCost(n) }

// Refused is what the frames have cost that the port has dropped, in ns.
func (b *Batch) Refused() int64 { return b.refused }

// Next returns the next free frame of the batch with Offload cleared, or nil
// when the batch is full. The caller sets Buf and In.
func (b *Batch) Next() *Frame {
	if b.N == BatchSize {
		return nil
	}
	f := &b.Frames[b.N]
	f.Offload = Offload{}
	b.N++
	return f
}
