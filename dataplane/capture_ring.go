package dataplane

import (
	"encoding/binary"
	"slices"

	"github.com/vswitch/vswitch/dataplane/frame"
	"github.com/vswitch/vswitch/dataplane/header"
)

// ring is a queue of records in one piece of memory, each behind a header of
// its own. head and tail count bytes since the beginning.
type ring struct {
	mem        []byte // its length is a multiple of 8, as every record's
	head, tail uint64
	overwrite  bool // the oldest makes room for the newest
}

// The header of a record, little-endian. Size 0 says that the rest of the memory
// is skipped, because the next record did not fit into it.
const (
	atSize    = 0  // u32, of the record with its header
	atCapLen  = 4  // u32
	atTime    = 8  // i64, ns of the switch's clock
	atOrigLen = 16 // u32
	atPort    = 20 // u16
	atPoint   = 22
	atState   = 23
	atOffload = 24 // 10 bytes
	atVerdict = 34
	atFrom    = 44 // src, dst, ports
	atTo      = 80

	recordHeader = 120
)

// The states of a record.
const (
	recordOpen    = iota // of a turn that goes on: the verdict is missing
	recordSettled        // to be read
)

var le = binary.LittleEndian

// reserve returns the place of a new record for n bytes of data, -1 when there
// is no room.
func (r *ring) reserve(n int) int {
	size, all := uint64(recordHeader+n+7)&^7, uint64(len(r.mem))
	at := r.tail % all
	pad := uint64(0)
	if at+size > all {
		pad = all - at
	}
	for r.tail+pad+size-r.head > all {
		if !r.overwrite || !r.evict() {
			return -1
		}
	}
	if pad > 0 {
		le.PutUint32(r.mem[at:], 0)
		r.tail += pad
		at = 0
	}
	le.PutUint32(r.mem[at:], uint32(size))
	le.PutUint32(r.mem[at+atCapLen:], uint32(n))
	r.tail += size
	return int(at)
}

// evict forgets the oldest record, unless a turn still writes to it.
func (r *ring) evict() bool {
	b := r.first()
	if b == nil {
		return false
	}
	r.drop()
	return true
}

// first returns the oldest record, nil when there is none to be read.
func (r *ring) first() []byte {
	if r.head == r.tail {
		return nil
	}
	all := uint64(len(r.mem))
	at := r.head % all
	if le.Uint32(r.mem[at:]) == 0 {
		r.head += all - at
		at = 0
		if r.head == r.tail {
			return nil
		}
	}
	b := r.mem[at:]
	if b[atState] != recordSettled {
		return nil
	}
	return b[:recordSize(b)]
}

// drop gives the record of first back.
func (r *ring) drop() { r.head += uint64(recordSize(r.mem[r.head%uint64(len(r.mem)):])) }

func recordSize(b []byte) int { return int(le.Uint32(b)) }

// copyFrom appends whole settled records between two positions to out, about
// limit bytes, and returns the position behind them.
func (r *ring) copyFrom(out []byte, pos, until uint64, limit int) ([]byte, uint64) {
	all := uint64(len(r.mem))
	pos = max(pos, r.head)
	for pos < until && len(out) < limit {
		b := r.mem[pos%all:]
		size := recordSize(b)
		if size == 0 {
			pos += uint64(len(b))
			continue
		}
		if b[atState] != recordSettled {
			break
		}
		out = append(out, b[:size]...)
		pos += uint64(size)
	}
	return out, pos
}

// write fills a record but for its verdict. It copies what snaplen wants of the
// frame, which reserve was told.
func (r *ring) write(at int, f *frame.Frame, id frame.PortID, point Point, now int64) {
	b := r.mem[at:]
	le.PutUint64(b[atTime:], uint64(now))
	le.PutUint32(b[atOrigLen:], uint32(f.Len()))
	le.PutUint16(b[atPort:], uint16(id))
	b[atPoint], b[atState] = byte(point), recordOpen
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
	b[atState] = recordSettled
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
			Reason: DropReason(p[6]), Fate: Fate(p[7]), Kind: ConnKind(p[8]),
		},
	}
	if p[9] != 0 {
		r.Verdict.Translated = true
		r.Verdict.From, r.Verdict.To = getTuple(b[atFrom:], p[9]-1), getTuple(b[atTo:], p[9]-1)
	}
	return r
}
