package dataplane

import (
	"encoding/binary"

	"github.com/vswitch/vswitch/dataplane/frame"
	"github.com/vswitch/vswitch/dataplane/header"
	"github.com/vswitch/vswitch/dataplane/port"
)

const (
	maxVLAN = 4094 // 4095 is reserved (802.1Q table 9-2)
	tagLen  = 4
)

// vlanSet is a set of VLAN IDs.
type vlanSet [(maxVLAN + 64) / 64]uint64

func (v *vlanSet) add(r VLANRange) {
	for id := r.First; id <= r.Last; id++ {
		v[id/64] |= 1 << (id % 64)
	}
}

func (v *vlanSet) has(id uint16) bool { return v[id/64]&(1<<(id%64)) != 0 }

// carries reports whether a port belongs to a VLAN of its network.
func (p *portConfig) carries(vlan uint16) bool {
	return vlan == p.VLAN || p.trunk != nil && p.trunk.has(vlan)
}

// vlan finds out which VLAN each frame belongs to and takes its tag out, so that
// no later stage meets one. One tag of 802.1Q is known; a second one and those
// of 802.1ad could carry a frame where its sender does not belong.
func (w *worker) vlan(s *Snapshot) {
	keep := w.live[:0]
	for _, f := range w.live {
		in := s.ports[f.In]
		f.VLAN = in.VLAN
		if f.Layers.VLANs != 0 {
			if why := untag(f, in); why != NotDropped {
				w.drop(f, why)
				continue
			}
		}
		if in.Kind == PortHost && in.network.vlans {
			f.VLAN = vlanOf(f, in, s)
		}
		keep = append(keep, f)
	}
	w.live = keep
}

// untag takes the tag out of a frame. Priority tags, of VLAN 0, belong to the
// port's own VLAN (802.1Q 6.9.1).
func untag(f *frame.Frame, in *portConfig) DropReason {
	b := f.Data()
	id := binary.BigEndian.Uint16(b[header.EthernetLen:]) & 0xfff
	switch {
	case f.Layers.VLANs > 1 || binary.BigEndian.Uint16(b[12:]) != header.TypeVLAN:
		return DropTagged
	case id == 0:
	case in.trunk == nil:
		return DropTagged
	case id > maxVLAN || !in.trunk.has(id):
		return DropNotMember
	default:
		f.VLAN = id
	}
	copy(b[tagLen:], b[:12])
	f.Buf = f.Buf[tagLen:]
	l := &f.Layers
	l.VLANs = 0
	l.L3 -= tagLen
	l.End -= tagLen
	if l.L4 != 0 {
		l.L4 -= tagLen
	}
	if f.Offload.Csum == frame.CsumPartial {
		f.Offload.CsumStart -= min(tagLen, f.Offload.CsumStart)
	}
	if f.Offload.HdrLen >= tagLen {
		f.Offload.HdrLen -= tagLen
	}
	return NotDropped
}

// vlanOf finds the VLAN for a frame of the host, whose stack knows none: that of
// the container it is for.
func vlanOf(f *frame.Frame, in *portConfig, s *Snapshot) uint16 {
	l := &f.Layers
	to := l.Tuple.Dst
	switch {
	case l.Dst.IsMulticast():
		return in.VLAN
	case l.Kind == header.KindARP:
		to = header.ReadARP(f.Data(), l).Target
	}
	if h := s.stations[to]; h != nil && h.network == in.network {
		return s.ports[h.port].VLAN
	}
	return in.VLAN
}

// tagger makes the copies of a turn that carry a tag. All trunks want the same
// bytes, so that one copy of a frame is enough.
type tagger struct {
	arena  *port.Arena // nil until a trunk needs it: most switches have none
	frames [frame.BatchSize]frame.Frame
	of     *frame.Frame // the frame that was copied last
	used   int
}

func (t *tagger) reset() {
	if t.arena != nil {
		t.arena.Reset()
		t.of, t.used = nil, 0
	}
}

// tagged returns f as a port wants it: itself, or an owned copy with a tag where
// the port carries the frame's VLAN tagged. It is nil when the tag makes the
// frame too long.
func (t *tagger) tagged(f *frame.Frame, out *portConfig) *frame.Frame {
	if out.trunk == nil || f.VLAN == out.VLAN || f.VLAN == 0 {
		return f
	}
	if t.of == f {
		return &t.frames[t.used-1]
	}
	if t.arena == nil {
		t.arena = port.NewArena()
	}
	buf := t.arena.Alloc(f.Len() + tagLen)
	if buf == nil {
		return nil
	}
	c := &t.frames[t.used]
	t.of, t.used = f, t.used+1
	*c = frame.Frame{Buf: buf, In: f.In, VLAN: f.VLAN, Offload: f.Offload, Note: f.Note}
	b, from := c.Data(), f.Data()
	copy(b, from[:12])
	binary.BigEndian.PutUint16(b[12:], header.TypeVLAN)
	binary.BigEndian.PutUint16(b[14:], f.VLAN)
	copy(b[16:], from[12:])
	if c.Offload.Csum == frame.CsumPartial {
		c.Offload.CsumStart += tagLen
	}
	if c.Offload.HdrLen != 0 {
		c.Offload.HdrLen += tagLen
	}
	return c
}
