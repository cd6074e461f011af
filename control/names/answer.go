package names

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
)

// Names of the host, as Docker and Podman have them.
const (
	hostOfDocker = "host.docker.internal"
	hostOfPodman = "host.containers.internal"
)

// Kind is what an answer is.
type Kind uint8

const (
	Outside Kind = iota // who has it is asked outside
	Here                // its addresses or its name; none: there is nothing of the type (NODATA)
	Nowhere             // there is no such name (NXDOMAIN)
	Refused             // the asker is in no network whose names are answered
)

// Question is what somebody asks.
type Question struct {
	Asker   netip.Addr // its address
	Gateway netip.Addr // where it asks
	Name    string     // without the dot at the end
}

// Answer is what is told of a name, whatever the type of the question.
type Answer struct {
	Kind  Kind
	Addrs []netip.Addr // of both families, in the order in which they are told
	Name  string       // that an address has, without the dot at the end
	// Servers are to be asked Outside, none: the host's.
	Servers []netip.Addr
}

// Answer says what is told of a name.
func (z *Zone) Answer(q Question) Answer {
	z.mu.RLock()
	defer z.mu.RUnlock()
	var a Answer
	nets := z.networksLocked(&q)
	if len(nets) == 0 {
		a.Kind = Refused
		return a
	}
	name, ct := fold(q.Name), z.addrs[q.Asker]
	if ct != nil && ct.knows(name, nets[0], &a) {
		return a
	}
	z.tellLocked(name, nets, &a)
	if a.Kind == Outside && !slices.ContainsFunc(nets, func(n *network) bool { return !n.Internal }) {
		a.Kind = Nowhere
	}
	if a.Kind == Outside {
		a.Servers = serversOf(ct, nets)
	}
	return a
}

// knows finds a name that was given to the asker alone: it goes before all others, as in hosts(5).
func (c *container) knows(name string, first *network, a *Answer) bool {
	for _, h := range c.Hosts {
		if fold(h.Name) != name {
			continue
		}
		a.Kind = Here
		if h.Addr.IsValid() {
			a.Addrs = append(a.Addrs, h.Addr)
		} else {
			a.Addrs = append(a.Addrs, first.Gateways...)
		}
	}
	return a.Kind == Here
}

// serversOf are asked outside: the asker's own, or else what the first of its networks has that has some.
func serversOf(ct *container, nets []*network) []netip.Addr {
	if ct != nil && len(ct.Servers) > 0 {
		return ct.Servers
	}
	for _, n := range nets {
		if len(n.Servers) > 0 {
			return n.Servers
		}
	}
	return nil
}

// Tenant is whom an asker is counted on: its container, or its address where that is nobody's.
func (z *Zone) Tenant(asker netip.Addr) string {
	z.mu.RLock()
	defer z.mu.RUnlock()
	if ct := z.addrs[asker]; ct != nil {
		return ct.ID
	}
	return asker.String()
}

// networksLocked are the asker's, the one whose gateway it asks first. An address that is no
// container's, as behind a port without guard, is in the network that has its prefix.
func (z *Zone) networksLocked(q *Question) (list []*network) {
	if ct := z.addrs[q.Asker]; ct != nil {
		for _, p := range ct.Places {
			if n := z.networks[p.Network]; n != nil && !n.Off && !slices.Contains(list, n) {
				list = append(list, n)
			}
		}
	} else {
		for _, n := range z.networks {
			if !n.Off && n.has(q.Asker) {
				list = append(list, n)
			}
		}
	}
	if at := slices.Index(list, z.gateways[q.Gateway]); at > 0 {
		first := list[at]
		copy(list[1:], list[:at])
		list[0] = first
	}
	return list
}

func (n *network) has(a netip.Addr) bool {
	return slices.ContainsFunc(n.Prefixes, func(p netip.Prefix) bool { return p.Contains(a) })
}

// tellLocked finds a name, which is folded.
func (z *Zone) tellLocked(name string, nets []*network, a *Answer) {
	if addr, ok := reversed(name); ok {
		z.nameLocked(addr, nets, a)
		return
	}
	if find(name, nets, a) {
		return
	}
	// NAME.NETWORK, the longest network first: names of both may have dots.
	for _, n := range longest(name, nets) {
		of, ok := strings.CutSuffix(name, "."+fold(n.Network.Name))
		if ok && (find(of, []*network{n}, a) || n.forgets(of, a)) {
			return
		}
	}
	if name == hostOfDocker || name == hostOfPodman {
		a.Kind, a.Addrs = Here, slices.Clone(nets[0].Gateways)
		return
	}
	for _, n := range nets {
		if n.forgets(name, a) {
			return
		}
	}
}

// longest are networks for a name that has a dot, the longest name first.
func longest(name string, nets []*network) []*network {
	if !strings.Contains(name, ".") {
		return nil
	}
	nets = slices.Clone(nets)
	slices.SortStableFunc(nets, func(x, y *network) int { return len(y.Network.Name) - len(x.Network.Name) })
	return nets
}

// find looks for a name in some networks: containers that are called so, or else those that
// are there as a service, or by an alias.
func find(name string, nets []*network, a *Answer) bool {
	for _, lesser := range []bool{false, true} {
		for _, n := range nets {
			list := n.names[name]
			if lesser {
				list = n.lesser[name]
			}
			if len(list) == 0 {
				continue
			}
			a.Kind = Here
			first := len(a.Addrs)
			for _, ct := range list {
				for _, p := range ct.Places {
					if p.Network == n.ID {
						a.Addrs = append(a.Addrs, p.Addrs...)
					}
				}
			}
			in := a.Addrs[first:]
			if len(list) > 1 {
				rand.Shuffle(len(in), func(i, j int) { in[i], in[j] = in[j], in[i] })
			}
		}
		if a.Kind == Here {
			return true
		}
	}
	return false
}

// forgets reports whether a name is that of a container which has gone: it is nowhere, and who
// would be asked for it outside is not told that there was one.
func (n *network) forgets(name string, a *Answer) bool {
	if !n.gone[name] {
		return false
	}
	a.Kind = Nowhere
	return true
}

// nameLocked finds the name of an address. Addresses of our networks are asked nowhere else.
func (z *Zone) nameLocked(addr netip.Addr, nets []*network, a *Answer) {
	if ct := z.addrs[addr]; ct != nil {
		for _, p := range ct.Places {
			at := slices.IndexFunc(nets, func(n *network) bool { return n.ID == p.Network })
			if at >= 0 && slices.Contains(p.Addrs, addr) {
				a.Kind, a.Name = Here, ct.Name+"."+nets[at].Network.Name
				return
			}
		}
	}
	for _, n := range z.networks {
		if n.has(addr) {
			a.Kind = Nowhere
			return
		}
	}
}

// reversed reads the name under which the name of an address is asked for (RFC 1035, 3.5;
// RFC 3596, 2.5).
func reversed(name string) (addr netip.Addr, ok bool) {
	if of, is := strings.CutSuffix(name, ".in-addr.arpa"); is {
		parts := strings.Split(of, ".")
		slices.Reverse(parts)
		addr, err := netip.ParseAddr(strings.Join(parts, "."))
		return addr, err == nil && addr.Is4()
	}
	of, is := strings.CutSuffix(name, ".ip6.arpa")
	if !is || len(of) != 63 {
		return addr, false
	}
	var b [16]byte
	for i := range 32 {
		c := of[62-2*i]
		if i < 31 && of[61-2*i] != '.' {
			return addr, false
		}
		var v byte
		switch {
		case '0' <= c && c <= '9':
			v = c - '0'
		case 'a' <= c && c <= 'f':
			v = c - 'a' + 10
		default:
			return addr, false
		}
		b[i/2] |= v << (4 * (1 - i%2))
	}
	return netip.AddrFrom16(b), true
}
