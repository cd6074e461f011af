// Package edgetest is a model of the kernel's side of the network, and an edge.Edge on
// it: links in namespaces, addresses, routes, neighbours, claims, held ports, and the
// frames of ports in memory. It refuses what the kernel refuses. Contract is the test
// that the model and the real edge share.
package edgetest

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"

	"github.com/vswitch/vswitch/control/host"
	"github.com/vswitch/vswitch/control/reserve"
	"github.com/vswitch/vswitch/dataplane/port/porttest"
)

// Kernel is the model of one machine. It outlives the processes that work on it, which
// Open makes. All methods are safe for concurrent use.
type Kernel struct {
	mu        sync.Mutex // guards all that follows
	host      *namespace
	paths     map[string]*namespace
	pids      map[int]*namespace
	lastIno   uint64
	process   *Edge // the one that runs
	watchers  map[*watcher]bool
	programs  []program // sockets of programs of the host
	reserved  []reserve.Range
	heldFor   string             // whose devices a process has left open
	heldIn    string             // and the state directory of that
	heldState *os.File           // a copy of the state, nil for none
	asked     map[netip.Addr]int // interfaces by which neighbours were asked for
	consumed  map[*Edge]func()   // who is told
	consumers []host.Consumer    // what of the host takes packets that have no port
	fault     func(call string) error
	left      map[string]*claimed // by the identity of who has claimed it
}

// namespace is a network namespace.
type namespace struct {
	ino       uint64
	path      string
	users     int  // open descriptors
	named     bool // by a path or a process
	links     []*link
	lastIndex int
	routes    []host.Route // those that somebody made
	neighbors []host.Neighbor
}

// link is an interface with what hangs on it.
type link struct {
	host.Link
	ns      *namespace
	peer    *link // of a veth
	addrs   []host.Addr
	queue   *porttest.Port // what a process has open on it
	sealed  bool
	shield  string // its owner
	shaping host.Shaping
	program host.Program // on the way out of it
	limit   host.Limit
}

// HostNetns is a path of the host's own namespace.
const HostNetns = "/proc/1/ns/net"

// New is a machine with an interface lo.
func New() *Kernel {
	k := &Kernel{paths: make(map[string]*namespace), pids: make(map[int]*namespace), watchers: make(map[*watcher]bool), asked: make(map[netip.Addr]int), left: make(map[string]*claimed)}
	k.host = k.newNamespace("")
	k.host.named = true
	k.paths[HostNetns] = k.host
	return k
}

// Fail makes fn the judge of every call of the edge, by the method's name: its error
// fails the call before anything is changed. nil ends that.
func (k *Kernel) Fail(fn func(call string) error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.fault = fn
}

func (k *Kernel) newNamespace(path string) *namespace {
	k.lastIno++
	ns := &namespace{ino: k.lastIno, path: path}
	k.addLink(ns, host.Link{Name: "lo", MAC: make(net.HardwareAddr, 6), MTU: 65536, Up: true, Running: true})
	return ns
}

// AddNetns makes a namespace, of a container say, under a path.
func (k *Kernel) AddNetns(path string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	ns := k.newNamespace(path)
	ns.named = true
	k.paths[path] = ns
}

// Run says that a process runs in the namespace of a path; "" is the host's.
func (k *Kernel) Run(pid int, path string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.pids[pid] = k.netns(path)
}

func (k *Kernel) netns(path string) *namespace {
	if path == "" {
		return k.host
	}
	return k.paths[path]
}

// DelNetns ends a namespace, with its links, once nobody has it open.
func (k *Kernel) DelNetns(path string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	ns := k.paths[path]
	delete(k.paths, path)
	ns.named = false
	k.endNamespace(ns)
}

func (k *Kernel) endNamespace(ns *namespace) {
	if ns.named || ns.users > 0 {
		return
	}
	for _, l := range slices.Clone(ns.links) {
		k.removeLink(l)
	}
}

func (k *Kernel) addLink(ns *namespace, l host.Link) *link {
	ns.lastIndex++
	l.Index = ns.lastIndex
	n := &link{Link: l, ns: ns}
	ns.links = append(ns.links, n)
	k.tellLink(n)
	return n
}

// removeLink takes a link away with its peer and all that hangs on them.
func (k *Kernel) removeLink(l *link) {
	for _, l := range []*link{l, l.peer} {
		if l == nil || !slices.Contains(l.ns.links, l) {
			continue
		}
		ns := l.ns
		ns.links = slices.DeleteFunc(ns.links, func(o *link) bool { return o == l })
		ns.routes = slices.DeleteFunc(ns.routes, func(r host.Route) bool { return r.Ifindex == l.Index })
		ns.neighbors = slices.DeleteFunc(ns.neighbors, func(n host.Neighbor) bool { return n.Ifindex == l.Index })
		if l.queue != nil {
			l.queue.Vanish()
		}
		if ns == k.host {
			k.tell(host.Event{Kind: host.LinkGone, Link: l.Link})
			k.tell(host.Event{Kind: host.RouteChanged})
		}
	}
}

func (ns *namespace) linkNamed(name string) *link {
	for _, l := range ns.links {
		if l.Name == name {
			return l
		}
	}
	return nil
}

func (ns *namespace) at(index int) *link {
	for _, l := range ns.links {
		if l.Index == index {
			return l
		}
	}
	return nil
}

// AddNIC gives the host a network card that is up, and returns its index.
func (k *Kernel) AddNIC(name string, addrs ...netip.Prefix) int {
	k.mu.Lock()
	defer k.mu.Unlock()
	l := k.addLink(k.host, host.Link{
		Name: name, MAC: net.HardwareAddr{2, 0xee, 0, 0, 0, byte(k.host.lastIndex)}, MTU: 1500, Up: true, Running: true, Ethernet: true,
	})
	for _, p := range addrs {
		k.addAddr(l, host.Addr{Prefix: p})
	}
	return l.Index
}

// SetLink changes an interface of the host, and RemoveLink removes one.
func (k *Kernel) SetLink(name string, change func(*host.Link)) {
	k.mu.Lock()
	defer k.mu.Unlock()
	l := k.host.linkNamed(name)
	change(&l.Link)
	k.tellLink(l)
	k.tell(host.Event{Kind: host.RouteChanged})
}

// RemoveLink removes an interface of the host.
func (k *Kernel) RemoveLink(name string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.removeLink(k.host.linkNamed(name))
}

// AddAddr gives an interface of the host an address, and DelAddr takes it away.
func (k *Kernel) AddAddr(name string, a host.Addr) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.addAddr(k.host.linkNamed(name), a)
}

// DelAddr takes an address away from an interface of the host.
func (k *Kernel) DelAddr(name string, p netip.Prefix) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.delAddr(k.host.linkNamed(name), p)
}

func (k *Kernel) addAddr(l *link, a host.Addr) {
	a.Ifindex = l.Index
	if i := slices.IndexFunc(l.addrs, func(o host.Addr) bool { return o.Prefix == a.Prefix }); i >= 0 {
		l.addrs[i] = a
	} else {
		l.addrs = append(l.addrs, a)
	}
	if l.ns == k.host {
		k.tell(host.Event{Kind: host.AddrAdded, Addr: a})
		k.tell(host.Event{Kind: host.RouteChanged})
	}
}

func (k *Kernel) delAddr(l *link, p netip.Prefix) {
	l.addrs = slices.DeleteFunc(l.addrs, func(a host.Addr) bool { return a.Prefix == p })
	if l.ns == k.host {
		k.tell(host.Event{Kind: host.AddrGone, Addr: host.Addr{Ifindex: l.Index, Prefix: p}})
		k.tell(host.Event{Kind: host.RouteChanged})
	}
}

// AddRoute gives the host a route by an interface, "" for one without, and DelRoute
// takes the routes to a prefix away.
func (k *Kernel) AddRoute(dev string, r host.Route) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if l := k.host.linkNamed(dev); l != nil {
		r.Ifindex = l.Index
	}
	k.host.routes = append(k.host.routes, r)
	k.tell(host.Event{Kind: host.RouteChanged})
}

// DelRoute takes the host's routes to a prefix away.
func (k *Kernel) DelRoute(p netip.Prefix) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.host.routes = slices.DeleteFunc(k.host.routes, func(r host.Route) bool { return r.Prefix == p })
	k.tell(host.Event{Kind: host.RouteChanged})
}

// Learn is the host's kernel learning a neighbour's MAC; nil: that it is gone.
func (k *Kernel) Learn(n host.Neighbor) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.setNeighbor(n)
}

func (k *Kernel) setNeighbor(n host.Neighbor) {
	same := func(o host.Neighbor) bool { return o.Ifindex == n.Ifindex && o.Addr == n.Addr }
	had := slices.ContainsFunc(k.host.neighbors, same)
	k.host.neighbors = slices.DeleteFunc(k.host.neighbors, same)
	if n.MAC != nil {
		k.host.neighbors = append(k.host.neighbors, n)
	}
	if had || n.MAC != nil {
		k.tell(host.Event{Kind: host.NeighborChanged, Neighbor: n})
	}
}

// Shape is somebody's queueing discipline at an interface of the host.
func (k *Kernel) Shape(name string, s host.Shaping) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.host.linkNamed(name).shaping = s
	k.tell(host.Event{Kind: host.QdiscChanged})
}

// SetProgram hangs up a program of others on the way out of an interface, or takes it away.
func (k *Kernel) SetProgram(name string, program host.Program) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.host.linkNamed(name).program = program
}

// Queue is what a process has open on an interface of the host: what a container or the
// wire sends is injected there. nil when nothing is open.
func (k *Kernel) Queue(name string) *porttest.Port {
	k.mu.Lock()
	defer k.mu.Unlock()
	if l := k.host.linkNamed(name); l != nil {
		return l.queue
	}
	return nil
}

func errNoLink(name string) error { return fmt.Errorf("interface %s: %w", name, host.ErrNotFound) }

// HasNetns reports whether there is a namespace under a path.
func (k *Kernel) HasNetns(path string) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.paths[path] != nil
}

// Interface is what a container sees of its end of a cable.
type Interface struct {
	Host              string // name of the other end, on the host
	Addrs             []string
	Gateway, Gateway6 string
	Sealed            bool // of the host end
	Limit             host.Limit
	host.Link
}

// Interface looks at an interface in a namespace, "" being the host's; the zero value
// when there is none.
func (k *Kernel) Interface(path, name string) (i Interface) {
	k.mu.Lock()
	defer k.mu.Unlock()
	ns := k.netns(path)
	if ns == nil || ns.linkNamed(name) == nil {
		return i
	}
	l := ns.linkNamed(name)
	i.Link, i.Limit = l.Link, l.limit
	for _, a := range l.addrs {
		i.Addrs = append(i.Addrs, a.Prefix.String())
	}
	for _, r := range ns.routes {
		switch {
		case r.Ifindex != l.Index || r.Prefix.Bits() != 0:
		case r.Via.Is4():
			i.Gateway = r.Via.String()
		default:
			i.Gateway6 = r.Via.String()
		}
	}
	if l.peer != nil {
		i.Host, i.Sealed = l.peer.Name, l.peer.sealed
	}
	return i
}
