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

// Headroom is the number of bytes that every Frame keeps free in front of the
// Ethernet header: a virtio_net_hdr, written by a port when it sends.
const Headroom = VnetHdrLen

// MaxLen is the largest Ethernet frame in bytes, a GSO super-frame with two
// VLAN tags.
const MaxLen = 65535 + header.EthernetLen + 8

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
}

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
