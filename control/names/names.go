package names

import (
	"net/netip"
	"slices"
	"strings"
	"sync"
)

// mostGone is how many names of containers that have gone a network remembers.
const mostGone = 1024

// Network is what the resolver knows of a network.
type Network struct {
	ID, Name string
	Prefixes []netip.Prefix
	Gateways []netip.Addr // where its containers ask
	Internal bool         // of what is outside nobody is asked for it
	Off      bool         // its names are not answered
	Servers  []netip.Addr // asked outside, none: the host's
}

// Container is what the resolver knows of a container.
type Container struct {
	ID, Name string
	// Names are others by which it is known, as its runtime's ID; Services what it is there as,
	// which several may be.
	Names, Services []string
	Places          []Place
	Servers         []netip.Addr // asked outside for it, none: its networks'
	Hosts           []Host       // names that it alone knows
}

// Host is a name with an address, an invalid one is the gateway's.
type Host struct {
	Name string
	Addr netip.Addr
}

// Place is a container's part in a network.
type Place struct {
	Network string // its ID
	Addrs   []netip.Addr
	Aliases []string // by which it is known there, as others may be
}

// Zone is all names. The zero value has none. Its methods are safe for concurrent use.
type Zone struct {
	mu         sync.RWMutex
	networks   map[string]*network
	containers map[string]*container
	addrs      map[netip.Addr]*container
	gateways   map[netip.Addr]*network
}

type network struct {
	Network
	// names are containers by their own names, lesser by all else that they are called.
	names, lesser map[string][]*container
	gone          map[string]bool
	order         []string // of gone, the oldest first
}

type container struct {
	Container
	own, lesser []string            // folded
	aliases     map[string][]string // by network, folded, and none of those
}

func (z *Zone) initLocked() {
	if z.networks == nil {
		z.networks, z.containers = make(map[string]*network), make(map[string]*container)
		z.addrs, z.gateways = make(map[netip.Addr]*container), make(map[netip.Addr]*network)
	}
}

// fold makes names equal that DNS takes for equal (RFC 4343).
func fold(name string) string {
	if strings.IndexFunc(name, func(r rune) bool { return 'A' <= r && r <= 'Z' }) < 0 {
		return name
	}
	b := []byte(name)
	for i, c := range b {
		if 'A' <= c && c <= 'Z' {
			b[i] = c + 'a' - 'A'
		}
	}
	return string(b)
}

func folded(names ...string) (list []string) {
	for _, n := range names {
		if n = fold(n); n != "" && !slices.Contains(list, n) {
			list = append(list, n)
		}
	}
	return list
}

// PutNetwork enters a network in place of what its ID had.
func (z *Zone) PutNetwork(n Network) {
	z.mu.Lock()
	defer z.mu.Unlock()
	z.initLocked()
	at := z.networks[n.ID]
	if at == nil {
		at = &network{names: make(map[string][]*container), lesser: make(map[string][]*container), gone: make(map[string]bool)}
		z.networks[n.ID] = at
	}
	z.leaveGatewaysLocked(at)
	at.Network = n
	for _, g := range n.Gateways {
		z.gateways[g] = at
	}
	// Containers that were told of before their network.
	for _, ct := range z.containers {
		at.leave(ct)
		if ct.in(n.ID) {
			at.enter(ct)
		}
	}
}

// DropNetwork forgets a network.
func (z *Zone) DropNetwork(id string) {
	z.mu.Lock()
	defer z.mu.Unlock()
	if n := z.networks[id]; n != nil {
		z.leaveGatewaysLocked(n)
		delete(z.networks, id)
	}
}

func (z *Zone) leaveGatewaysLocked(n *network) {
	for _, g := range n.Gateways {
		if z.gateways[g] == n {
			delete(z.gateways, g)
		}
	}
}

// PutContainer enters a container in place of what its ID had.
func (z *Zone) PutContainer(c Container) {
	z.mu.Lock()
	defer z.mu.Unlock()
	z.initLocked()
	z.dropLocked(c.ID)
	ct := &container{Container: c, own: folded(c.Name), aliases: make(map[string][]string)}
	for _, n := range folded(slices.Concat(c.Names, c.Services)...) {
		if !slices.Contains(ct.own, n) {
			ct.lesser = append(ct.lesser, n)
		}
	}
	z.containers[c.ID] = ct
	for _, p := range c.Places {
		for _, n := range folded(p.Aliases...) {
			if !slices.Contains(ct.own, n) && !slices.Contains(ct.lesser, n) && !slices.Contains(ct.aliases[p.Network], n) {
				ct.aliases[p.Network] = append(ct.aliases[p.Network], n)
			}
		}
	}
	for _, p := range c.Places {
		for _, a := range p.Addrs {
			z.addrs[a] = ct
		}
		if n := z.networks[p.Network]; n != nil {
			n.enter(ct)
		}
	}
}

// DropContainer forgets a container; its networks remember what it was called.
func (z *Zone) DropContainer(id string) {
	z.mu.Lock()
	defer z.mu.Unlock()
	z.dropLocked(id)
}

func (z *Zone) dropLocked(id string) {
	ct := z.containers[id]
	if ct == nil {
		return
	}
	delete(z.containers, id)
	for _, p := range ct.Places {
		for _, a := range p.Addrs {
			if z.addrs[a] == ct {
				delete(z.addrs, a)
			}
		}
		if n := z.networks[p.Network]; n != nil {
			n.leave(ct)
			n.remember(ct)
		}
	}
}

func (c *container) in(network string) bool {
	return slices.ContainsFunc(c.Places, func(p Place) bool { return p.Network == network })
}

func (n *network) enter(ct *container) {
	for _, name := range ct.own {
		n.names[name] = append(n.names[name], ct)
	}
	for _, name := range ct.lesserIn(n.ID) {
		n.lesser[name] = append(n.lesser[name], ct)
	}
}

// lesserIn is all that it is called in a network beside its own name.
func (c *container) lesserIn(network string) []string {
	return slices.Concat(c.lesser, c.aliases[network])
}

func (n *network) leave(ct *container) {
	is := func(o *container) bool { return o == ct }
	out := func(m map[string][]*container, names []string) {
		for _, name := range names {
			if list := slices.DeleteFunc(m[name], is); len(list) > 0 {
				m[name] = list
			} else {
				delete(m, name)
			}
		}
	}
	out(n.names, ct.own)
	out(n.lesser, ct.lesserIn(n.ID))
}

// remember keeps what a container was called, so that its name is asked nowhere else.
func (n *network) remember(ct *container) {
	for _, name := range slices.Concat(ct.own, ct.lesserIn(n.ID)) {
		if n.gone[name] {
			continue
		}
		if len(n.order) == mostGone {
			delete(n.gone, n.order[0])
			n.order = n.order[1:]
		}
		n.gone[name] = true
		n.order = append(n.order, name)
	}
}

// All returns what the zone was told, in no order.
func (z *Zone) All() (networks []Network, containers []Container) {
	z.mu.RLock()
	defer z.mu.RUnlock()
	for _, n := range z.networks {
		networks = append(networks, n.Network)
	}
	for _, ct := range z.containers {
		containers = append(containers, ct.Container)
	}
	return networks, containers
}
