package control

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/control/host"
	"github.com/vswitch/vswitch/control/kernel"
	"github.com/vswitch/vswitch/control/process"
	"github.com/vswitch/vswitch/control/relay"
	"github.com/vswitch/vswitch/control/reserve"
	"github.com/vswitch/vswitch/control/state"
	"github.com/vswitch/vswitch/dataplane"
	"github.com/vswitch/vswitch/dataplane/frame"
	"github.com/vswitch/vswitch/dataplane/header"
	"github.com/vswitch/vswitch/dataplane/port"
)

// DefaultNetwork is the network of containers that name none. It cannot be
// removed.
const DefaultNetwork = "bridge"

// spareSockets are prepared for attachments to come, 512 KiB each.
const spareSockets = 4

// Controller is the one writer of the switch: requests of the API and events of
// the kernel end here. Its methods are safe for concurrent use; a request runs
// to its end even when its caller has gone away.
//
// Locks, in this order: ops (read: a request runs; write: shutdown), a name in
// names (held for the whole of an operation: a runtime's container, a container, a network, in this order), mu
// (memory only, never across a system call that can wait).
type Controller struct {
	cfg     DaemonConfig
	log     *slog.Logger
	started time.Time
	bootID  string

	host   *host.Host
	kernel *kernel.Kernel
	seals  []sealKind // the first for most containers, the last for those of CNI
	sw     *dataplane.Switch
	// sockets are prepared: to open one takes the kernel 9 ms (RCU), which an
	// attach then need not wait for.
	sockets *port.Pool
	ports   *reserve.Ports
	store   *state.Store
	relay   *relay.Relay

	// fault fails steps of attach and create in tests.
	fault func(step string) error

	ops      sync.RWMutex
	closing  bool
	names    keyedMutex
	builder  builder
	relayTab atomic.Pointer[relayTable]
	bgMu     sync.Mutex
	bgDone   bool // no new background work
	bg       sync.WaitGroup
	ctx      context.Context // of background work; ends with Close
	cancel   context.CancelFunc

	mu          sync.Mutex
	networks    map[string]*network   // by name
	containers  map[string]*container // by name
	published   publishTable
	byPort      map[frame.PortID]portOwner
	byVeth      map[string]*endpoint // by name of the host end
	captures    []*capture           // that run
	recorder    *capture             // of recent frames, or nil
	slots       map[netip.Addr]int   // users of a claim slot, by host address
	pools       [2]netip.Prefix      // of subnets that are not named, by family
	lastNetwork dataplane.NetworkID
	world       world
	staleSlots  []netip.Addr // users that former worlds counted in slots
	revision    uint64

	events  *journal[api.Event]
	flowLog flowLog

	neigh                neighbors
	worldKick, shapeKick chan struct{} // links, addresses or routes have changed; queueing disciplines
}

// network is a network that exists or is being made.
type network struct {
	rec      state.Network
	id       dataplane.NetworkID
	mac      header.MAC // of the gateway
	ready    bool       // its TAP stands; compiled into snapshots
	tap      *port.TAP
	tapIndex int
	carrier  io.Closer // of what the host sends; nil: the switch carries it
	port     frame.PortID
	pools    []*addressPool        // one for each of rec.Subnets
	macs     map[header.MAC]string // container by address
	members  map[*endpoint]bool    // also those still being attached
}

// container is an attached container, or one being attached.
type container struct {
	rec       state.Container // without Endpoints and Ports, which are below
	endpoints []*endpoint
	mappings  []*mapping
	ready     bool
	proc      *process.Process // when bound to one
}

// endpoint is a container's port in a network.
type endpoint struct {
	net *network
	ct  *container
	// runtimeNet is the runtime's name of the network, "": that of net.
	runtimeNet string

	ifname  string
	veth    string
	index   int // of the host end
	alias   string
	addrs   []netip.Addr // one for each of net.rec.Subnets
	mac     header.MAC
	layer2  layer2
	quota   quota
	shaping host.Shaping
	routes  []state.Route
	port    frame.PortID
	hasPort bool
	live    bool // compiled into snapshots
}

// mapping is a published interval of ports.
type mapping struct {
	ct     *container
	proto  uint8
	hostIP netip.Addr // invalid: every address of the host; unspecified: of its family
	first  uint16     // host ports
	last   uint16
	target uint16 // container port of first
	hold   *reserve.Hold
	claims []netip.Addr // host addresses, or unspecified ones, on which its bits are set
	live   bool         // compiled into snapshots
}

// enter begins a request; the result ends it.
func (c *Controller) enter() (leave func(), err error) {
	c.ops.RLock()
	if c.closing {
		c.ops.RUnlock()
		return nil, errShutdown
	}
	return c.ops.RUnlock, nil
}

// ofContainer and ofNetwork are the two families of keys in names.
func ofContainer(name string) string { return "container " + name }
func ofNetwork(name string) string   { return "network " + name }

// findContainerLocked looks a ready container up by name, by ID, its own or that
// of its runtime, or the beginning of an ID that only one has.
func (c *Controller) findContainerLocked(name string) (*container, error) {
	if ct := c.containers[name]; ct != nil && ct.ready {
		return ct, nil
	}
	var found *container
	if len(name) >= 6 {
		for _, ct := range c.containers {
			if ct.ready && ct.idIs(name) {
				if found != nil {
					return nil, invalidf("container %s: several IDs begin so: give more of it", name)
				}
				found = ct
			}
		}
	}
	if found == nil {
		return nil, notFoundf("container %s is not attached: see vswitch ps", name)
	}
	return found, nil
}

// findNetworkLocked does the same for networks.
func (c *Controller) findNetworkLocked(name string) (*network, error) {
	if n := c.networks[name]; n != nil && n.ready {
		return n, nil
	}
	var found *network
	if len(name) >= 6 {
		for _, n := range c.networks {
			if n.ready && len(n.rec.ID) >= len(name) && n.rec.ID[:len(name)] == name {
				if found != nil {
					return nil, invalidf("network %s: several IDs begin so: give more of it", name)
				}
				found = n
			}
		}
	}
	if found == nil {
		return nil, notFoundf("network %s does not exist: see vswitch network ls, or make it with vswitch network create %s", name, name)
	}
	return found, nil
}

// gateway is the endpoint through which a container reaches what is not in its
// networks, and to which its published ports lead: for each family the first
// with a way out. nil when there is none.
func (ct *container) gateway(f family) *endpoint {
	for _, e := range ct.endpoints {
		if e.leadsOut(f) {
			return e
		}
	}
	return nil
}

func (e *endpoint) leadsOut(f family) bool {
	s := subnetOf(e.net.rec, f)
	return s != nil && !e.net.rec.Internal && s.Mode != api.GatewayIsolated
}

// addr is the endpoint's address of a family, invalid when it has none.
func (e *endpoint) addr(f family) netip.Addr {
	for _, a := range e.addrs {
		if familyOf(a) == f {
			return a
		}
	}
	return netip.Addr{}
}

func (ct *container) endpointIn(n *network) *endpoint {
	for _, e := range ct.endpoints {
		if e.net == n {
			return e
		}
	}
	return nil
}

// record is what is stored of a container.
func (ct *container) record() state.Container {
	rec := ct.rec
	rec.Endpoints, rec.Ports = nil, nil
	for _, e := range ct.endpoints {
		er := state.Endpoint{
			Network: e.net.rec.ID, RuntimeNetwork: e.runtimeNet, Ifname: e.ifname, Veth: e.veth, Ifindex: e.index,
			Alias: e.alias, Addrs: e.addrs, MAC: e.mac.String(),
		}
		e.layer2.keep(&er)
		e.quota.keep(&er)
		er.Routes = e.routes
		rec.Endpoints = append(rec.Endpoints, er)
	}
	for _, m := range ct.mappings {
		rec.Ports = append(rec.Ports, state.Port{
			Proto: m.proto, HostIP: m.hostIP, HostFirst: m.first, HostLast: m.last, First: m.target,
		})
	}
	return rec
}

// commit stores a container as it stands.
func (c *Controller) commit(ct *container) error {
	c.mu.Lock()
	rec := ct.record()
	cursors := make(map[string][]netip.Addr)
	for _, e := range ct.endpoints {
		cursors[e.net.rec.ID] = e.net.cursors()
	}
	c.mu.Unlock()
	return c.store.PutContainer(rec, cursors)
}

// cursors are how far a network's pools have got.
func (n *network) cursors() (list []netip.Addr) {
	for _, p := range n.pools {
		if p.last.IsValid() {
			list = append(list, p.last)
		}
	}
	return list
}

// sortedLocked returns the ready containers or networks by name.
func (c *Controller) sortedContainersLocked() []*container {
	list := make([]*container, 0, len(c.containers))
	for _, ct := range c.containers {
		if ct.ready {
			list = append(list, ct)
		}
	}
	slices.SortFunc(list, func(a, b *container) int { return cmp.Compare(a.rec.Name, b.rec.Name) })
	return list
}

func (c *Controller) sortedNetworksLocked() []*network {
	list := make([]*network, 0, len(c.networks))
	for _, n := range c.networks {
		if n.ready {
			list = append(list, n)
		}
	}
	slices.SortFunc(list, func(a, b *network) int { return cmp.Compare(a.rec.Name, b.rec.Name) })
	return list
}

// aliasPrefix begins the alias of every link that belongs to this state
// directory.
func (c *Controller) aliasPrefix() string { return "vswitch:" + c.store.Identity() + ":" }

// vethPrefix begins the names of the cables of this state directory. A link gets
// its name in the moment it is made and its alias in the next: the name alone
// speaks for one whose daemon was killed between the two.
func (c *Controller) vethPrefix() string { return "veth" + c.store.Identity()[:5] }

// isLeftover reports whether a link was made for this state directory, whether
// or not the state knows it.
func (c *Controller) isLeftover(l host.Link) bool {
	if l.Alias == "" {
		return l.Kind == "veth" && !l.Up && len(l.Name) == maxIfname && strings.HasPrefix(l.Name, c.vethPrefix())
	}
	return strings.HasPrefix(l.Alias, c.aliasPrefix())
}

// failed rolls back and joins what went wrong on the way into the log: the
// caller is told the reason, not its echo.
func (c *Controller) failed(u *undo, what string, err error) error {
	if rerr := u.rollback(); rerr != nil {
		c.log.Error("roll back", "of", what, "err", joined(rerr))
	}
	return err
}

// wrapHost gives errors of control/host a kind.
func wrapHost(err error) error {
	switch {
	case errors.Is(err, host.ErrNoNetns):
		return &refusal{api.ErrNotFound, err}
	case errors.Is(err, host.ErrExists), errors.Is(err, host.ErrHasDefault), errors.Is(err, reserve.ErrTaken):
		return &refusal{api.ErrConflict, err}
	}
	return err
}

func containerErr(name string, err error) error {
	var r *refusal
	if errors.As(err, &r) {
		return &refusal{r.kind, fmt.Errorf("container %s: %w", name, err)}
	}
	return fmt.Errorf("container %s: %w", name, err)
}
