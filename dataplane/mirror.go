package dataplane

import "github.com/vswitch/vswitch/dataplane/frame"

// mirror is what a worker needs for captures. It touches none of it while no
// capture runs.
type mirror struct {
	table     *mirrorTable // of this turn, nil: no capture runs
	decided   *Snapshot    // what this turn is decided by
	stories   [frame.BatchSize]Verdict
	unsettled []ticket // records of this turn that want their verdict
	vec       [frame.BatchSize]*frame.Frame
	other     Verdict     // of a frame without a story
	tagged    frame.Frame // a frame with its tag put back
}

// ticket is a record whose verdict is in stories.
type ticket struct {
	c     *queue
	at    int
	story uint8
}

// noteOwn is the Note of frames that the switch makes itself; others have the
// index of their story, plus one.
const noteOwn = 255

// on reports whether a capture runs.
func (m *mirror) on() bool { return frame.Observed && m.table != nil }

// watch begins the stories of a turn. Stages tell them as they go; without a
// capture each finds a nil table.
func (w *worker) watch() {
	m := &w.mirror
	m.table = w.sw.mirrors.Load()
	if m.table == nil {
		return
	}
	for i := range w.batch.Frames[:w.batch.N] {
		f := &w.batch.Frames[i]
		f.Note, f.VLAN = uint8(i+1), 0
		v := &m.stories[i] // the tuples may stay: Translated says that they hold
		v.In, v.Out, v.Copies, v.Reason, v.Fate, v.Translated = f.In, frame.NoPort, 0, NotDropped, FateHeld, false
	}
}

// mirrorRx copies the batch as it came in, before anything is judged.
func (w *worker) mirrorRx(id frame.PortID) {
	m := &w.mirror
	if m.table == nil || len(m.table.ports[id]) == 0 {
		return
	}
	n := w.batch.N
	for i := range w.batch.Frames[:n] {
		m.vec[i] = &w.batch.Frames[i]
	}
	for _, t := range m.table.ports[id] {
		if t.c.cfg.Points.Has(PointRx) {
			w.take(t, id, PointRx, m.vec[:n])
		}
	}
}

// mirrorTx copies frames on their way out.
func (w *worker) mirrorTx(id frame.PortID, frames []*frame.Frame) {
	for _, t := range w.mirror.table.ports[id] {
		if t.c.cfg.Points.Has(PointTx) {
			w.take(t, id, PointTx, frames)
		}
	}
}

// take copies at most BatchSize frames into a capture, or counts them as lost.
// What the filter does not want costs no lock.
func (w *worker) take(t tap, id frame.PortID, point Point, frames []*frame.Frame) {
	var wanted uint64
	for i, f := range frames {
		if b := f.Data(); t.c.cfg.Filter.Match(b, len(b), point == PointTx) {
			wanted |= 1 << i
		}
	}
	if wanted == 0 {
		return
	}
	c, taken, lost := t.c, uint64(0), uint64(0)
	keep := c.cfg.SnapLen
	c.mu.Lock()
	for i, f := range frames {
		if wanted>>i&1 == 0 {
			continue
		}
		n := f.Len()
		if n > keep && !(c.cfg.Segment && f.Offload.GSOType != frame.GSONone) {
			n = keep
		}
		at := -1
		if !c.closed {
			at = c.ring.reserve(n)
		}
		if at < 0 {
			lost++
			continue
		}
		taken++
		c.ring.write(at, f, id, point, w.now)
		if point == PointRx {
			w.mirror.unsettled = append(w.mirror.unsettled, ticket{c, at, f.Note - 1})
			continue
		}
		c.ring.settle(at, w.verdict(f))
	}
	c.mu.Unlock()
	if point != PointRx {
		c.wake()
	}
	t.counts.taken[point].Add(taken)
	if lost > 0 {
		t.counts.lost[point].Add(lost)
		c.ring.ctl.lost.Add(lost)
	}
}

// verdict is the story of a frame so far. What is returned is valid until the
// next call.
func (w *worker) verdict(f *frame.Frame) *Verdict {
	m := &w.mirror
	switch {
	case f.Note == noteOwn:
		m.other = Verdict{In: frame.NoPort, Out: f.In, Fate: FateOwn}
	case f.Note == 0: // a fragment that was deferred
		m.other = Verdict{In: f.In, Out: frame.NoPort}
	default:
		return &m.stories[f.Note-1]
	}
	return &m.other
}

// settle gives the records of what came in their verdict, at the end of a turn.
func (w *worker) settle() {
	m := &w.mirror
	for i := 0; i < len(m.unsettled); {
		c := m.unsettled[i].c
		for ; i < len(m.unsettled) && m.unsettled[i].c == c; i++ {
			c.ring.settle(m.unsettled[i].at, &m.stories[m.unsettled[i].story])
		}
		c.wake()
	}
	clear(m.unsettled)                                          // or the memory of captures that have ended would stay with the worker
	m.unsettled, m.table, m.decided = m.unsettled[:0], nil, nil // an idle worker keeps no old snapshot
}

// sentTo notes a port that a frame leaves by.
func (m *mirror) sentTo(f *frame.Frame, id frame.PortID) {
	if f.Note == 0 || f.Note == noteOwn {
		return
	}
	v := &m.stories[f.Note-1]
	switch {
	case v.Copies == 0:
		v.Out, v.Copies, v.Fate = id, 1, FateSent
	case v.Out != id: // and not the next fragment of what was cut
		v.Copies++
	}
}

// answered notes that a frame ends with an answer, and whose the answer is.
func (m *mirror) answered(f, answer *frame.Frame) {
	if m.on() {
		answer.Note = noteOwn
		if f.Note != 0 && f.Note != noteOwn {
			m.stories[f.Note-1].Fate = FateAnswered
		}
	}
}

// mirrorDrop notes why a frame ended, and copies it where that is wanted.
func (w *worker) mirrorDrop(f *frame.Frame, id frame.PortID, why DropReason) {
	v := w.verdict(f)
	if v.Copies == 0 || v.Copies == 1 && (why == DropDeviceFull || why == DropPortGone) {
		v.Fate, v.Reason = FateDropped, why
	}
	if m := &w.mirror; m.table.points.Has(PointDrop) && len(m.table.ports[id]) > 0 {
		ended := *v
		ended.Fate, ended.Reason = FateDropped, why
		w.sw.record(m.table.ports[id], nil, w.wireForm(f), id, PointDrop, &ended, w.now)
	}
}

// mirrorNAT notes how a routed frame is translated, and copies it to the captures
// of the ports it comes from and goes to.
func (w *worker) mirrorNAT(r *routed, point Point) {
	m := &w.mirror
	from, to := m.table.ports[r.in.ID], m.table.ports[r.out]
	if len(from) == 0 && len(to) == 0 {
		return
	}
	v := w.verdict(r.f)
	if point == PointPreNAT {
		if v.Translated = r.to != r.f.Layers.Tuple; v.Translated {
			v.Kind, v.From, v.To = r.kind, r.f.Layers.Tuple, r.to
		}
	}
	if !m.table.points.Has(point) {
		return
	}
	here := *v
	here.Out, here.Copies, here.Fate = r.out, 1, FateSent
	// At the side it is seen from; a capture of both ports has it once.
	f, near, far := w.wireForm(r.f), r.in.ID, r.out
	if point == PointPostNAT {
		near, far, from, to = far, near, to, from
	}
	w.sw.record(from, nil, f, near, point, &here, w.now)
	if near != far {
		w.sw.record(to, from, f, far, point, &here, w.now)
	}
}
