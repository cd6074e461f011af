package edgetest

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/vswitch/vswitch/control/edge"
	"github.com/vswitch/vswitch/control/host"
	"github.com/vswitch/vswitch/control/relay"
	"github.com/vswitch/vswitch/dataplane/flowmap"
	"github.com/vswitch/vswitch/dataplane/port"
	"github.com/vswitch/vswitch/dataplane/port/porttest"
)

// Edge is one process on a Kernel, with what ends when the process does.
type Edge struct {
	k     *Kernel
	dead  bool // guarded by k.mu, like all below
	keep  bool // what is closed from now on stays
	owner edge.Owner
	ports []*queue // open

	*claimed
	// Of a process before, until somebody claims them again or Settle.
	leftSlots   map[netip.Addr]int
	leftSubnets map[netip.Prefix]bool
	holds       []*hold
	steers      bool       // Steer was called
	ways        relay.Ways // of the last Lead
}

var _ edge.Edge = (*Edge)(nil)

// Open begins a process.
func (k *Kernel) Open() *Edge {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.process = &Edge{k: k, claimed: newClaimed()}
	return k.process
}

// claimed is what an owner has claimed. The seals of its cables hold it, so that it outlives the
// process.
type claimed struct {
	published, opened flowmap.ClaimPlane
	slots             map[netip.Addr]int
	subnets           map[netip.Prefix]bool
	peers             map[flowmap.Peer]bool
}

func newClaimed() *claimed {
	return &claimed{
		published: make(flowmap.ClaimPlane, flowmap.ClaimWords), opened: make(flowmap.ClaimPlane, flowmap.ClaimWords),
		slots: make(map[netip.Addr]int), subnets: make(map[netip.Prefix]bool), peers: make(map[flowmap.Peer]bool),
	}
}

// goOn takes over what a process before of the same owner has claimed.
func (e *Edge) goOn() {
	left := e.k.left[e.owner.Identity]
	if left == nil || !slices.ContainsFunc(e.k.host.links, func(l *link) bool {
		return l.sealed && strings.HasPrefix(l.Alias, "vswitch:"+e.owner.Identity+":")
	}) {
		return
	}
	e.claimed = left
	e.leftSlots, e.leftSubnets = maps.Clone(left.slots), maps.Clone(left.subnets)
	clear(left.slots)
}

var errDead = errors.New("the process has ended")

// enter begins a call; unlock ends it.
func (e *Edge) enter(call string) (unlock func(), err error) {
	e.k.mu.Lock()
	if e.dead {
		e.k.mu.Unlock()
		return nil, errDead
	}
	if fault := e.k.fault; fault != nil {
		// It may ask the model.
		e.k.mu.Unlock()
		if err := fault(call); err != nil {
			return nil, err
		}
		e.k.mu.Lock()
	}
	return e.k.mu.Unlock, nil
}

// Kill ends the process as kill -9 does: what the kernel ties to a process goes, the rest
// stays. Calls fail from then on.
func (e *Edge) Kill() {
	e.k.mu.Lock()
	defer e.k.mu.Unlock()
	e.keep = true
	e.end()
}

func (e *Edge) end() {
	e.dead, e.steers, e.holds, e.k.heldFor, e.k.heldIn = true, false, nil, "", ""
	if e.keep {
		e.k.heldFor, e.k.heldIn = e.owner.Identity, e.owner.Directory
	} else {
		e.k.forgetState()
	}
	for _, q := range slices.Clone(e.ports) {
		e.endPort(q)
	}
	if e.owner.Identity != "" {
		e.k.left[e.owner.Identity] = e.claimed
	}
	e.claimed = newClaimed()
	if e.k.process == e {
		e.k.process = nil
	}
}

// Begin implements edge.Edge.
func (e *Edge) Begin(o edge.Owner) error {
	unlock, err := e.enter("Begin")
	if err != nil {
		return err
	}
	defer unlock()
	e.owner = o
	e.goOn()
	return nil
}

// Together implements edge.Edge.
func (e *Edge) Together(int, int) (end func()) { return func() {} }

// Close implements edge.Edge.
func (e *Edge) Close() error {
	e.k.mu.Lock()
	holds := slices.Clone(e.holds)
	e.k.mu.Unlock()
	var errs []error
	if e.keep {
		holds = nil
	}
	for _, h := range holds {
		errs = append(errs, h.Release())
	}
	e.k.mu.Lock()
	defer e.k.mu.Unlock()
	e.end()
	return errors.Join(errs...)
}

// Keep implements edge.Edge.
func (e *Edge) Keep() {
	e.k.mu.Lock()
	defer e.k.mu.Unlock()
	e.keep = true
}

// queue is an open port on a link.
type queue struct {
	*porttest.Port
	e    *Edge
	link *link
	end  func() // of what ends with it; holds Kernel.mu
}

func (e *Edge) openPort(l *link, end func()) *queue {
	q := &queue{Port: porttest.New(l.Name), e: e, link: l, end: end}
	l.queue = q.Port
	e.ports = append(e.ports, q)
	return q
}

// Descriptor implements edge.Socket.
func (q *queue) Descriptor() port.Descriptor { return porttest.Describe(q.Port) }

// Close implements edge.Socket.
func (q *queue) Close() error {
	q.e.k.mu.Lock()
	q.e.endPort(q)
	q.e.k.mu.Unlock()
	return q.Port.Close()
}

func (e *Edge) endPort(q *queue) {
	i := slices.Index(e.ports, q)
	if i < 0 {
		return
	}
	e.ports = slices.Delete(e.ports, i, i+1)
	if q.link.queue == q.Port {
		q.link.queue = nil
	}
	q.end()
}

// OpenCable implements edge.Cables.
func (e *Edge) OpenCable(p edge.Port) (edge.Socket, error) {
	unlock, err := e.enter("OpenCable")
	if err != nil {
		return nil, err
	}
	defer unlock()
	l := e.k.host.at(p.Index)
	if l == nil {
		return nil, fmt.Errorf("port %s: bind to interface %d: no such device", p.Name, p.Index)
	}
	return e.openPort(l, func() {}), nil
}

// OpenUplink implements edge.Uplinks.
func (e *Edge) OpenUplink(p edge.Port) (edge.Socket, error) {
	unlock, err := e.enter("OpenUplink")
	if err != nil {
		return nil, err
	}
	defer unlock()
	l := e.k.host.at(p.Index)
	if l == nil {
		return nil, fmt.Errorf("shield: interface %d: no such device", p.Index)
	}
	l.shield = e.owner.Identity
	return e.openPort(l, func() {}), nil
}

// KeepUplinks implements edge.Uplinks.
func (e *Edge) KeepUplinks(indexes ...int) (others []string, err error) {
	unlock, err := e.enter("KeepUplinks")
	if err != nil {
		return nil, err
	}
	defer unlock()
	for _, l := range e.k.host.links {
		if l.shield != "" && l.shield == e.owner.Identity && !slices.Contains(indexes, l.Index) {
			l.shield = ""
			others = append(others, l.Name)
		}
	}
	return others, nil
}

// Uplinks implements edge.Uplinks.
func (e *Edge) Uplinks(names []string) ([]host.Link, error) {
	unlock, err := e.enter("Uplinks")
	if err != nil {
		return nil, err
	}
	defer unlock()
	return host.ChooseUplinks(e.k.links(), e.k.routesOf(e.k.host), names)
}

// OthersPorts implements edge.Uplinks. There are no others.
func (e *Edge) OthersPorts() ([]edge.OthersPorts, error) { return nil, nil }

// LocalPorts implements edge.Uplinks.
func (e *Edge) LocalPorts() (low, high uint16) { return firstLocal, lastLocal }

// device is the TAP of a network.
type device struct {
	*queue
	index int
	link  *link
	addrs []netip.Prefix
}

// OpenDevice implements edge.Devices.
func (e *Edge) OpenDevice(s edge.DeviceSpec) (edge.Device, error) {
	unlock, err := e.enter("OpenDevice")
	if err != nil {
		return nil, err
	}
	defer unlock()
	if err := checkIfname(s.Name); err != nil {
		return nil, err
	}
	l := e.k.host.linkNamed(s.Name)
	switch {
	case l == nil:
		l = e.k.addLink(e.k.host, host.Link{Name: s.Name, Kind: "tun", Ethernet: true})
	case l.Kind != "tun":
		return nil, fmt.Errorf("device %s: it is no TAP device", s.Name)
	case l.queue != nil:
		return nil, fmt.Errorf("device %s: device or resource busy", s.Name)
	}
	l.Alias, l.MAC, l.MTU, l.Up, l.Running = s.Alias, slices.Clone(s.MAC), s.MTU, true, true
	for _, a := range slices.Clone(l.addrs) {
		if !slices.Contains(s.Addrs, a.Prefix) {
			e.k.delAddr(l, a.Prefix)
		}
	}
	for _, p := range s.Addrs {
		e.k.addAddr(l, host.Addr{Prefix: p})
	}
	e.k.tellLink(l)
	d := &device{index: l.Index, link: l, addrs: s.Addrs}
	d.queue = e.openPort(l, func() {
		if !e.keep {
			e.k.removeLink(l)
		}
	})
	return d, nil
}

// Index implements edge.Device.
func (d *device) Index() int { return d.index }

// USO implements edge.Device.
func (d *device) USO() bool { return true }

// Readdress implements edge.Device.
func (d *device) Readdress() (lost []netip.Prefix, err error) {
	unlock, err := d.e.enter("Readdress")
	if err != nil {
		return nil, err
	}
	defer unlock()
	for _, p := range d.addrs {
		if !slices.ContainsFunc(d.link.addrs, func(a host.Addr) bool { return a.Prefix == p }) {
			d.e.k.addAddr(d.link, host.Addr{Prefix: p})
			lost = append(lost, p)
		}
	}
	return lost, nil
}

// Describe implements edge.Device.
func (d *device) Describe(alias string) error {
	unlock, err := d.e.enter("Describe")
	if err != nil {
		return err
	}
	defer unlock()
	d.link.Alias = alias
	return nil
}

// Carry implements edge.Device. There is no flow table.
func (d *device) Carry(int) error {
	unlock, err := d.e.enter("Carry")
	if err != nil {
		return err
	}
	unlock()
	return nil
}
