// Package underlay follows the network that the host itself is in: which of its
// interfaces are uplinks, its addresses and routes, and the neighbours on its links. The
// controller compiles what it finds; the switch has the neighbours from it directly.
package underlay

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/control/edge"
	"github.com/vswitch/vswitch/control/host"
	"github.com/vswitch/vswitch/dataplane"
	"github.com/vswitch/vswitch/dataplane/conntrack"
	"github.com/vswitch/vswitch/dataplane/frame"
	"github.com/vswitch/vswitch/dataplane/header"
)

// View is what the kernel said when it was asked last. Immutable.
type View struct {
	Uplinks    []Uplink
	Configs    []dataplane.UplinkConfig
	Routes     []dataplane.RouteConfig
	Masquerade []conntrack.PortRange
	HostPorts  []conntrack.PortRange // that masquerade may use for single peers
	Own        map[netip.Addr]bool   // the host's addresses
	Ruled      [2]bool               // of IPv4, of IPv6: rules of policy routing say which way, see Way

	chosen    map[string]Egress // ways of containers of their own, in words
	resolvers []netip.Addr
	slots     []netip.Addr // addresses that hold a claim slot for masquerade
}

// Uplink is an interface of the host through which containers go out.
type Uplink struct {
	Link  host.Link
	Port  frame.PortID
	Addrs []netip.Prefix // that masquerade may use, with their subnets
	Via   netip.Addr     // next hop of its default route, for people
	// Chosen: only containers that have chosen it leave by it.
	Chosen bool
}

// MAC is the address of its link, zero where that has no header.
func (up *Uplink) MAC() (m header.MAC) {
	if up.Link.Ethernet {
		copy(m[:], up.Link.MAC)
	}
	return m
}

// Edge is what the underlay asks of the host's side.
type Edge interface {
	Uplinks(names []string) ([]host.Link, error)
	KeepUplinks(indexes ...int) (others []string, err error)
	edge.Neighbors
	edge.Reader
}

// Ports are the uplinks' ports in the switch, by numbers that follow the names of the
// interfaces.
type Ports interface {
	Open(l host.Link) (frame.PortID, error)
	// Close gives an interface back. No snapshot names its port any more.
	Close(frame.PortID) error
	// Rename says that the interface of a port has another name; Forget that another
	// interface has that name, so that the number is nobody's when the port is closed.
	Rename(id frame.PortID, name string)
	Forget(frame.PortID)
}

// Slots are the claim slots of addresses, whose users are counted.
type Slots interface {
	UseSlot(netip.Addr) (int, error)
	DropSlot(netip.Addr)
}

// Config is what an Underlay needs to know. All functions are safe for concurrent use.
type Config struct {
	Edge  Edge
	Ports Ports
	Slots Slots
	// Names are the uplinks; empty or Auto: the interfaces that hold a default route.
	Names []string
	// Chosen are the ways that containers have in place of the host's, by the words that the
	// switch has for them. Their interfaces are uplinks.
	Chosen func() map[string]Egress
	// Masquerade are the ports that it may use, and the host's that it may use for single
	// peers.
	Masquerade func() (ports, last []conntrack.PortRange)
	// Made reports whether a link is one that the switch made, and Devices which of
	// them lead into its networks, by index.
	Made    func(host.Link) bool
	Devices func() map[int]bool
	// Resolvers are the host's name servers now.
	Resolvers func() []netip.Addr
	// Changed is called when Now has changed, and returns when the switch knows; Settled
	// when what is over has been given back.
	Changed func() error
	Settled func()
	// Device is the index of a network's device, 0: it has none. Stale says that an answer of Way may
	// be another now.
	Device func(frame.NetworkID) int
	Stale  func()
	// Over ends flows whose address of the host is gone, and says how many.
	Over func(conntrack.Selector) int
	// Neighbors gives the switch those behind uplinks. Calls do not overtake each other.
	Neighbors func(map[dataplane.NeighborKey]header.MAC)
	// Cable is told of links that the switch made, of addresses that go and of Resync, Shaping that somebody's
	// queueing discipline may have changed. They return at once.
	Cable   func(host.Event)
	Shaping func()
	Tell    func(api.Event)
	Log     *slog.Logger
}

// Auto is the word for the interfaces that hold a default route.
const Auto = "auto"

// Underlay follows it from Run on.
type Underlay struct {
	cfg    Config
	now    atomic.Pointer[View]
	mu     sync.Mutex // one sync at a time
	neigh  neighbors
	kicked chan struct{} // links, addresses or routes have changed
	stale  []netip.Addr  // users that former views counted in slots; of Sync
	synced bool          // once; likewise
	// Of sync: until when an uplink is waited for, by index, and addresses: of uplinks, and of the host.
	down       map[int]time.Time
	away, lost map[netip.Addr]time.Time
	over       []conntrack.Selector // flows that end with their address
}

// New asks nothing yet.
func New(cfg Config) *Underlay {
	u := &Underlay{cfg: cfg, kicked: make(chan struct{}, 1), down: make(map[int]time.Time), away: make(map[netip.Addr]time.Time), lost: make(map[netip.Addr]time.Time)}
	u.neigh.init()
	u.now.Store(&View{})
	return u
}

// Now is the newest view. Safe for concurrent use.
func (u *Underlay) Now() *View { return u.now.Load() }

func (u *Underlay) followsRoutes() bool {
	return len(u.cfg.Names) == 0 || len(u.cfg.Names) == 1 && u.cfg.Names[0] == Auto
}

// Check refuses uplinks by name that are not there. It changes nothing.
func (u *Underlay) Check() error {
	if u.followsRoutes() {
		return nil
	}
	_, err := u.cfg.Edge.Uplinks(u.cfg.Names)
	return err
}

// Start reads all of it for the first time.
func (u *Underlay) Start() error {
	all, err := u.cfg.Edge.Neighbors()
	if err != nil {
		return err
	}
	u.neigh.replace(all)
	return u.Sync()
}

// Sync is what Kick has done, and returns when it is.
func (u *Underlay) Sync() error {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.sync()
}

// sync reads the host's links, addresses and routes and makes the switch follow them.
// Only one runs at a time.
func (u *Underlay) sync() error {
	chosen := u.cfg.Chosen()
	wanted, outs, err := u.wanted(chosen)
	if err != nil {
		return err
	}
	only := make(map[int]bool)
	for _, l := range wanted[outs:] {
		only[l.Index] = true
	}
	wanted = slices.DeleteFunc(wanted, u.cfg.Made)
	addrs, err := u.cfg.Edge.Addrs()
	if err != nil {
		return err
	}
	routes, err := u.cfg.Edge.Routes()
	if err != nil {
		return err
	}
	ruled, err := u.cfg.Edge.Ruled()
	if err != nil {
		return err
	}
	old := u.Now()
	there := len(wanted)
	wanted = u.patient(old.Uplinks, wanted)
	lost := wanted[there:] // and waited for
	gone := u.follow(old.Uplinks, wanted)
	var ups []Uplink
	var errs []error
	for _, l := range wanted {
		i := slices.IndexFunc(old.Uplinks, func(o Uplink) bool { return o.Link.Index == l.Index })
		if i >= 0 {
			away := slices.ContainsFunc(lost, func(o host.Link) bool { return o.Index == l.Index })
			ups = append(ups, Uplink{Link: l, Port: old.Uplinks[i].Port, Chosen: only[l.Index] || away && old.Uplinks[i].Chosen})
			continue
		}
		id, err := u.open(l, only[l.Index])
		if err != nil {
			errs = append(errs, err)
			continue
		}
		ups = append(ups, Uplink{Link: l, Port: id, Chosen: only[l.Index]})
	}
	// Users counted by the view before; its slots are freed once the snapshot is in place.
	u.stale = append(u.stale, old.slots...)
	view := u.view(ups, addrs, routes)
	view.Ruled, view.chosen = ruled, chosen
	for _, r := range routes { // which of several next hops a packet takes the kernel is asked, too
		if f := len(r.Prefix.Addr().AsSlice()) / 16; len(r.Hops) > 1 {
			view.Ruled[f] = true
		}
	}
	u.lose(old.Own, view.Own)
	u.now.Store(view)
	errs = append(errs, u.cfg.Changed())
	u.cfg.Stale()
	u.end()
	for _, o := range gone {
		errs = append(errs, u.close(o))
	}
	if len(gone) > 0 || !u.synced {
		errs = append(errs, u.keep(ups))
	}
	u.synced = true
	for _, a := range u.stale {
		u.cfg.Slots.DropSlot(a)
	}
	u.stale = nil
	u.cfg.Settled()
	u.publishNeighbors()
	return errors.Join(errs...)
}

const (
	// eventDelay lets the events of one change of configuration arrive before the
	// kernel is asked.
	eventDelay = 20 * time.Millisecond
	// syncPause bounds the work that a flapping route can make.
	syncPause = 100 * time.Millisecond
	// lookPause is how long the host's name servers and its range of local ports may have
	// changed unseen: they are in files, of which the kernel says nothing here.
	lookPause = 5 * time.Second
	// watchRetry is the pause after a lost subscription.
	watchRetry = time.Second
)

// Run keeps the switch in step with links, addresses and routes until ctx ends.
func (u *Underlay) Run(ctx context.Context) {
	look := time.NewTicker(lookPause)
	defer look.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-look.C:
			if !u.filesChanged() {
				continue
			}
		case <-u.kicked:
		}
		if !pause(ctx, eventDelay) {
			return
		}
		// What was said until here is in the answers of the kernel.
		select {
		case <-u.kicked:
		default:
		}
		if err := u.Sync(); err != nil && !errors.Is(err, context.Canceled) {
			u.cfg.Log.Error("follow the host's network", "err", strings.ReplaceAll(err.Error(), "\n", "; "))
		}
		if !pause(ctx, syncPause) {
			return
		}
	}
}

// filesChanged looks at what no event tells of.
func (u *Underlay) filesChanged() bool {
	now := u.Now()
	ports, last := u.cfg.Masquerade()
	return !slices.Equal(u.cfg.Resolvers(), now.resolvers) || !slices.Equal(ports, now.Masquerade) || !slices.Equal(last, now.HostPorts)
}

// Kick has everything read again soon.
func (u *Underlay) Kick() { kick(u.kicked) }

// kick sets a flag that a goroutine waits for.
func kick(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}

// Watch follows the events of the kernel until ctx ends.
func (u *Underlay) Watch(ctx context.Context) {
	for {
		err := u.cfg.Edge.Watch(ctx, u.event)
		if ctx.Err() != nil {
			return
		}
		u.cfg.Log.Error("watch of the host's network", "err", err, "retry", watchRetry)
		if !pause(ctx, watchRetry) {
			return
		}
	}
}

// event sorts events; it must return quickly, or the kernel's queue overflows.
func (u *Underlay) event(e host.Event) {
	switch e.Kind {
	case host.QdiscChanged:
		u.cfg.Shaping()
		return
	case host.NeighborChanged:
		if u.neigh.set(e.Neighbor) {
			kick(u.neigh.kicked)
		}
		return
	case host.Resync:
		all, err := u.cfg.Edge.Neighbors()
		if err != nil {
			u.cfg.Log.Error("read the neighbours", "err", err)
		} else {
			u.neigh.replace(all)
		}
		u.cfg.Cable(e)
		u.cfg.Shaping()
	case host.LinkGone, host.LinkChanged:
		// Our own cables say nothing about the way out; a thousand of them being
		// plugged would have the routes read again and again.
		if u.cfg.Made(e.Link) {
			u.cfg.Cable(e)
			u.cfg.Shaping()
			return
		}
		if e.Kind == host.LinkGone {
			u.cfg.Shaping() // its qdisc went without a word
		}
	case host.AddrGone:
		u.cfg.Cable(e)
	case host.AddrAdded, host.RouteChanged:
	}
	u.Kick()
}
