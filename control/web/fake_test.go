package web

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/control/server"
)

var quiet = slog.New(slog.DiscardHandler)

// fake is a daemon of n containers, each a bit busier than the one before, and of
// as many flows as are asked for. What the page must not call is nil.
type fake struct {
	server.Backend
	n, flows int
	reads    atomic.Int64
	asked    atomic.Uint64 // for flows

	mu     sync.Mutex
	events []api.Event
	more   chan struct{}
}

func newFake(n, flows int) *fake { return &fake{n: n, flows: flows, more: make(chan struct{}, 1)} }

func (f *fake) Info(context.Context) (api.Info, error) {
	return api.Info{Version: "test", Uplinks: []api.Uplink{{Interface: "eth0", Addresses: []string{"198.51.100.1"}, Gateway: "198.51.100.9", MTU: 1500}}}, nil
}

func (f *fake) Networks(context.Context) ([]api.Network, error) {
	return []api.Network{{Name: "bridge", ICC: true, HostAccess: true, Subnets: []api.Subnet{{Subnet: "10.88.0.0/16", Gateway: "10.88.0.1", Mode: "nat"}}}}, nil
}

func (f *fake) name(i int) string { return fmt.Sprintf("c%d", i) }

func (f *fake) Containers(context.Context, api.ContainerFilter) ([]api.Container, error) {
	list := []api.Container{}
	for i := range f.n {
		list = append(list, api.Container{
			Name: f.name(i), Mode: "bridge", Ports: []api.PortMapping{},
			Endpoints: []api.Endpoint{{Network: "bridge", Interface: "eth0", HostInterface: "veth" + f.name(i), Addresses: []string{fmt.Sprintf("10.88.%d.%d/16", i/250, i%250+2)}, Gateways: []string{"10.88.0.1"}}},
		})
	}
	return list, nil
}

// Stats grows with every reading; c0 is silent.
func (f *fake) Stats(context.Context, api.StatsQuery) (api.Stats, error) {
	n := uint64(f.reads.Add(1))
	st := api.Stats{Drops: map[string]uint64{"guard-spoofed-ip": n}, Connections: f.flows, Ports: []api.PortStats{
		{Port: "eth0", Kind: "uplink", RxBytes: n * 1000, RxFrames: n},
		{Port: "vs-1", Kind: "host", Network: "bridge"},
	}}
	for i := range f.n {
		st.Ports = append(st.Ports, api.PortStats{
			Port: "veth" + f.name(i), Kind: "container", Network: "bridge", Container: f.name(i),
			RxBytes: n * uint64(i) * 1000, RxFrames: n * uint64(i),
		})
	}
	return st, nil
}

// rowsOf are the rows of a list in pieces of hundred.
func rowsOf[T any](list []T) server.Rows[T] { return slices.Chunk(list, 100) }

func (f *fake) Flows(context.Context, api.FlowQuery) (server.Rows[api.Flow], error) {
	list := make([]api.Flow, f.flows)
	for i := range list {
		list[i] = api.Flow{
			Proto: "tcp", Kind: "masquerade", State: "established", Network: "bridge", Container: f.name(i % max(1, f.n)), Direction: "out",
			Address: fmt.Sprintf("10.88.0.2:%d", i), PeerAddress: fmt.Sprintf("203.0.113.%d:443", i%250), Rate: float64(i),
		}
	}
	if f.n > 1 && f.flows > 1 { // two that came by c1's published port
		n := f.asked.Add(1) * 1000
		for i := range 2 {
			list[i] = api.Flow{PeerAddress: fmt.Sprintf("203.0.113.9:%d", i), SentBytes: n, Age: 60, Start: time.Unix(1_700_000_000, 0), Proto: "tcp", Kind: "publish", State: "established", Container: "c1", Direction: "in", Address: "10.88.0.3:80", Outside: "198.51.100.1:8080", Rate: 1000}
		}
	}
	return rowsOf(list), nil
}

func (f *fake) FDB(context.Context) (server.Rows[api.FDBEntry], error) {
	return rowsOf([]api.FDBEntry{}), nil
}
func (f *fake) NAT(context.Context, api.NATQuery) (server.Rows[api.NATEntry], error) {
	return rowsOf([]api.NATEntry{}), nil
}

func (f *fake) happen(e api.Event) {
	f.mu.Lock()
	f.events = append(f.events, e)
	f.mu.Unlock()
	select {
	case f.more <- struct{}{}:
	default:
	}
}

func (f *fake) Events(context.Context, api.EventQuery) (server.Stream[api.Event], error) {
	return &fakeEvents{f: f}, nil
}

type fakeEvents struct {
	f    *fake
	seen int
}

func (s *fakeEvents) Next(ctx context.Context) ([]api.Event, error) {
	for {
		s.f.mu.Lock()
		list := s.f.events[s.seen:]
		s.seen = len(s.f.events)
		s.f.mu.Unlock()
		if len(list) > 0 {
			return list, nil
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-s.f.more:
		}
	}
}

func (s *fakeEvents) Close() {}

// handlerOf is a page of a backend whose API and metrics answer with their path.
func handlerOf(b server.Backend, token string) http.Handler {
	echo := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "echo "+r.URL.Path) })
	return Handler(Config{Backend: b, API: echo, Metrics: echo, Token: token, Log: quiet})
}
