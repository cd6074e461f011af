package claims

import (
	"context"
	"log/slog"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/control/edge"
	"github.com/vswitch/vswitch/control/host"
	"github.com/vswitch/vswitch/dataplane/conntrack"
	"github.com/vswitch/vswitch/dataplane/header"
)

// binding is a host whose kernel binds ports for itself.
type binding struct {
	Edge
	list    atomic.Pointer[[]host.Socket]
	changed func()
}

func (b *binding) BusyPorts() ([]host.Socket, error) { return *b.list.Load(), nil }

func (b *binding) OthersPorts() ([]edge.OthersPorts, error) { return nil, nil }

func (b *binding) Intruders() ([]host.Socket, error) { return nil, nil }

func (b *binding) WatchPorts(ctx context.Context, changed func()) {
	b.changed = changed
	<-ctx.Done()
}

// TestS31KernelBindsAPort: a port that the kernel binds for a tunnel is told at once, and links
// that come and go do not keep the list being read.
func TestS31KernelBindsAPort(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		h := new(binding)
		h.list.Store(new([]host.Socket))
		var told atomic.Pointer[conntrack.BusyPorts]
		var times atomic.Int32
		done := make(chan struct{})
		go func() {
			defer close(done)
			New(h, nil, slog.New(slog.DiscardHandler)).Follow(ctx, func(b *conntrack.BusyPorts) { told.Store(b); times.Add(1) }, func(api.Event) {})
		}()
		synctest.Wait()
		h.list.Store(&[]host.Socket{{Proto: header.ProtoUDP, Port: 4789}})
		h.changed()
		synctest.Wait()
		if b := told.Load(); b == nil || !b.Has(header.ProtoUDP, 4789) {
			t.Error("the port of the tunnel is not told before the next look")
		}
		for range 1000 {
			h.changed()
			time.Sleep(time.Millisecond)
		}
		if n := times.Load(); n > 10 {
			t.Errorf("the list was read %d times in a second", n)
		}
		cancel()
		<-done
	})
}
