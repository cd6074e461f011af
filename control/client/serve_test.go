package client_test

import (
	"context"
	"fmt"
	"log"
	"log/slog"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/control/client"
	"github.com/vswitch/vswitch/control/pcapng"
	"github.com/vswitch/vswitch/control/server"
)

// serve runs the real server on a socket, before a ledger in place of a switch.
func serve() (socket string, stop func()) {
	dir, err := os.MkdirTemp("", "client")
	if err != nil {
		log.Fatal(err)
	}
	socket = client.Socket(dir + "/run")
	l, err := server.Listen(socket)
	if err != nil {
		log.Fatal(err)
	}
	srv := server.New(server.Handler(&ledger{networks: map[string]bool{"bridge": true}}, nil, slog.New(slog.DiscardHandler)), slog.New(slog.DiscardHandler))
	go srv.Serve(l)
	return socket, func() {
		srv.Close()
		os.RemoveAll(dir)
	}
}

// ledger is a Backend that writes down who is attached, and wires nobody.
type ledger struct {
	server.Backend // nil: what the examples do not ask for
	mu             sync.Mutex
	networks       map[string]bool
	list           []api.Container
	events         []api.Event
}

func (l *ledger) find(name string) (int, error) {
	for i := range l.list {
		if l.list[i].Name == name {
			return i, nil
		}
	}
	return -1, fmt.Errorf("container %s: %w: see vswitch ps", name, api.ErrNotFound)
}

func (l *ledger) Network(_ context.Context, name string) (api.Network, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.networks[name] {
		return api.Network{}, fmt.Errorf("network %s: %w", name, api.ErrNotFound)
	}
	return api.Network{Name: name}, nil
}

func (l *ledger) CreateNetwork(_ context.Context, in api.NetworkCreate) (api.Network, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.networks[in.Name] = true
	return api.Network{Name: in.Name}, nil
}

func (l *ledger) Attach(_ context.Context, in api.Attach) (api.Container, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	ct := api.Container{Name: in.Name, Runtime: in.Runtime, RuntimeID: in.RuntimeID, Ports: mappings(in.Publish)}
	if in.Networks == nil {
		in.Networks = []api.Connect{{Network: "bridge"}}
	}
	for i, n := range in.Networks {
		ct.Endpoints = append(ct.Endpoints, api.Endpoint{
			Network: n.Network, Interface: fmt.Sprint("eth", i), Address: fmt.Sprintf("10.88.0.%d/24", len(l.list)+2),
		})
	}
	l.list = append(l.list, ct)
	l.events = append(l.events, api.Event{
		Seq: uint64(len(l.events) + 1), Time: time.Now(), Type: api.EventAttach, Message: "container " + in.Name + " attached",
	})
	return ct, nil
}

func mappings(rules []string) (list []api.PortMapping) {
	for _, r := range rules {
		host, port, _ := strings.Cut(r, ":")
		h, _ := strconv.ParseUint(host, 10, 16)
		p, _ := strconv.ParseUint(port, 10, 16)
		list = append(list, api.PortMapping{Proto: "tcp", HostPort: uint16(h), HostPortEnd: uint16(h), Port: uint16(p), PortEnd: uint16(p)})
	}
	return list
}

func (l *ledger) Detach(_ context.Context, name string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if i, err := l.find(name); err == nil {
		l.list = append(l.list[:i], l.list[i+1:]...)
	}
	return nil
}

func (l *ledger) Release(_ context.Context, in api.Release) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i, ct := range l.list {
		if ct.Runtime == in.Runtime && ct.RuntimeID == in.RuntimeID {
			l.list = append(l.list[:i], l.list[i+1:]...)
			break
		}
	}
	return nil
}

func (l *ledger) Container(_ context.Context, name string) (api.Container, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	i, err := l.find(name)
	if err != nil {
		return api.Container{}, err
	}
	return l.list[i], nil
}

func (l *ledger) Containers(_ context.Context, f api.ContainerFilter) (list []api.Container, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, ct := range l.list {
		if f.Runtime == "" || f.Runtime == ct.Runtime {
			list = append(list, ct)
		}
	}
	return list, nil
}

func (l *ledger) Publish(_ context.Context, name string, rules []string) ([]api.PortMapping, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	i, err := l.find(name)
	if err != nil {
		return nil, err
	}
	l.list[i].Ports = append(l.list[i].Ports, mappings(rules)...)
	return mappings(rules), nil
}

func (l *ledger) Ports(ctx context.Context, name string) ([]api.PortMapping, error) {
	ct, err := l.Container(ctx, name)
	return ct.Ports, err
}

func (l *ledger) Events(context.Context, api.EventQuery) (server.Stream[api.Event], error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return &story{l.events}, nil
}

// story is a stream of what has happened.
type story struct{ events []api.Event }

func (s *story) Next(context.Context) (list []api.Event, err error) {
	list, s.events = s.events, nil
	return list, nil
}

func (s *story) Close() {}

func (l *ledger) Capture(context.Context, server.CaptureConfig) (server.Capture, error) {
	return silence{}, nil
}

// silence is a capture that sees no frame and has an end.
type silence struct{}

func (silence) Next(context.Context) (server.Frame, bool, error) { return server.Frame{}, false, nil }
func (silence) Doze(time.Duration)                               {}
func (silence) Ready() (f server.Frame, ok bool)                 { return f, false }
func (silence) Interfaces() []pcapng.Interface                   { return []pcapng.Interface{{Name: "web/eth0 rx"}} }
func (silence) Names() []server.Name                             { return nil }
func (silence) Counts(int) (taken, lost uint64)                  { return 0, 0 }
func (silence) Close()                                           {}
func (silence) Release()                                         {}
