package underlay

import (
	"context"
	"log/slog"
	"net/netip"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vswitch/vswitch/control/host"
	"github.com/vswitch/vswitch/dataplane"
	"github.com/vswitch/vswitch/dataplane/conntrack"
	"github.com/vswitch/vswitch/dataplane/header"
)

// quiet is a host with nothing of its own, that says nothing.
type quiet struct{ Edge }

func (quiet) Uplinks([]string) ([]host.Link, error) { return nil, nil }
func (quiet) Addrs() ([]host.Addr, error)           { return nil, nil }
func (quiet) Routes() ([]host.Route, error)         { return nil, nil }
func (quiet) Ruled() ([2]bool, error)               { return [2]bool{}, nil }
func (quiet) KeepUplinks(...int) ([]string, error)  { return nil, nil }

// The host's name servers and its range of local ports are followed, though the kernel says
// nothing of them.
func TestFilesOfTheHostAreFollowed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var servers atomic.Pointer[[]netip.Addr]
		servers.Store(&[]netip.Addr{})
		var ports atomic.Pointer[[]conntrack.PortRange]
		ports.Store(&[]conntrack.PortRange{})
		var changes atomic.Int32
		u := New(Config{
			Edge: quiet{}, Ports: &told{}, Log: slog.New(slog.DiscardHandler), Devices: func() map[int]bool { return nil },
			Chosen: func() map[string]Egress { return nil },
			Made:   func(host.Link) bool { return false }, Masquerade: func() (a, b []conntrack.PortRange) { return *ports.Load(), nil },
			Resolvers: func() []netip.Addr { return *servers.Load() }, Changed: func() error { changes.Add(1); return nil }, Settled: func() {}, Stale: func() {},
			Neighbors: func(map[dataplane.NeighborKey]header.MAC) {},
		})
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go u.Run(ctx)
		time.Sleep(time.Minute)
		if n := changes.Load(); n != 0 {
			t.Errorf("nothing has changed, and it was told %d times", n)
		}
		servers.Store(&[]netip.Addr{netip.MustParseAddr("169.254.9.9")})
		time.Sleep(2 * lookPause)
		if n := changes.Load(); n != 1 || !slices.Equal(u.Now().resolvers, *servers.Load()) {
			t.Errorf("told %d times, resolvers %v", n, u.Now().resolvers)
		}
		ports.Store(&[]conntrack.PortRange{{First: 20000, Last: 29999}})
		time.Sleep(2 * lookPause)
		if n := changes.Load(); n != 2 || !slices.Equal(u.Now().Masquerade, *ports.Load()) {
			t.Errorf("told %d times, masquerade has ports %v", n, u.Now().Masquerade)
		}
	})
}
