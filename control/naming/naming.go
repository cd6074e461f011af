// Package naming tells the resolver who is called what, and at which gateways it answers.
package naming

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/control/directory"
	"github.com/vswitch/vswitch/control/edge"
	"github.com/vswitch/vswitch/control/host"
	"github.com/vswitch/vswitch/control/metrics"
	"github.com/vswitch/vswitch/control/names"
	"github.com/vswitch/vswitch/control/resolver"
	"github.com/vswitch/vswitch/dataplane"
	"github.com/vswitch/vswitch/dataplane/header"
)

// listenersPeriod is how soon a program of the host has port 53 of a gateway that it has bound, and
// the resolver has it back.
const listenersPeriod = 2 * time.Second

// shortID is how much of its ID a runtime's user sees, and has for a name.
const shortID = 12

// Naming follows the directory and the host's sockets. A nil one answers nobody.
type Naming struct {
	edge edge.Edge
	dir  *directory.Live
	log  *slog.Logger
	tell func(api.Event)

	resolver edge.Resolver
	changed  chan struct{}

	// Of Run alone.
	listeners  []host.Socket // at port 53, as they were last read
	networks   map[string]*directory.Network
	containers map[string]*directory.Container
	gateways   map[netip.Addr]at

	mu    sync.Mutex // guards what follows
	taken map[netip.Addr]string
}

// at is how a gateway answers.
type at struct {
	network  string
	tcp, udp bool
}

// New starts a resolver. Run tells it all that there is.
func New(e edge.Edge, dir *directory.Live, log *slog.Logger, tell func(api.Event)) (*Naming, error) {
	n := &Naming{
		edge: e, dir: dir, log: log, tell: tell, changed: make(chan struct{}, 1),
		networks: make(map[string]*directory.Network), containers: make(map[string]*directory.Container), gateways: make(map[netip.Addr]at),
		taken: make(map[netip.Addr]string),
	}
	var err error
	if n.resolver, err = e.AnswerNames(n.serverChanged); err != nil {
		return nil, err
	}
	return n, nil
}

// Run follows the directory and the host's sockets until ctx ends.
func (n *Naming) Run(ctx context.Context) {
	if n == nil {
		return
	}
	defer n.dir.Watch(func() {
		select {
		case n.changed <- struct{}{}:
		default:
		}
	})()
	n.readListeners()
	n.sync()
	n.resolver.Begin()
	tick := time.NewTicker(listenersPeriod)
	defer tick.Stop()
	for {
		n.sync()
		select {
		case <-ctx.Done():
			return
		case <-n.changed:
		case <-tick.C:
			n.readListeners()
		}
	}
}

func (n *Naming) readListeners() {
	list, err := n.edge.Listeners(dataplane.PortOfNames)
	if err != nil {
		n.log.Error("read the host's sockets", "err", err)
		return
	}
	n.listeners = list
}

// sync tells what is another than it was told.
func (n *Naming) sync() {
	d := n.dir.Now()
	networks := make(map[string]*directory.Network)
	for net := range d.Networks() {
		networks[net.ID] = net
		if n.networks[net.ID] != net {
			n.resolver.PutNetwork(networkOf(net))
		}
	}
	for id := range n.networks {
		if networks[id] == nil {
			n.resolver.DropNetwork(id)
		}
	}
	renamed := !sameNames(n.networks, networks) // containers' places are by the networks' names
	n.networks = networks
	containers := make(map[string]*directory.Container)
	for ct := range d.Containers() {
		containers[ct.ID] = ct
		if renamed || n.containers[ct.ID] != ct {
			n.resolver.PutContainer(containerOf(d, ct))
		}
	}
	for id := range n.containers {
		if containers[id] == nil {
			n.resolver.DropContainer(id)
		}
	}
	n.containers = containers
	n.syncGateways()
}

func sameNames(a, b map[string]*directory.Network) bool {
	if len(a) != len(b) {
		return false
	}
	for id, n := range a {
		if b[id] == nil || b[id].Name != n.Name {
			return false
		}
	}
	return true
}

func networkOf(d *directory.Network) names.Network {
	n := names.Network{ID: d.ID, Name: d.Name, Internal: d.Internal, Off: d.NoDNS, Servers: d.NameServers}
	for _, s := range d.Subnets {
		n.Prefixes = append(n.Prefixes, s.Prefix)
		if !s.Isolated {
			n.Gateways = append(n.Gateways, s.Gateway)
		}
	}
	return n
}

func containerOf(d *directory.Directory, ct *directory.Container) names.Container {
	c := names.Container{ID: ct.ID, Name: ct.Name, Services: ct.Services}
	for _, p := range append([]*directory.Container{ct}, ct.Pieces...) {
		c.Names = append(c.Names, p.Name)
		c.Services = append(slices.Clip(c.Services), p.Services...)
		if p.Hostname != "" {
			c.Names = append(c.Names, p.Hostname)
		}
		if len(c.Servers) == 0 {
			c.Servers = p.NameServers
		}
		if len(c.Hosts) == 0 {
			for _, h := range p.Hosts {
				c.Hosts = append(c.Hosts, names.Host(h))
			}
		}
	}
	if of := ct.Of(); len(of) >= shortID {
		c.Names = append(c.Names, of[:shortID])
	}
	for i := range ct.Endpoints {
		e := &ct.Endpoints[i]
		if net := d.NetworkNamed(e.Network); net != nil {
			c.Places = append(c.Places, names.Place{Network: net.ID, Addrs: e.Addrs, Aliases: e.Aliases})
		}
	}
	return c
}

// syncGateways says where names are answered: at each gateway, by each protocol, unless a program of the host
// has bound port 53 of exactly that address.
func (n *Naming) syncGateways() {
	want := make(map[netip.Addr]at)
	for _, net := range n.networks {
		for _, s := range net.Subnets {
			if !s.Isolated {
				want[s.Gateway] = at{net.Name, !net.NoDNS, !net.NoDNS}
			}
		}
	}
	taken := make(map[netip.Addr]string)
	for _, s := range n.listeners {
		w, ok := want[s.Addr]
		if !ok || !w.tcp && !w.udp {
			continue
		}
		switch s.Proto {
		case header.ProtoTCP:
			w.tcp = false
		case header.ProtoUDP:
			w.udp = false
		}
		want[s.Addr] = w
		if taken[s.Addr] == "" {
			n.mu.Lock()
			owner := n.taken[s.Addr]
			n.mu.Unlock()
			taken[s.Addr] = cmp.Or(owner, n.edge.SocketOwner(s.Inode), "the kernel")
		}
	}
	for g, w := range want {
		was, known := n.gateways[g]
		if known && was == w {
			continue
		}
		if err := n.resolver.AnswerAt(g, w.tcp, w.udp); err != nil {
			n.log.Error("names are not answered at a gateway", "network", w.network, "err", err)
			delete(want, g) // the next time tries again
		}
	}
	for g := range n.gateways {
		if _, ok := want[g]; !ok {
			if err := n.resolver.NoGateway(g); err != nil {
				n.log.Error("names are answered at a gateway that is gone", "err", err)
			}
		}
	}
	n.mu.Lock()
	was := n.taken
	n.gateways, n.taken = want, taken
	n.mu.Unlock()
	for g, owner := range taken {
		if was[g] == "" && !strings.HasSuffix(owner, fmt.Sprintf("(pid %d)", os.Getpid())) { // else it is published there
			text := fmt.Sprintf("port 53 of gateway %s is bound by %s, which answers the containers of network %s instead of the switch", g, owner, want[g].network)
			n.log.Warn(text)
			n.tell(api.Event{Type: api.EventResolverTaken, Network: want[g].network, Addresses: []string{g.String()}, Message: text})
		}
	}
}

// serverChanged tells of a name server of the host.
func (n *Naming) serverChanged(s resolver.Server) {
	text := fmt.Sprintf("name server %s of the host answers again", s.Addr)
	if s.Failing {
		text = fmt.Sprintf("name server %s of the host does not answer: %s", s.Addr, s.Why)
	}
	n.tell(api.Event{Type: api.EventNameServer, Addresses: []string{s.Addr}, Message: text})
}

// Counts are for metrics.
func (n *Naming) Counts() (m metrics.Names) {
	if n == nil {
		return m
	}
	s := n.resolver.Stats()
	m = metrics.Names{
		Asked: s.Asked, Local: s.Local, Cached: s.Cached, Refused: s.Refused, Malformed: s.Malformed, Failed: s.Failed, Looped: s.Looped, Lost: s.Lost,
	}
	for _, server := range s.Servers {
		m.Servers = append(m.Servers, metrics.NameServer{Addr: server.Addr, Failing: server.Failing, Asked: server.Asked, Failed: server.Failed})
	}
	return m
}

// Close lets go of the resolver.
func (n *Naming) Close() error {
	if n == nil {
		return nil
	}
	return n.resolver.Close()
}
