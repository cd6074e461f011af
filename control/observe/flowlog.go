package observe

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/control/directory"
	"github.com/vswitch/vswitch/control/journal"
	"github.com/vswitch/vswitch/control/server"
	"github.com/vswitch/vswitch/dataplane/conntrack"
)

const (
	keptFlows   = 16384
	flowLogTick = 200 * time.Millisecond // dataplane holds 8192 between two
)

// flowLog is the stream of flows that have ended, and of those that have begun. The data path
// remembers either only while somebody reads.
type flowLog struct {
	mu                 sync.Mutex
	readers, followers int // of ends, and of begins too
	journal            *journal.Journal[toldFlow]
	stop               context.CancelFunc
}

// toldFlow is a flow that has begun or ended: for people, and as the data path saw it at a
// time.
type toldFlow struct {
	view viewed
	info conntrack.Info
	seen time.Time
}

// FlowLog begins to read the flows that end from now on, and if q says so those that begin.
func (o *Observer) FlowLog(_ context.Context, q api.FlowQuery) (server.Stream[api.Flow], error) {
	f, err := o.flowFilter(q)
	if err != nil {
		return nil, err
	}
	return o.readFlows(f), nil
}

// readFlows begins to read the flows that a filter wants.
func (o *Observer) readFlows(f flowFilter) *flowStream {
	l := &o.flowLog
	l.mu.Lock()
	defer l.mu.Unlock()
	if f.q.Begins {
		l.followers++
	}
	if l.readers++; l.readers == 1 {
		var ctx context.Context
		ctx, l.stop = context.WithCancel(o.ctx)
		l.journal = journal.New(keptFlows, 0, func(f toldFlow) string { return f.view.Container })
		o.work.Go(func() { o.followFlows(ctx, l.journal) })
	}
	o.sw.RecordFlows(true, l.followers > 0)
	return &flowStream{o: o, at: l.journal.Tail(), only: f}
}

// followFlows moves what the data path remembers into the journal.
func (o *Observer) followFlows(ctx context.Context, told *journal.Journal[toldFlow]) {
	tick := time.NewTicker(flowLogTick)
	defer tick.Stop()
	var begun, ended []conntrack.Info
	drops := refusals{last: time.Now()}
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		var lost [2]uint64
		begun, lost[0] = o.sw.BegunFlows(begun[:0]) // first: what begins and ends is told so
		ended, lost[1] = o.sw.EndedFlows(ended[:0])
		now, names := time.Now(), o.dir.Now()
		for _, i := range parts(begun) {
			f := viewFlow(names, &i, now.Add(-i.Idle))
			f.Event, f.Verdict = api.FlowBegins, api.FlowPasses
			told.Add(func(uint64) toldFlow { return toldFlow{f, i, now} })
		}
		if o.following() {
			for _, f := range drops.next(o, names, now) {
				told.Add(func(uint64) toldFlow { return toldFlow{view: f} })
			}
		}
		for _, i := range parts(ended) {
			f := viewFlow(names, &i, now.Add(-i.Idle))
			end := f.Start.Add(i.Age)
			f.End, f.Event, f.Verdict = &end, api.FlowEnds, api.FlowPasses
			told.Add(func(uint64) toldFlow { return toldFlow{f, i, now} })
		}
		if n := lost[0] + lost[1]; n > 0 {
			told.Add(func(uint64) toldFlow { return toldFlow{view: viewed{Flow: api.Flow{Lost: n}}} })
		}
	}
}

func (o *Observer) following() bool {
	o.flowLog.mu.Lock()
	defer o.flowLog.mu.Unlock()
	return o.flowLog.followers > 0
}

// parts makes one flow of what several workers tell of a bridged one.
func parts(list []conntrack.Info) []conntrack.Info {
	i := slices.IndexFunc(list, func(i conntrack.Info) bool { return i.Kind == conntrack.KindBridged })
	if i < 0 {
		return list
	}
	bridged := slices.DeleteFunc(slices.Clone(list), func(i conntrack.Info) bool { return i.Kind != conntrack.KindBridged })
	rest := slices.DeleteFunc(list, func(i conntrack.Info) bool { return i.Kind == conntrack.KindBridged })
	return append(rest, conntrack.MergeParts(bridged)...)
}

const (
	refusalAgain  = 10 * time.Second // until the same is told again
	refusalsKnown = 1024
)

// refusals tells packets that were dropped as flows that did not come to be.
type refusals struct {
	last time.Time
	told map[string]time.Time
}

// next are the refusals since the last call: of those alike one in refusalAgain.
func (r *refusals) next(o *Observer, names *directory.Directory, now time.Time) (list []viewed) {
	since := r.last.Add(-flowLogTick)
	r.last = now
	drops, err := o.LastDrops(o.ctx, "")
	if err != nil {
		return nil
	}
	for _, d := range slices.Backward(drops) { // the oldest first
		host, _, err := net.SplitHostPort(d.Source)
		if err != nil {
			host = d.Source
		}
		key := d.Reason + " " + host + " " + d.Dest
		if d.Source == "" || d.Time.Before(since) || now.Sub(r.told[key]) < refusalAgain {
			continue
		}
		if r.told == nil || len(r.told) >= refusalsKnown {
			r.told = make(map[string]time.Time)
		}
		r.told[key] = now
		f := viewed{Flow: api.Flow{
			Event: api.FlowRefused, Verdict: d.Reason, Proto: d.Proto, Network: d.Network, Direction: api.FlowOut, Start: d.Time,
			Container: d.Container, Address: d.Source, Peer: d.Peer, PeerAddress: d.Dest,
		}, near: endOf(names, d.Source), far: endOf(names, d.Dest)}
		if f.near.of == nil && d.Container != "" { // it uses another's address
			f.near.of = names.Named(d.Container)
		}
		if f.Container == "" && f.Peer != "" {
			f = f.turned()
		}
		list = append(list, f)
	}
	return list
}

// endOf is the end that has an address, with a port or without.
func endOf(names *directory.Directory, text string) end {
	if at, err := netip.ParseAddrPort(text); err == nil {
		return endAt(names, at.Addr())
	}
	if a, err := netip.ParseAddr(text); err == nil {
		return endAt(names, a)
	}
	return end{}
}

type flowStream struct {
	o    *Observer
	at   *journal.Cursor[toldFlow]
	only flowFilter
	once sync.Once
}

// Next implements server.Stream.
func (s *flowStream) Next(ctx context.Context) ([]api.Flow, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(s.o.ctx, cancel)()
	for {
		told, lost, err := s.at.Read(ctx, true)
		if err != nil {
			return nil, err
		}
		list := s.mine(told)
		if lost > 0 {
			list = append([]api.Flow{{Lost: lost}}, list...)
		}
		if len(list) > 0 {
			return list, nil
		}
	}
}

// mine leaves what was asked for, as it is seen from there.
func (s *flowStream) mine(told []toldFlow) (list []api.Flow) {
	for i := range told {
		f := told[i].view
		if f.Lost > 0 {
			list = append(list, f.Flow)
		} else if v, ok := s.only.seen(f); ok && (f.Event == api.FlowEnds || s.only.q.Begins) {
			list = append(list, v)
		}
	}
	return list
}

// Close implements server.Stream.
func (s *flowStream) Close() {
	s.once.Do(func() {
		l := &s.o.flowLog
		l.mu.Lock()
		defer l.mu.Unlock()
		if s.only.q.Begins {
			l.followers--
		}
		if l.readers--; l.readers == 0 {
			l.stop()
		}
		s.o.sw.RecordFlows(l.readers > 0, l.followers > 0)
	})
}
