package directory

import (
	"cmp"
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
	watchers  []*func()
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

// Watch calls changed after each change of any kind, until stop. It may not block.
func (l *Live) Watch(changed func()) (stop func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	w := &changed
	l.watchers = append(l.watchers, w)
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.watchers = slices.DeleteFunc(l.watchers, func(o *func()) bool { return o == w })
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
	for _, w := range l.watchers {
		(*w)()
	}
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

func (e *edit) dropPort(id frame.PortID, of *Container) {
	p, ok := e.ports.get(id)
	if !ok {
		return
	}
	e.ports, e.gone = e.ports.without(id), e.gone.with(id, gonePort{p, of})
	e.touched = append(e.touched, id)
}

// PutContainer enters a container as it is now, in place of what its ID had. One with a key
// of others is a piece of one container with them.
func (l *Live) PutContainer(ct Container) { l.change(func(e *edit) { e.putPiece(ct.ID, &ct) }) }

// PutContainers enters several at once.
func (l *Live) PutContainers(list []Container) {
	l.change(func(e *edit) {
		for i := range list {
			e.putPiece(list[i].ID, &list[i])
		}
	})
}

// DropContainer forgets a container, or a piece of one.
func (l *Live) DropContainer(id string) { l.change(func(e *edit) { e.putPiece(id, nil) }) }

// putPiece enters a piece, or with nil forgets it, and makes anew what it was and is a part of.
func (e *edit) putPiece(id string, ct *Container) {
	was, _ := e.pieces.get(id)
	if was == nil && ct == nil {
		return
	}
	touched := map[string]bool{id: true}
	var old []*Container
	if was != nil {
		old = append(old, e.ByID(id))
	}
	for _, p := range []*Container{was, ct} {
		if p == nil {
			continue
		}
		for _, key := range p.Keys {
			ids, _ := e.keyed.get(key)
			for _, other := range ids {
				if o := e.ByID(other); !slices.Contains(old, o) {
					old = append(old, o)
				}
			}
		}
	}
	for _, o := range old {
		for _, p := range o.pieces() {
			touched[p.ID] = true
		}
	}
	if was != nil {
		for _, key := range was.Keys {
			e.keyed = unlisted(e.keyed, key, id)
		}
		e.pieces = e.pieces.without(id)
	}
	if ct != nil {
		for _, key := range ct.Keys {
			e.keyed = listed(e.keyed, key, id)
		}
		e.pieces = e.pieces.with(id, ct)
	}
	var next []*Container
	for id := range touched {
		if p, _ := e.pieces.get(id); p != nil && !slices.ContainsFunc(next, func(n *Container) bool { return n.has(id) }) {
			next = append(next, e.whole(p))
		}
	}
	for _, o := range old {
		e.release(o, next)
	}
	for _, n := range next {
		e.putContainer(n)
	}
}

// listed is the table with one more in the list of a key, unlisted with one less.
func listed(t table[string, []string], key, id string) table[string, []string] {
	list, _ := t.get(key)
	if slices.Contains(list, id) {
		return t
	}
	list = append(slices.Clone(list), id)
	slices.Sort(list)
	return t.with(key, list)
}

func unlisted(t table[string, []string], key, id string) table[string, []string] {
	list, _ := t.get(key)
	if list = slices.DeleteFunc(slices.Clone(list), func(o string) bool { return o == id }); len(list) == 0 {
		return t.without(key)
	}
	return t.with(key, list)
}

func (e *edit) putContainer(ct *Container) {
	for _, p := range ct.pieces() {
		e.containers = e.containers.with(p.ID, ct)
	}
	for _, name := range ct.names() {
		e.names = listed(e.names, name, ct.ID)
	}
	for _, ep := range ct.Endpoints {
		for _, a := range ep.Addrs {
			o := owner{ct.ID, ct.Name, ep.Network, ep.Ifname}
			if was, _ := e.addrs.get(a); was != o {
				e.addrs = e.addrs.with(a, o)
			}
		}
		if ep.Plugged {
			e.setPort(ep.Port, Port{ep.Veth, KindContainer, ep.Network, ct.Name, ct.ID, ep.Ifname, ct.Runtime})
		}
	}
}

// release takes out the IDs, names, addresses and ports of a container that none of next has.
func (e *edit) release(was *Container, next []*Container) {
	for _, p := range was.pieces() {
		if !slices.ContainsFunc(next, func(n *Container) bool { return n.has(p.ID) }) {
			e.containers = e.containers.without(p.ID)
		}
	}
	for _, name := range was.names() {
		if !slices.ContainsFunc(next, func(n *Container) bool { return n.ID == was.ID && slices.Contains(n.names(), name) }) {
			e.names = unlisted(e.names, name, was.ID)
		}
	}
	keeps := func(keep func(*Endpoint) bool) bool {
		return slices.ContainsFunc(next, func(n *Container) bool {
			return slices.ContainsFunc(n.Endpoints, func(ep Endpoint) bool { return keep(&ep) })
		})
	}
	for _, ep := range was.Endpoints {
		for _, a := range ep.Addrs {
			if o, _ := e.addrs.get(a); o.id == was.ID && !keeps(func(n *Endpoint) bool { return slices.Contains(n.Addrs, a) }) {
				e.addrs = e.addrs.without(a)
			}
		}
		if p, _ := e.ports.get(ep.Port); ep.Plugged && p.Owner == was.ID && !keeps(func(n *Endpoint) bool { return n.Plugged && n.Port == ep.Port }) {
			e.dropPort(ep.Port, was)
		}
	}
}

// PutNetwork enters a network as it is now, in place of what its ID had.
func (l *Live) PutNetwork(n Network) {
	l.change(func(e *edit) {
		was, _ := e.networks.get(n.ID)
		e.dropNetwork(was, n.Plugged)
		n.Made = cmp.Or(n.Made, n.Name)
		e.networks, e.netNames = e.networks.with(n.ID, &n), e.netNames.with(n.Name, &n).with(n.Made, &n)
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
	for _, name := range []string{was.Name, was.Made} {
		if e.NetworkNamed(name) == was {
			e.netNames = e.netNames.without(name)
		}
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
		e.dropPort(was.Port, nil)
	}
}

// PutUplink enters an interface of the host under the number of its port.
func (l *Live) PutUplink(id frame.PortID, ifname string) {
	l.change(func(e *edit) { e.setPort(id, Port{Name: ifname, Kind: KindUplink, Ifname: ifname}) })
}

// DropUplink forgets the port of an uplink.
func (l *Live) DropUplink(id frame.PortID) { l.change(func(e *edit) { e.dropPort(id, nil) }) }

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
