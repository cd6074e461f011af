package main

import (
	"encoding/binary"
	"errors"
	"io"
)

// Block and option types of pcapng (draft-ietf-opsawg-pcapng).
const (
	blockSection    = 0x0a0d0d0a
	blockInterface  = 1
	blockNames      = 4
	blockPacket     = 6
	blockStatistics = 5 // of an interface
	optionDropped   = 5 // isb_ifdrop
	byteOrderMagic  = 0x1a2b3c4d

	// A block is a frame of at most 64 KiB and its options.
	maxBlock = 1 << 20
)

var errNotPcapng = errors.New("the daemon's stream is not pcapng")

// blockWriter passes a pcapng stream on in whole blocks, so that a file is well
// formed wherever the stream is cut, and counts what is in it. Not safe for
// concurrent use.
type blockWriter struct {
	w      io.Writer // may have a Flush
	limit  uint64    // packets that are passed on, 0 is no limit
	enough func()    // called when there are so many; statistics may follow

	packets uint64
	dropped map[uint32]uint64 // by interface, as last reported

	order binary.ByteOrder
	part  []byte // of a block that is not whole
}

// Write accepts any part of a stream.
func (b *blockWriter) Write(p []byte) (int, error) {
	b.part = append(b.part, p...)
	rest := b.part
	for len(rest) >= 12 {
		size, err := b.size(rest)
		if err != nil {
			return 0, err
		}
		if len(rest) < size {
			break
		}
		if err := b.pass(rest[:size]); err != nil {
			return 0, err
		}
		rest = rest[size:]
	}
	b.part = append(b.part[:0], rest...)
	if f, ok := b.w.(interface{ Flush() error }); ok {
		return len(p), f.Flush()
	}
	return len(p), nil
}

// pass hands a block on, unless it is a packet too many.
func (b *blockWriter) pass(block []byte) error {
	full := b.limit > 0 && b.packets >= b.limit
	if full && b.order.Uint32(block) == blockPacket {
		return nil
	}
	if _, err := b.w.Write(block); err != nil {
		return err
	}
	b.count(block)
	if !full && b.limit > 0 && b.packets >= b.limit {
		b.enough()
	}
	return nil
}

// blockKind is the type of a block of this machine's byte order, which is the
// daemon's.
func blockKind(block []byte) uint32 { return binary.NativeEndian.Uint32(block) }

// size returns the length of the block that head begins.
func (b *blockWriter) size(head []byte) (int, error) {
	// The type of a section header reads the same in both byte orders.
	if binary.BigEndian.Uint32(head) == blockSection {
		switch uint32(byteOrderMagic) {
		case binary.LittleEndian.Uint32(head[8:]):
			b.order = binary.LittleEndian
		case binary.BigEndian.Uint32(head[8:]):
			b.order = binary.BigEndian
		default:
			return 0, errNotPcapng
		}
	}
	if b.order == nil {
		return 0, errNotPcapng
	}
	size := b.order.Uint32(head[4:])
	if size < 12 || size%4 != 0 || size > maxBlock {
		return 0, errNotPcapng
	}
	return int(size), nil
}

func (b *blockWriter) count(block []byte) {
	switch b.order.Uint32(block) {
	case blockPacket:
		b.packets++
	case blockStatistics:
		const fixed = 20 // type, length, interface, timestamp
		if len(block) < fixed+4 {
			return
		}
		iface := b.order.Uint32(block[8:])
		opts := block[fixed : len(block)-4]
		for len(opts) >= 4 {
			code, n := b.order.Uint16(opts), int(b.order.Uint16(opts[2:]))
			opts = opts[4:]
			if code == 0 || len(opts) < n {
				return
			}
			if code == optionDropped && n == 8 {
				if b.dropped == nil {
					b.dropped = map[uint32]uint64{}
				}
				b.dropped[iface] = b.order.Uint64(opts)
			}
			opts = opts[min(len(opts), (n+3)&^3):]
		}
	}
}

// drops returns how many packets the capture has lost, as far as was reported.
func (b *blockWriter) drops() (n uint64) {
	for _, d := range b.dropped {
		n += d
	}
	return n
}
