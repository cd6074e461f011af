package dataplane

import (
	"cmp"
	"slices"
	"sync/atomic"
	"time"

	"github.com/vswitch/vswitch/dataplane/conntrack"
	"github.com/vswitch/vswitch/dataplane/flowmap"
	"github.com/vswitch/vswitch/dataplane/frame"
	"github.com/vswitch/vswitch/dataplane/header"
)

// The rows outlive the process, and the programs carry on by them while nobody is there. The
// next switch finds them when it is made: the flows that they carry are its own from then on,
// whose frames may come to it. The rows are asked when all is restored that they were decided
// by (TakeOver), as after any change: those whose answer is the same to the byte are kept.
// Until then none is entered.

// find goes on with the flows whose rows a process before has left.
func (t *flowTable) find(sw *Switch) error {
	if t == nil {
		return nil
	}
	keys, err := t.maps.Entered()
	if err != nil {
		return err
	}
	now, known := t.maps.Ticks()
	used := make([]bool, t.made)
	var gone []flowmap.Key
	var dead []uint32 // of a pair each is asked before one ends
	for _, n := range keys {
		if int(n) < t.made && known && t.dead(n, now) {
			dead = append(dead, n)
		}
	}
	for _, n := range dead {
		t.entries[n].End()
	}
	for k, n := range keys {
		ours := int(n) < t.made && !used[n] && t.entries[n].Key == k
		if !ours || t.entries[n].IsOff() {
			gone = append(gone, k)
			continue
		}
		used[n] = true
		t.found = append(t.found, n)
	}
	// In the order in which they were used, as the shares have them.
	slices.SortFunc(t.found, func(a, b uint32) int { return cmp.Compare(t.entries[a].LastUse, t.entries[b].LastUse) })
	t.found = slices.DeleteFunc(t.found, func(n uint32) bool {
		m := &t.entries[n]
		if m.Flags&flowmap.Rewrite == 0 || sw.conntrack.Resume(n, t.idle(m, now, known)) {
			return false
		}
		m.End()
		gone, used[n] = append(gone, m.Key), false
		return true
	})
	if len(gone) > 0 {
		_ = t.maps.Delete(gone)
		t.maps.Wait()
	}
	t.free = slices.DeleteFunc(t.free, func(pair uint32) bool { return used[2*pair] || used[2*pair+1] })
	return nil
}

// TakeOver asks the rows that a process before has left, once all of its ports, networks and
// next hops are there again, and lets others be entered from then on. It returns how many are
// kept, and how many end: their flows go on by way of the switch.
func (s *Switch) TakeOver() (kept, ended int) {
	t := s.flows
	if t == nil {
		return 0, 0
	}
	defer s.told.settle(s)
	defer s.stations.takeOver(s)
	t.mu.Lock()
	defer t.mu.Unlock()
	v, now := s.view(), s.now()
	jiffies, known := t.maps.Ticks()
	var gone []*flowRow
	for _, n := range t.found {
		r := t.left(n)
		m := t.entry(r)
		r.since, r.seen = now, now-int64(t.idle(m, jiffies, known))
		d, ok := v.decide(&r.flow)
		if ok && d.row == m.Decision && !t.isOff(r) && t.takeOver(s, r, d) {
			kept++
			continue
		}
		gone = append(gone, r)
	}
	t.found = nil
	t.drop(s, gone)
	return kept, len(gone)
}

// left is a row as far as its entry tells.
func (t *flowTable) left(n uint32) *flowRow {
	m := &t.entries[n]
	r := &flowRow{number: n, decision: decision{row: m.Decision, routed: m.Flags&flowmap.Rewrite != 0}}
	r.flow = flowID{in: frame.PortID(min(m.Payer, MaxPorts-1)), dst: header.MAC(m.Match[:6]), src: header.MAC(m.Match[6:]), tuple: m.Key.Tuple()}
	return r
}

// takeOver makes a row that was left one of the table.
func (t *flowTable) takeOver(s *Switch, r *flowRow, d decision) bool {
	r.ports = [2]*portEntry{s.ports[r.flow.in].Load(), s.ports[d.out].Load()}
	if r.ports[0] == nil || r.ports[1] == nil || r.ports[0].tally == nil || d.routed && !s.conntrack.Lent(&r.flow.tuple, d.to, r.number) {
		return false
	}
	m := t.entry(r)
	r.decision, r.tenant = d, rowTenant(s.snapshot.Load(), r.flow.in, d.out)
	r.packets, r.bytes = atomic.LoadUint64(&m.Packets), atomic.LoadUint64(&m.Bytes)
	t.enterRow(r)
	if d.routed && atomic.LoadUint32(&m.Half.Doubt) != 0 && t.doubts.waiting < mostDoubts {
		t.doubts.add(doubt{number: r.number, generation: m.Generation, since: r.since, tenant: r.tenant})
	}
	if state := atomic.LoadUint32(&m.State); state != flowmap.Active && atomic.CompareAndSwapUint32(&m.State, state, flowmap.Pending) {
		m.LastIn = 0 // of another tally
		t.pending = append(t.pending, r)
	}
	if !d.routed {
		m.Timeout = t.maps.InJiffies(s.snapshot.Load().timeouts.Lasting(r.flow.tuple.Proto))
		if r.since-r.seen < accountIdle {
			r.ports[0].owner.accounts.carried(s, r, r.packets, r.bytes, conntrack.BornAt(m.Born, r.since), r.seen)
		}
	}
	return true
}

// drop ends rows that are none of the table's.
func (t *flowTable) drop(s *Switch, rows []*flowRow) {
	if len(rows) == 0 {
		return
	}
	keys := make([]flowmap.Key, len(rows))
	for i, r := range rows {
		t.entry(r).End()
		keys[i] = r.row.Key
	}
	_ = t.maps.Delete(keys)
	t.maps.Wait()
	for _, r := range rows {
		if r.routed {
			s.conntrack.TakeBack(&r.flow.tuple, r.number)
		}
		t.release(r.number)
	}
}

// leftTime is for how long claims of a process before are kept that are no flow's yet: a flow
// without a row begins again with the container's next packet, and until then its peer must not
// hear from the host that there is none.
const leftTime = int64(time.Minute)

// dropLeft gives back what is claimed for no flow, once.
func (s *Switch) dropLeft(now int64) {
	if s.left == 0 || now < s.left {
		return
	}
	s.left = 0
	s.conntrack.CloseLeft()
	if s.peers == nil {
		return
	}
	claimed, err := s.peers.Claimed()
	if err != nil {
		s.left = now + leftTime
		return
	}
	addrs := make(map[uint8]header.Addr)
	for a, slot := range s.snapshot.Load().slots {
		addrs[uint8(slot)] = a
	}
	for _, p := range claimed {
		s.conntrack.Leftover(p, &header.Tuple{Src: p.Addr, SrcPort: p.PeerPort, Dst: addrs[p.Slot], DstPort: p.Port, Proto: p.Proto})
	}
}

// begunBits is how many hashes are told apart. Two that fall together cost a reset at most.
const begunBits = 1 << 14

// ofFlowBefore reports whether a segment is of a connection that this switch does not know, to a
// port of masquerade: that of another container's flow which nobody has taken over. The host would
// reset it. The sender tries again, and the other container may have gone on with its flow by then.
func (w *worker) ofFlowBefore(l *header.Layers, s *Snapshot) bool {
	if l.Kind != header.KindL4 || !w.sw.ofFlowBefore(&l.Tuple, s, w.now) {
		return false
	}
	if l.TCPFlags&header.TCPSYN != 0 {
		word, bit := w.sw.begunAt(&l.Tuple)
		word.Or(bit) // the host may send it on, as kube-proxy and portmap do
		return false
	}
	return true
}

// ofFlowBefore is that of a segment which begins no connection.
func (s *Switch) ofFlowBefore(t *header.Tuple, snapshot *Snapshot, now int64) bool {
	if now-s.began >= leftTime || !snapshot.mayBeBefore(t, s.busy.Load()) {
		return false
	}
	word, bit := s.begunAt(t)
	return word.Load()&bit == 0
}

// begunAt is where it is noted that a connection has begun.
func (s *Switch) begunAt(t *header.Tuple) (*atomic.Uint64, uint64) {
	at := s.conntrack.Hash(t) % begunBits
	return &s.begun[at/64], uint64(1) << (at % 64)
}

// mayBeBefore reports whether a connection goes to a port of masquerade that no program of the
// host has.
func (s *Snapshot) mayBeBefore(t *header.Tuple, busy *conntrack.BusyPorts) bool {
	return t.Proto == header.ProtoTCP && s.pool.Has(t.DstPort) && !busy.Has(t.Proto, t.DstPort)
}
