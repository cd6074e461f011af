package dataplane

import (
	"sync/atomic"

	"github.com/vswitch/vswitch/dataplane/flowmap"
)

// revalidate asks rows again after a change: all of them, or those that one may
// concern. Rows whose answer is another now end. The caller has made the change visible
// and let the turns run out that began before it (grace); when revalidate has returned,
// no program runs with a decision of before either.
func (t *flowTable) revalidate(sw *Switch, concerns func(*flowRow) bool) {
	if t == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	v := sw.view()
	var ended []*flowRow
	for i := range t.places {
		r := t.places[i].row
		if r == nil || concerns != nil && !concerns(r) {
			continue
		}
		if d, ok := v.decide(&r.flow); !ok || d != r.decision || t.isOff(r) {
			ended = append(ended, r)
		}
	}
	if t.end(ended); len(ended) > 0 {
		t.maps.Wait()
		t.settleEnded(sw, ended)
	}
}

// isOff reports whether a row has been turned off by the end of its connection.
func (t *flowTable) isOff(r *flowRow) bool {
	return t.entry(r).IsOff()
}

// end gives the frames of rows back to the switch. A program that runs may still carry
// one: settleEnded comes when none does any more.
func (t *flowTable) end(rows []*flowRow) {
	if len(rows) == 0 {
		return
	}
	keys := make([]flowmap.Key, len(rows))
	for i, r := range rows {
		t.entry(r).End()
		keys[i] = r.row.Key
		delete(t.rows, r.row.Key)
		t.count.Add(-1)
		t.leads[r.out]--
		t.shares.Leave(r.number+1, r.tenant, 0, 1)
		t.places[r.number] = place{rests: true}
	}
	_ = t.maps.Delete(keys)
}

// settleEnded takes over what the programs have counted and learned, and makes the entries
// free for others.
func (t *flowTable) settleEnded(sw *Switch, rows []*flowRow) {
	now := sw.now()
	for _, r := range rows {
		t.read(sw, r, now)
		if r.routed {
			sw.conntrack.TakeBack(&r.flow.tuple, r.number)
		}
		t.release(r.number)
	}
}

// read adds what the kernel carried to the counters of the ports and of the flow. It
// reports whether there was something, and whether the flow still lives.
func (t *flowTable) read(sw *Switch, r *flowRow, now int64) (carried, lives bool) {
	m := t.entry(r)
	packets, bytes := atomic.LoadUint64(&m.Packets)-r.packets, atomic.LoadUint64(&m.Bytes)-r.bytes
	if packets == 0 {
		return false, true
	}
	r.packets += packets
	r.bytes += bytes
	t.frames += packets
	in, out := r.ports[0], r.ports[1]
	in.counters[0].rx.Add(packets)
	in.counters[0].rxBytes.Add(bytes)
	out.counters[0].tx.Add(packets)
	out.counters[0].txBytes.Add(bytes)
	if !r.routed {
		in.owner.accounts.carried(sw, r, packets, bytes, now, now)
		return true, true
	}
	// The host's kernel does not see the frames, so it must be asked whether the next
	// hop is still there.
	sw.neigh.Load().macs[r.next].use()
	return true, sw.conntrack.Carried(&r.flow.tuple, r.number, m, now)
}

// sweep reads the counters and ends rows whose flow has ended, or was idle for too long to be
// one, and idle rows where room is short. A row of no connection is asked again: one may have
// begun that has its tuple. Where rows have ended it waits for the programs, and keeps nobody
// from the table meanwhile.
func (t *flowTable) sweep(sw *Switch, now int64) {
	if t == nil {
		return
	}
	ended := t.sweepRows(sw, now)
	if len(ended) == 0 {
		return
	}
	t.maps.Wait()
	t.mu.Lock()
	defer t.mu.Unlock()
	t.settleEnded(sw, ended)
}

// sweepRows returns the rows that have ended, here and since the last time.
func (t *flowTable) sweepRows(sw *Switch, now int64) (ended []*flowRow) {
	t.mu.Lock()
	defer t.mu.Unlock()
	v := sw.view()
	for i := range t.places {
		r := t.places[i].row
		if r == nil {
			continue
		}
		carried, lives := t.read(sw, r, now)
		if carried {
			r.seen = now
			if !r.routed {
				d, ok := v.decide(&r.flow)
				lives = ok && d == r.decision
			}
		}
		if !lives || t.isOff(r) || t.over(r, now) {
			ended = append(ended, r)
		}
	}
	t.end(ended)
	never := t.settleDoubts(sw, mostDoubts, now-doubtTime)
	t.end(never)
	ended = append(append(ended, t.endOff()...), never...)
	ended = t.relieve(now, append(t.resting, ended...))
	t.resting = nil
	return ended
}

// FlowRows is the number of rows of the flow table, and how often one led to a port that
// had none: what frames must pass on their way there is worth a look. It takes no lock.
func (s *Switch) FlowRows() (rows int, firsts uint64) {
	if s.flows == nil {
		return 0, 0
	}
	between, begun := s.stations.activity()
	return int(s.flows.count.Load()) + between, s.flows.firsts.Load() + begun
}

// stats reads the counters.
func (t *flowTable) stats(sw *Switch) (st FlowStats) {
	if t == nil {
		return st
	}
	t.sweep(sw, sw.now())
	t.mu.Lock()
	defer t.mu.Unlock()
	st.Rows, st.Frames = len(t.rows), t.frames
	for _, r := range t.rows {
		if atomic.LoadUint32(&t.entry(r).State) == flowmap.Active {
			st.Active++
		}
	}
	return st
}
