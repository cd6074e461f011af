package linux

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vswitch/vswitch/control/host"
)

const (
	// tunnelAge is when the host's tunnels are read again, a dump of all links, though nothing
	// was heard of them.
	tunnelAge = 5 * time.Second
	// rawPeriod is how often sockets are looked at of which no hook tells: raw ones without
	// hooks of bind, and of SCTP, which take ports where no hook is.
	rawPeriod = 200 * time.Millisecond
	// watchRetry is the pause after a lost subscription.
	watchRetry = time.Second
)

// consumers are what the host's kernel said last. The zero value is ready.
type consumers struct {
	mu          sync.Mutex // guards what follows
	raw         []host.Consumer
	tunnels     []host.Consumer
	tunnelsRead time.Time

	stale atomic.Bool // the tunnels, since an event
}

// Consumers implements edge.Claims. On an error the last answer counts.
func (e *Edge) Consumers() []host.Consumer {
	s := &e.consumers
	s.mu.Lock()
	defer s.mu.Unlock()
	e.readRawLocked()
	if now := time.Now(); s.stale.Swap(false) || now.Sub(s.tunnelsRead) >= tunnelAge {
		if list, err := e.Host.Tunnels(); err == nil {
			s.tunnels = list
		}
		s.tunnelsRead = now
	}
	return slices.Concat(s.raw, s.tunnels)
}

// readRawLocked reports whether there are other sockets than before.
func (e *Edge) readRawLocked() bool {
	s := &e.consumers
	list, err := e.Host.RawSockets()
	if err != nil || slices.Equal(list, s.raw) {
		return false
	}
	s.raw = list
	return true
}

// WatchConsumers implements edge.Claims. The kernel tells of tunnels and of security
// associations, and the hooks of bind of raw sockets.
func (e *Edge) WatchConsumers(ctx context.Context, changed func()) {
	tunnels := func() {
		e.consumers.stale.Store(true)
		changed()
	}
	var all sync.WaitGroup
	all.Go(func() {
		e.rewatch(ctx, "tunnels of the host", func() error { return e.Host.WatchTunnels(ctx, tunnels) })
	})
	all.Go(func() {
		e.rewatch(ctx, "security associations of the host", func() error { return e.Host.WatchAssociations(ctx, tunnels) })
	})
	hears := e.Kernel.WatchesBinds()
	if hears {
		all.Go(func() {
			e.rewatch(ctx, "raw sockets of the host", func() error { return e.Kernel.HearTakers(ctx, changed) })
		})
	}
	tick := time.NewTicker(rawPeriod)
	defer tick.Stop()
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-tick.C:
			if e.looksAtSockets(hears) {
				changed()
			}
		}
	}
	all.Wait()
}

// looksAtSockets reports whether there are other sockets than before, of those that nothing
// tells of.
func (e *Edge) looksAtSockets(hears bool) bool {
	if hears && !host.HasSCTP() {
		return false
	}
	e.consumers.mu.Lock()
	defer e.consumers.mu.Unlock()
	return e.readRawLocked()
}

// rewatch goes on with a watch until ctx ends.
func (e *Edge) rewatch(ctx context.Context, what string, watch func() error) {
	for ctx.Err() == nil {
		if err := watch(); ctx.Err() == nil {
			e.cfg.Log.Error("watch of the "+what, "err", err, "retry", watchRetry)
		}
		select {
		case <-ctx.Done():
		case <-time.After(watchRetry):
		}
	}
}
