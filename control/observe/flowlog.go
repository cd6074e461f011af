package observe

import (
	"context"
	"sync"
	"time"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/control/journal"
	"github.com/vswitch/vswitch/control/server"
	"github.com/vswitch/vswitch/dataplane/conntrack"
)

const (
	keptFlows   = 16384
	flowLogTick = 200 * time.Millisecond // dataplane holds 8192 between two
)

// flowLog is the stream of flows that have ended. The data path remembers them
// only while somebody reads.
type flowLog struct {
	mu      sync.Mutex
	readers int
	journal *journal.Journal[endedFlow]
	stop    context.CancelFunc
}

// endedFlow is a flow that has ended: for people, and as the data path saw it at a
// time.
type endedFlow struct {
	view viewed
	info conntrack.Info
	seen time.Time
}

// FlowLog begins to read the flows that end from now on.
func (o *Observer) FlowLog(_ context.Context, name string) (server.Stream[api.Flow], error) {
	only, err := o.only(name)
	if err != nil {
		return nil, err
	}
	return o.readFlows(only), nil
}

// readFlows begins to read the flows of some containers, or of all.
func (o *Observer) readFlows(only *chosen) *flowStream {
	l := &o.flowLog
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.readers++; l.readers == 1 {
		var ctx context.Context
		ctx, l.stop = context.WithCancel(o.ctx)
		l.journal = journal.New(keptFlows, 0, func(f endedFlow) string { return f.view.Container })
		o.sw.RecordFlows(true)
		o.work.Go(func() { o.followFlows(ctx, l.journal) })
	}
	return &flowStream{o: o, at: l.journal.Tail(), only: only}
}

// followFlows moves what the data path remembers into the journal.
func (o *Observer) followFlows(ctx context.Context, ended *journal.Journal[endedFlow]) {
	tick := time.NewTicker(flowLogTick)
	defer tick.Stop()
	var infos []conntrack.Info
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		var lost uint64
		if infos, lost = o.sw.EndedFlows(infos[:0]); len(infos) == 0 && lost == 0 {
			continue
		}
		now := time.Now()
		names := o.dir.Now()
		for i := range infos {
			f := viewFlow(names, &infos[i], now.Add(-infos[i].Idle))
			end := f.Start.Add(infos[i].Age)
			f.End = &end
			ended.Add(func(uint64) endedFlow { return endedFlow{f, infos[i], now} })
		}
		if lost > 0 {
			ended.Add(func(uint64) endedFlow { return endedFlow{view: viewed{Flow: api.Flow{Lost: lost}}} })
		}
	}
}

type flowStream struct {
	o    *Observer
	at   *journal.Cursor[endedFlow]
	only *chosen
	once sync.Once
}

// Next implements server.Stream.
func (s *flowStream) Next(ctx context.Context) ([]api.Flow, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(s.o.ctx, cancel)()
	for {
		ended, lost, err := s.at.Read(ctx, true)
		if err != nil {
			return nil, err
		}
		list := s.mine(ended)
		if lost > 0 {
			list = append([]api.Flow{{Lost: lost}}, list...)
		}
		if len(list) > 0 {
			return list, nil
		}
	}
}

// mine leaves the flows of the containers that were asked for, as they see them.
func (s *flowStream) mine(ended []endedFlow) (list []api.Flow) {
	for i := range ended {
		if v := ended[i].view; v.Lost > 0 || s.only.has(v.near) || s.only.has(v.far) {
			list = append(list, s.only.seen(v))
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
		if l.readers--; l.readers == 0 {
			l.stop()
			s.o.sw.RecordFlows(false)
		}
	})
}
