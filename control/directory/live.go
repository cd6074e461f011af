package directory

import (
	"maps"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/vswitch/vswitch/dataplane/frame"
)

var empty Directory

// Live is the directory of now. The zero value is ready for use. Its methods are safe for
// concurrent use; those that change it take turns.
type Live struct {
	now atomic.Pointer[Directory]

	mu        sync.Mutex // of changes
	followers []*follower
}

type follower struct {
	changed func(d *Directory, ports []frame.PortID)
}

// Now returns the newest directory. It takes no lock.
func (l *Live) Now() *Directory {
	if d := l.now.Load(); d != nil {
		return d
	}
	return &empty
}

// Follow calls changed for all ports that are, before it returns, and then after each
// change with the ports that came, left or are called differently, until stop. Calls
// come one after the other, from who makes the change; they may not change the directory.
func (l *Live) Follow(changed func(d *Directory, ports []frame.PortID)) (stop func()) {
	f := &follower{changed}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.followers = append(l.followers, f)
	d := l.Now()
	changed(d, d.Ports(false))
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.followers = slices.DeleteFunc(l.followers, func(o *follower) bool { return o == f })
	}
}

// edit is the next directory, and the ports whose entries differ in it.
type edit struct {
	*Directory
	touched []frame.PortID
}

func (l *Live) change(fn func(*edit)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	d := *l.Now()
	e := edit{Directory: &d}
	fn(&e)
	l.now.Store(e.Directory)
	if len(e.touched) > 0 {
		for _, f := range l.followers {
			f.changed(e.Directory, e.touched)
		}
	}
}

func (e *edit) setPort(id frame.PortID, p Port) {
	if was, ok := e.ports.get(id); ok && was == p {
		return
	}
	e.ports, e.gone = e.ports.with(id, p), e.gone.without(id)
	e.touched = append(e.touched, id)
}

func (e *edit) dropPort(id frame.PortID) {
	p, ok := e.ports.get(id)
	if !ok {
		return
	}
	e.ports, e.gone = e.ports.without(id), e.gone.with(id, p)
	e.touched = append(e.touched, id)
}

// PutContainer enters a container as it is now, in place of what its ID had.
func (l *Live) PutContainer(ct Container) { l.change(func(e *edit) { e.putContainer(&ct) }) }

// DropContainer forgets a container.
func (l *Live) DropContainer(id string) {
	l.change(func(e *edit) {
		if was := e.ByID(id); was != nil {
			e.release(was, &Container{})
			e.containers = e.containers.without(id)
		}
	})
}

func (e *edit) putContainer(ct *Container) {
	if was := e.ByID(ct.ID); was != nil {
		e.release(was, ct)
	}
	e.containers, e.names = e.containers.with(ct.ID, ct), e.names.with(ct.Name, ct)
	for _, ep := range ct.Endpoints {
		for _, a := range ep.Addrs {
			o := owner{ct.ID, ct.Name, ep.Network}
			if was, _ := e.addrs.get(a); was != o {
				e.addrs = e.addrs.with(a, o)
			}
		}
		if ep.Plugged {
			e.setPort(ep.Port, Port{ep.Veth, KindContainer, ep.Network, ct.Name, ct.ID, ep.Ifname})
		}
	}
}

// release takes out the name, addresses and ports of a container that next has not.
func (e *edit) release(was, next *Container) {
	if was.Name != next.Name && e.Named(was.Name) == was {
		e.names = e.names.without(was.Name)
	}
	keeps := func(keep func(*Endpoint) bool) bool {
		return slices.ContainsFunc(next.Endpoints, func(ep Endpoint) bool { return keep(&ep) })
	}
	for _, ep := range was.Endpoints {
		for _, a := range ep.Addrs {
			if o, _ := e.addrs.get(a); o.id == was.ID && !keeps(func(n *Endpoint) bool { return slices.Contains(n.Addrs, a) }) {
				e.addrs = e.addrs.without(a)
			}
		}
		if p, _ := e.ports.get(ep.Port); ep.Plugged && p.Owner == was.ID && !keeps(func(n *Endpoint) bool { return n.Plugged && n.Port == ep.Port }) {
			e.dropPort(ep.Port)
		}
	}
}

// PutNetwork enters a network as it is now, in place of what its ID had.
func (l *Live) PutNetwork(n Network) {
	l.change(func(e *edit) {
		was, _ := e.networks.get(n.ID)
		e.dropNetwork(was, n.Plugged)
		e.networks, e.netNames = e.networks.with(n.ID, &n), e.netNames.with(n.Name, &n)
		if n.Number != 0 {
			e.netNumbers = e.netNumbers.with(n.Number, &n)
		}
		for _, s := range n.Subnets {
			e.gateways = e.gateways.with(s.Gateway, n.ID)
		}
		if n.Plugged {
			e.setPort(n.Port, Port{Name: n.TAP, Kind: KindHost, Network: n.Name, Ifname: n.TAP})
		}
	})
}

// DropNetwork forgets a network.
func (l *Live) DropNetwork(id string) {
	l.change(func(e *edit) {
		was, _ := e.networks.get(id)
		e.dropNetwork(was, false)
	})
}

func (e *edit) dropNetwork(was *Network, keepPort bool) {
	if was == nil {
		return
	}
	e.networks = e.networks.without(was.ID)
	if e.NetworkNamed(was.Name) == was {
		e.netNames = e.netNames.without(was.Name)
	}
	if n, _ := e.netNumbers.get(was.Number); n == was {
		e.netNumbers = e.netNumbers.without(was.Number)
	}
	for _, s := range was.Subnets {
		if id, _ := e.gateways.get(s.Gateway); id == was.ID {
			e.gateways = e.gateways.without(s.Gateway)
		}
	}
	if was.Plugged && !keepPort {
		e.dropPort(was.Port)
	}
}

// PutUplink enters an interface of the host under the number of its port.
func (l *Live) PutUplink(id frame.PortID, ifname string) {
	l.change(func(e *edit) { e.setPort(id, Port{Name: ifname, Kind: KindUplink, Ifname: ifname}) })
}

// DropUplink forgets the port of an uplink.
func (l *Live) DropUplink(id frame.PortID) { l.change(func(e *edit) { e.dropPort(id) }) }

// SetHost says which addresses are the host's own, beside those of gateways.
func (l *Live) SetHost(addrs map[netip.Addr]bool) {
	if !maps.Equal(addrs, l.Now().host) {
		l.change(func(e *edit) { e.host = addrs })
	}
}

// SetUplinks says which interfaces are uplinks, in the order in which they were named, and
// which claim slots their addresses have. Neither is changed afterwards.
func (l *Live) SetUplinks(uplinks []Uplink, slots map[netip.Addr]int) {
	l.change(func(e *edit) { e.uplinks, e.slots = uplinks, slots })
}

// SetRevision says that a snapshot was made of what the directory names.
func (l *Live) SetRevision(r uint64) { l.change(func(e *edit) { e.Revision = r }) }
