package pcapng

import (
	"encoding/binary"
	"io"
	"net/netip"
	"time"
)

// Types of blocks and options.
const (
	blockSection    = 0x0a0d0d0a
	blockInterface  = 1
	blockNames      = 4
	blockStatistics = 5
	blockPacket     = 6
	byteOrderMagic  = 0x1a2b3c4d

	optEnd     = 0
	optComment = 1

	linkEthernet = 1
)

// Direction is that of a packet, seen from the interface.
type Direction uint32

// Directions, as the flags of a packet have them.
const (
	Unknown  Direction = 0
	Inbound  Direction = 1
	Outbound Direction = 2
)

// Interface describes where packets are captured.
type Interface struct {
	Name, Description string
	Filter            string // expression, "" none
	SnapLen           int    // 0 no limit
}

// Packet is a captured frame.
type Packet struct {
	Time      time.Time
	Interface int // in the order of WriteInterface
	Direction Direction
	Data      []byte
	OrigLen   int
	Comment   string // "" none
	Dropped   uint64 // lost between the one before and this, 0 not written
}

// Statistics are the counters of an interface so far; the last block counts.
type Statistics struct {
	Interface    int
	Start, At    time.Time
	Accepted     uint64 // passed the filter
	Dropped      uint64 // of those, lost
	Delivered    uint64 // written
	EndOfCapture bool
}

// Writer writes one section. Not safe for concurrent use.
type Writer struct {
	w   io.Writer
	buf []byte
}

// NewWriter writes the header of a section. application may say who writes.
func NewWriter(w io.Writer, application string) (*Writer, error) {
	out := &Writer{w: w}
	out.begin(blockSection)
	out.u32(byteOrderMagic)
	out.u16(1) // version 1.0
	out.u16(0)
	out.u32(0xffffffff) // the section's length is not known
	out.u32(0xffffffff)
	out.text(3, "linux")
	out.text(4, application)
	out.option(optEnd, nil)
	return out, out.end()
}

// WriteInterface describes the next interface.
func (w *Writer) WriteInterface(i Interface) error {
	w.begin(blockInterface)
	w.u16(linkEthernet)
	w.u16(0)
	w.u32(uint32(i.SnapLen))
	w.text(2, i.Name)
	w.text(3, i.Description)
	w.option(9, []byte{9}) // nanoseconds
	if i.Filter != "" {
		w.text(11, "\x00"+i.Filter)
	}
	w.option(optEnd, nil)
	return w.end()
}

// WriteName gives an address a name.
func (w *Writer) WriteName(a netip.Addr, name string) error {
	w.begin(blockNames)
	kind := uint16(1)
	if a.Is6() {
		kind = 2
	}
	w.option(kind, append(append(a.AsSlice(), name...), 0))
	w.option(0, nil) // end of records
	return w.end()
}

// WritePacket writes a frame.
func (w *Writer) WritePacket(p Packet) error {
	w.begin(blockPacket)
	w.u32(uint32(p.Interface))
	w.time(p.Time)
	w.u32(uint32(len(p.Data)))
	w.u32(uint32(p.OrigLen))
	w.buf = append(w.buf, p.Data...)
	w.pad()
	w.text(optComment, p.Comment)
	if p.Direction != Unknown {
		w.option(2, binary.LittleEndian.AppendUint32(nil, uint32(p.Direction)))
	}
	if p.Dropped > 0 {
		w.option(4, binary.LittleEndian.AppendUint64(nil, p.Dropped))
	}
	w.option(optEnd, nil)
	return w.end()
}

// WriteStatistics writes the counters of an interface.
func (w *Writer) WriteStatistics(s Statistics) error {
	w.begin(blockStatistics)
	w.u32(uint32(s.Interface))
	w.time(s.At)
	stamp := func(code uint16, t time.Time) {
		ns := uint64(t.UnixNano())
		w.option(code, binary.LittleEndian.AppendUint32(binary.LittleEndian.AppendUint32(nil, uint32(ns>>32)), uint32(ns)))
	}
	stamp(2, s.Start)
	if s.EndOfCapture {
		stamp(3, s.At)
	}
	for _, c := range []struct {
		code uint16
		n    uint64
	}{{5, s.Dropped}, {6, s.Accepted}, {8, s.Delivered}} {
		w.option(c.code, binary.LittleEndian.AppendUint64(nil, c.n))
	}
	w.option(optEnd, nil)
	return w.end()
}

func (w *Writer) u16(v uint16) { w.buf = binary.LittleEndian.AppendUint16(w.buf, v) }
func (w *Writer) u32(v uint32) { w.buf = binary.LittleEndian.AppendUint32(w.buf, v) }

// time is in nanoseconds, the high half first.
func (w *Writer) time(t time.Time) {
	ns := uint64(t.UnixNano())
	w.u32(uint32(ns >> 32))
	w.u32(uint32(ns))
}

func (w *Writer) begin(kind uint32) {
	w.buf = w.buf[:0]
	w.u32(kind)
	w.u32(0)
}

// end writes the block, with its length at both ends.
func (w *Writer) end() error {
	n := uint32(len(w.buf) + 4)
	w.u32(n)
	binary.LittleEndian.PutUint32(w.buf[4:], n)
	_, err := w.w.Write(w.buf)
	return err
}

func (w *Writer) pad() {
	for len(w.buf)%4 != 0 {
		w.buf = append(w.buf, 0)
	}
}

func (w *Writer) text(code uint16, s string) {
	if s != "" {
		w.option(code, []byte(s[:min(len(s), 65535)]))
	}
}

func (w *Writer) option(code uint16, b []byte) {
	w.u16(code)
	w.u16(uint16(len(b)))
	w.buf = append(w.buf, b...)
	w.pad()
}
