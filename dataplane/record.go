package dataplane

import (
	"encoding/binary"
	"slices"

	"github.com/vswitch/vswitch/dataplane/frame"
	"github.com/vswitch/vswitch/dataplane/header"
)

// record copies one frame with its verdict into captures of a port,
// without the captures that are among except too. It is for frames that end or change on the
// way; batches go through take.
func (s *Switch) record(taps, except []tap, f *frame.Frame, id frame.PortID, point Point, v *Verdict, now int64) {
	b := f.Data()
	for _, t := range taps {
		c := t.c
		if !c.cfg.Points.Has(point) || slices.ContainsFunc(except, func(o tap) bool { return o.c == c }) || !c.cfg.Filter.Match(b, len(b), outbound(point, id, v)) {
			continue
		}
		n := len(b)
		if n > c.cfg.SnapLen && !(c.cfg.Segment && f.Offload.GSOType != frame.GSONone) {
			n = c.cfg.SnapLen
		}
		c.mu.Lock()
		at := -1
		if !c.closed {
			at = c.ring.reserve(n)
		}
		if at >= 0 {
			c.ring.write(at, f, id, point, now)
			c.ring.settle(at, v)
		}
		c.mu.Unlock()
		if at < 0 {
			t.counts.lost[point].Add(1)
			c.ring.ctl.lost.Add(1)
			continue
		}
		c.wake()
		t.counts.taken[point].Add(1)
	}
}

// outbound reports whether a record's frame goes out at its port: seen from there
// what is routed is on its way in or out.
func outbound(point Point, id frame.PortID, v *Verdict) bool {
	return point == PointTx || point > PointDrop && id == v.Out
}

// Outbound reports whether the frame went out at its port, where others came in.
func (r *CaptureRecord) Outbound() bool { return outbound(r.Point, r.Port, &r.Verdict) }

// recordEnd is for frames that end outside of a turn: deferred ones that expire.
// buf is the frame with its headroom.
func (s *Switch) recordEnd(buf []byte, o frame.Offload, in frame.PortID, why DropReason, now int64) {
	if m := s.mirrors.Load(); m != nil && len(m.ports[in]) > 0 {
		v := Verdict{In: in, Out: frame.NoPort, Fate: FateDropped, Reason: why}
		s.record(m.ports[in], nil, &frame.Frame{Buf: buf, In: in, Offload: o}, in, PointDrop, &v, now)
	}
}

// wireForm puts back the tag that the vlan stage took out.
func (w *worker) wireForm(f *frame.Frame) *frame.Frame {
	in := w.mirror.decided.ports[f.In]
	if f.VLAN == 0 || f.Layers.VLANs != 0 || in == nil || in.trunk == nil || f.VLAN == in.VLAN {
		return f
	}
	t, b := &w.mirror.tagged, f.Data()
	t.Buf = append(append(t.Buf[:0], make([]byte, frame.Headroom)...), b[:12]...)
	t.Buf = binary.BigEndian.AppendUint16(t.Buf, header.TypeVLAN)
	t.Buf = binary.BigEndian.AppendUint16(t.Buf, f.VLAN)
	t.Buf = append(t.Buf, b[12:]...)
	if t.Offload = f.Offload; t.Offload.Csum == frame.CsumPartial {
		t.Offload.CsumStart += tagLen
	}
	return t
}
