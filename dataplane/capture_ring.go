package dataplane

import (
	"encoding/binary"
	"slices"
	"sync/atomic"
	"unsafe"

	"github.com/vswitch/vswitch/dataplane/conntrack"
	"github.com/vswitch/vswitch/dataplane/frame"
	"github.com/vswitch/vswitch/dataplane/header"
)

// ring is a queue of records in one piece of memory, each with a header of its own, as
// one side sees it. Writers and reader may be two processes.
//
// Every word that both sides touch is an atomic, and has one writing side. The reader takes
// records from head on; of a recorder the writers move head, and the reader pins what it
// copies. A record is written before its state says so, and its place is used again after
// head has passed it.
type ring struct {
	ctl       *ringControl
	mem       []byte // its length is a multiple of 8, as every record's
	overwrite bool   // the oldest makes room for the newest
}

// ringControl is the beginning of the memory. head, tail and pin count bytes since the
// beginning.
type ringControl struct {
	tail, lost atomic.Uint64 // the writers'; lost are frames that had no room
	closed     atomic.Uint32 // the writers': 1 is the end
	_          [44]byte
	head       atomic.Uint64 // the reader's; of a recorder the writers'
	_          [56]byte
	pin        atomic.Uint64 // the reader's: nothing from here on is overwritten
	waiting    atomic.Uint32 // set by the reader, taken back by who rings
	_          [52]byte
}

// What the reader waits for.
const (
	notWaiting   = iota
	waitsForNext // a record
	waitsForMuch // an eighth of the memory
)

const noPin = ^uint64(0)

// newRing makes the memory of an empty ring for so many bytes of records.
func newRing(bytes int) []byte {
	words := make([]uint64, (int(unsafe.Sizeof(ringControl{}))+bytes)/8)
	memory := unsafe.Slice((*byte)(unsafe.Pointer(&words[0])), 8*len(words))
	mapRing(memory, false).ctl.pin.Store(noPin)
	return memory
}

// mapRing is a ring in memory that newRing has made.
func mapRing(memory []byte, overwrite bool) ring {
	const size = int(unsafe.Sizeof(ringControl{}))
	return ring{ctl: (*ringControl)(unsafe.Pointer(&memory[0])), mem: memory[size:], overwrite: overwrite}
}

// much reports whether an eighth of the memory is taken.
func (r *ring) much() bool { return r.ctl.tail.Load()-r.ctl.head.Load() > uint64(len(r.mem))/8 }

// due reports whether the reader wants to be woken.
func (r *ring) due() bool {
	switch r.ctl.waiting.Load() {
	case waitsForNext:
		return true
	case waitsForMuch:
		return r.much()
	}
	return false
}

// The header of a record, little-endian. Size 0 says that the rest of the memory
// is skipped, because the next record did not fit into it.
const (
	atSize    = 0  // u32, of the record with its header
	atCapLen  = 4  // u32
	atTime    = 8  // i64, ns of the switch's clock
	atOrigLen = 16 // u32
	atPort    = 20 // u16
	atPoint   = 22 // u8
	atOffload = 24 // 10 bytes
	atVerdict = 34
	atFrom    = 44 // src, dst, ports
	atTo      = 80
	atState   = 116 // u32, atomic

	recordHeader = 120
)

// The states of a record.
const (
	recordPending = iota // of a turn that goes on: the verdict is missing
	recordSettled        // to be read
)

var le = binary.LittleEndian

// reserve returns the place of a new record for n bytes of data, -1 when there is no
// room. It is for one writer at a time.
func (r *ring) reserve(n int) int {
	size, all := uint64(recordHeader+n+7)&^7, uint64(len(r.mem))
	tail := r.ctl.tail.Load()
	at, pad := tail%all, uint64(0)
	if at+size > all {
		pad = all - at
	}
	end := tail + pad + size
	for end-r.ctl.head.Load() > all {
		if !r.overwrite || r.first() == nil { // a turn still writes to the oldest
			return -1
		}
		r.drop()
	}
	// head has moved before pin is looked at, and the reader pins before it looks at head:
	// one of the two sees the other.
	if pin := r.ctl.pin.Load(); pin < end && end-pin > all {
		return -1
	}
	if pad > 0 {
		le.PutUint32(r.mem[at:], 0)
		at = 0
	}
	le.PutUint32(r.mem[at:], uint32(size))
	le.PutUint32(r.mem[at+atCapLen:], uint32(n))
	r.state(at).Store(recordPending)
	r.ctl.tail.Store(end)
	return int(at)
}

// state is the state of the record at a place.
func (r *ring) state(at uint64) *atomic.Uint32 {
	return (*atomic.Uint32)(unsafe.Pointer(&r.mem[at+atState]))
}

// first returns the oldest record, nil when there is none to be read. It is for the side
// that moves head.
func (r *ring) first() []byte {
	head, tail, all := r.ctl.head.Load(), r.ctl.tail.Load(), uint64(len(r.mem))
	if head == tail {
		return nil
	}
	at := head % all
	if le.Uint32(r.mem[at:]) == 0 {
		head += all - at
		r.ctl.head.Store(head)
		at = 0
		if head == tail {
			return nil
		}
	}
	if r.state(at).Load() != recordSettled {
		return nil
	}
	b := r.mem[at:]
	return b[:recordSize(b)]
}

// drop gives the record of first back.
func (r *ring) drop() {
	head := r.ctl.head.Load()
	r.ctl.head.Store(head + uint64(recordSize(r.mem[head%uint64(len(r.mem)):])))
}

func recordSize(b []byte) int { return int(le.Uint32(b)) }

// copyFrom appends whole settled records between two positions to out, about limit bytes,
// and returns the position after them. It is for the one reader of a recorder.
func (r *ring) copyFrom(out []byte, pos, until uint64, limit int) ([]byte, uint64) {
	defer r.ctl.pin.Store(noPin)
	for {
		r.ctl.pin.Store(pos)
		head := r.ctl.head.Load()
		if head <= pos {
			break
		}
		pos = head
	}
	all := uint64(len(r.mem))
	for pos < until && len(out) < limit {
		at := pos % all
		b := r.mem[at:]
		size := recordSize(b)
		if size == 0 {
			pos += uint64(len(b))
			continue
		}
		if r.state(at).Load() != recordSettled {
			break
		}
		out = append(out, b[:size]...)
		pos += uint64(size)
	}
	return out, pos
}

// write fills a record except its verdict. It copies what snaplen wants of the
// frame, which reserve was told.
func (r *ring) write(at int, f *frame.Frame, id frame.PortID, point Point, now int64) {
	b := r.mem[at:]
	le.PutUint64(b[atTime:], uint64(now))
	le.PutUint32(b[atOrigLen:], uint32(f.Len()))
	le.PutUint16(b[atPort:], uint16(id))
	b[atPoint] = byte(point)
	o := &f.Offload
	b[atOffload], b[atOffload+1] = byte(o.Csum), o.GSOType
	le.PutUint16(b[atOffload+2:], o.GSOSize)
	le.PutUint16(b[atOffload+4:], o.HdrLen)
	le.PutUint16(b[atOffload+6:], o.CsumStart)
	le.PutUint16(b[atOffload+8:], o.CsumOffset)
	copy(b[recordHeader:recordHeader+int(le.Uint32(b[atCapLen:]))], f.Data())
}

// settle writes the verdict; the record can be read from now on.
func (r *ring) settle(at int, v *Verdict) {
	b := r.mem[at:]
	p := b[atVerdict:]
	le.PutUint16(p, uint16(v.In))
	le.PutUint16(p[2:], uint16(v.Out))
	le.PutUint16(p[4:], uint16(v.Copies))
	p[6], p[7], p[8], p[9] = byte(v.Reason), byte(v.Fate), byte(v.Kind), 0
	if v.Translated {
		p[9] = v.From.Proto + 1
		putTuple(b[atFrom:], &v.From)
		putTuple(b[atTo:], &v.To)
	}
	r.state(uint64(at)).Store(recordSettled)
}

func putTuple(b []byte, t *header.Tuple) {
	copy(b, t.Src[:])
	copy(b[16:], t.Dst[:])
	le.PutUint16(b[32:], t.SrcPort)
	le.PutUint16(b[34:], t.DstPort)
}

func getTuple(b []byte, proto uint8) header.Tuple {
	return header.Tuple{
		Src: header.Addr(b[:16]), Dst: header.Addr(b[16:32]), SrcPort: le.Uint16(b[32:]), DstPort: le.Uint16(b[34:]), Proto: proto,
	}
}

// decode makes a record of its bytes, with a copy of the data.
func (c *Capture) decode(b []byte) CaptureRecord {
	o, p := b[atOffload:], b[atVerdict:]
	r := CaptureRecord{
		Time: c.clock(int64(le.Uint64(b[atTime:]))), Port: frame.PortID(le.Uint16(b[atPort:])), Point: Point(b[atPoint]),
		Data:    slices.Clone(b[recordHeader : recordHeader+int(le.Uint32(b[atCapLen:]))]),
		OrigLen: int(le.Uint32(b[atOrigLen:])),
		offload: frame.Offload{
			Csum: frame.Csum(o[0]), GSOType: o[1], GSOSize: le.Uint16(o[2:]), HdrLen: le.Uint16(o[4:]),
			CsumStart: le.Uint16(o[6:]), CsumOffset: le.Uint16(o[8:]),
		},
		Verdict: Verdict{
			In: frame.PortID(le.Uint16(p)), Out: frame.PortID(le.Uint16(p[2:])), Copies: int(le.Uint16(p[4:])),
			Reason: DropReason(p[6]), Fate: Fate(p[7]), Kind: conntrack.Kind(p[8]),
		},
	}
	if p[9] != 0 {
		r.Verdict.Translated = true
		r.Verdict.From, r.Verdict.To = getTuple(b[atFrom:], p[9]-1), getTuple(b[atTo:], p[9]-1)
	}
	return r
}
