package control

import (
	"context"
	"sync"
	"time"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/control/server"
	"github.com/vswitch/vswitch/dataplane"
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
	journal *journal[endedFlow]
	stop    context.CancelFunc
}

// endedFlow is a flow that has ended: for people, and as the data path saw it at a
// time.
type endedFlow struct {
	view api.Flow
	info dataplane.ConnInfo
	seen time.Time
}

// FlowLog begins to read the flows that end from now on.
func (c *Controller) FlowLog(_ context.Context, name string) (server.Stream[api.Flow], error) {
	if name != "" {
		ct, err := c.Container(c.ctx, name)
		if err != nil {
			return nil, err
		}
		name = ct.Name
	}
	return c.readFlows(name), nil
}

// readFlows begins to read the flows of a container, by its very name, or of all.
func (c *Controller) readFlows(name string) *flowStream {
	l := &c.flowLog
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.readers++; l.readers == 1 {
		var ctx context.Context
		ctx, l.stop = context.WithCancel(c.ctx)
		l.journal = newJournal[endedFlow](keptFlows, 0)
		c.sw.RecordFlows(true)
		c.spawn(func() { c.followFlows(ctx, l.journal) })
	}
	return &flowStream{c: c, at: l.journal.tail(), only: name}
}

// followFlows moves what the data path remembers into the journal.
func (c *Controller) followFlows(ctx context.Context, j *journal[endedFlow]) {
	tick := time.NewTicker(flowLogTick)
	defer tick.Stop()
	var infos []dataplane.ConnInfo
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		var lost uint64
		if infos, lost = c.sw.EndedFlows(infos[:0]); len(infos) == 0 && lost == 0 {
			continue
		}
		now := time.Now()
		c.mu.Lock()
		names := c.flowNamesLocked()
		for i := range infos {
			f := names.view(&infos[i], now.Add(-infos[i].Idle))
			end := f.Start.Add(infos[i].Age)
			f.End = &end
			j.add(func(uint64) endedFlow { return endedFlow{f, infos[i], now} })
		}
		c.mu.Unlock()
		if lost > 0 {
			j.add(func(uint64) endedFlow { return endedFlow{view: api.Flow{Lost: lost}} })
		}
	}
}

type flowStream struct {
	c    *Controller
	at   *cursor[endedFlow]
	only string
	once sync.Once
}

// Next implements server.Stream.
func (s *flowStream) Next(ctx context.Context) ([]api.Flow, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(s.c.ctx, cancel)()
	for {
		ended, lost, err := s.at.read(ctx, true)
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

// mine leaves the flows of the container that was asked for, as it sees them.
func (s *flowStream) mine(ended []endedFlow) (list []api.Flow) {
	for i := range ended {
		switch f := ended[i].view; {
		case s.only == "" || f.Container == s.only || f.Lost > 0:
			list = append(list, f)
		case f.Peer == s.only:
			list = append(list, turned(f))
		}
	}
	return list
}

// Close implements server.Stream.
func (s *flowStream) Close() {
	s.once.Do(func() {
		l := &s.c.flowLog
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.readers--; l.readers == 0 {
			l.stop()
			s.c.sw.RecordFlows(false)
		}
	})
}
