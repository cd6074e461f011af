package dataplane

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/gaissmai/bart"

	"github.com/vswitch/vswitch/dataplane/frame"
	"github.com/vswitch/vswitch/dataplane/header"
)

// ErrSnapshot is wrapped by every error of NewSnapshot: the controller built
// something that contradicts itself.
var ErrSnapshot = errors.New("inconsistent snapshot")

// Snapshot is what the workers know of the world, immutable. They load it once
// a turn; the garbage collector is the grace period of an old one.
type Snapshot struct {
	revision uint64
	ports    [MaxPorts]*portConfig
	networks map[NetworkID]*network
	hosts    map[header.Addr]*host
	fib      *bart.Table[*route]
	publish  publishTable
	// movesSCTP: an SCTP port is published under another number.
	movesSCTP bool
	opened    map[publishKey][]PortRange // container ports that routed networks let in
	masqPort  portClasses
	timeouts  timeouts
	statics   []fdbStatic
	slots     map[header.Addr]int // claim slots of the host's addresses
}

type portConfig struct {
	PortConfig
	network  *network // nil for an uplink
	uplink   *uplink  // nil but for an uplink
	own      owned
	trunk    *vlanSet // nil for an access port
	isolated bool     // itself, or by its network
	plain    bool     // the flow table can speak of it
	storm    int64    // ns of credit that a flooded frame costs, 0: free
	quota    Quota    // with defaults
}

type network struct {
	NetworkConfig
	members []frame.PortID // where a flooded frame goes, VLANs aside
	guests  []frame.PortID // the same without the host
	gateway [2]header.Addr // IPv4, IPv6
	ipv6    bool           // one of the subnets is
	vlans   bool           // some port is in another VLAN than 0
}

type uplink struct {
	UplinkConfig
	slots map[header.Addr]int
}

type host struct {
	network *network
	mac     header.MAC
	port    frame.PortID
}

type route struct {
	RouteConfig
	network *network // routeNetwork
	uplink  *uplink  // RouteUplink
	via     header.Addr
	source  header.Addr
	slot    int // of source in the claims
}

// NewSnapshot checks cfg and builds the tables. The result keeps nothing of
// cfg's slices that the caller could change.
func NewSnapshot(cfg SnapshotConfig) (*Snapshot, error) {
	s := &Snapshot{
		revision: cfg.Revision,
		networks: make(map[NetworkID]*network, len(cfg.Networks)),
		hosts:    make(map[header.Addr]*host, len(cfg.Hosts)),
		fib:      new(bart.Table[*route]),
		masqPort: newPortClasses(cfg.MasqueradePorts),
		slots:    make(map[header.Addr]int),
	}
	for _, build := range []func(*SnapshotConfig) error{
		s.addTimeouts, s.addNetworks, s.addPorts, s.addUplinks, s.addHosts, s.addRoutes, s.addPublish,
	} {
		if err := build(&cfg); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrSnapshot, err)
		}
	}
	return s, nil
}

func (s *Snapshot) addTimeouts(cfg *SnapshotConfig) (err error) {
	s.timeouts, err = cfg.Timeouts.compile()
	return err
}

func (s *Snapshot) addNetworks(cfg *SnapshotConfig) error {
	for _, nc := range cfg.Networks {
		if nc.ID == 0 || s.networks[nc.ID] != nil {
			return fmt.Errorf("network %d: no ID of its own", nc.ID)
		}
		n := &network{NetworkConfig: nc}
		for _, g := range nc.Gateways {
			n.gateway[family(header.AddrFrom(g))] = header.AddrFrom(g)
		}
		n.ipv6 = slices.ContainsFunc(nc.Subnets, func(p netip.Prefix) bool { return p.Addr().Is6() })
		s.networks[nc.ID] = n
	}
	return nil
}

func (s *Snapshot) addPorts(cfg *SnapshotConfig) error {
	for _, pc := range cfg.Ports {
		if int(pc.ID) >= MaxPorts || s.ports[pc.ID] != nil {
			return fmt.Errorf("port %d: no ID of its own", pc.ID)
		}
		p := &portConfig{PortConfig: pc, quota: pc.Quota.withDefaults()}
		s.ports[pc.ID] = p
		if err := p.check(); err != nil {
			return fmt.Errorf("port %d: %w", pc.ID, err)
		}
		if pc.Kind == PortUplink {
			continue
		}
		n := s.networks[pc.Network]
		if n == nil {
			return fmt.Errorf("port %d: no network %d", pc.ID, pc.Network)
		}
		if pc.Kind == PortHost && n.HostPort != pc.ID {
			return fmt.Errorf("port %d: host port of network %d is %d", pc.ID, pc.Network, n.HostPort)
		}
		p.network = n
		p.isolated = pc.Kind == PortContainer && (pc.Isolated || n.Isolated)
		p.plain = p.plainPort()
		n.vlans = n.vlans || pc.VLAN != 0 || p.trunk != nil
		n.members = append(n.members, pc.ID)
		if pc.Kind != PortHost {
			n.guests = append(n.guests, pc.ID)
		}
		if pc.MAC != (header.MAC{}) {
			s.statics = append(s.statics, fdbStatic{key: fdbKeyOf(pc.Network, pc.VLAN, pc.MAC), port: pc.ID})
		}
	}
	return nil
}

// check finishes what follows from a port's own configuration.
func (p *portConfig) check() error {
	switch {
	case p.Guarded && (p.Kind != PortContainer || p.MAC.IsZero()):
		return errors.New("guarded, but no container's or without a MAC address")
	case p.Kind != PortContainer && (p.VLAN != 0 || len(p.Trunk) > 0):
		return errors.New("in a VLAN, but no container's")
	case p.VLAN > maxVLAN:
		return fmt.Errorf("VLAN %d: want at most %d", p.VLAN, maxVLAN)
	}
	for _, r := range p.Trunk {
		if r.First == 0 || r.First > r.Last || r.Last > maxVLAN {
			return fmt.Errorf("VLANs %d-%d: no interval within 1-%d", r.First, r.Last, maxVLAN)
		}
		if p.trunk == nil {
			p.trunk = new(vlanSet)
		}
		p.trunk.add(r)
	}
	p.own.linkLocal = linkLocal(p.MAC)
	p.MaxMACs = cmp.Or(p.MaxMACs, maxMACs)
	if p.StormRate >= 0 {
		p.storm = int64(time.Second) / int64(cmp.Or(p.StormRate, stormRate))
	}
	return nil
}

func (s *Snapshot) addUplinks(cfg *SnapshotConfig) error {
	for _, uc := range cfg.Uplinks {
		if int(uc.Port) >= MaxPorts || s.ports[uc.Port] == nil || s.ports[uc.Port].Kind != PortUplink {
			return fmt.Errorf("uplink port %d: not a port of kind uplink", uc.Port)
		}
		u := &uplink{UplinkConfig: uc, slots: make(map[header.Addr]int, len(uc.Slots))}
		for a, slot := range uc.Slots {
			if slot <= WildcardSlot || slot >= WildcardSlot6 {
				return fmt.Errorf("uplink port %d: address %s has slot %d", uc.Port, a, slot)
			}
			u.slots[header.AddrFrom(a)] = slot
			s.slots[header.AddrFrom(a)] = slot
		}
		s.ports[uc.Port].uplink = u
	}
	return nil
}

func (s *Snapshot) addHosts(cfg *SnapshotConfig) error {
	for _, h := range cfg.Hosts {
		n, a := s.networks[h.Network], header.AddrFrom(h.Addr)
		if n == nil || int(h.Port) >= MaxPorts || s.ports[h.Port] == nil || s.ports[h.Port].network != n {
			return fmt.Errorf("host %s: port %d is not in network %d", h.Addr, h.Port, h.Network)
		}
		if s.hosts[a] != nil {
			return fmt.Errorf("host %s: address given twice", h.Addr)
		}
		s.hosts[a] = &host{network: n, mac: h.MAC, port: h.Port}
		s.ports[h.Port].own.add(a)
	}
	return nil
}

func (s *Snapshot) addRoutes(cfg *SnapshotConfig) error {
	for _, rc := range cfg.Routes {
		r := &route{RouteConfig: rc, via: header.AddrFrom(rc.Via), source: header.AddrFrom(rc.Source)}
		if rc.Kind == RouteUplink {
			if int(rc.Uplink) >= MaxPorts || s.ports[rc.Uplink] == nil || s.ports[rc.Uplink].uplink == nil {
				return fmt.Errorf("route %s: port %d is no uplink", rc.Prefix, rc.Uplink)
			}
			r.uplink = s.ports[rc.Uplink].uplink
			slot, ok := r.uplink.slots[r.source]
			if !ok {
				return fmt.Errorf("route %s: source %s has no slot", rc.Prefix, rc.Source)
			}
			r.slot = slot
		}
		s.fib.Insert(rc.Prefix.Masked(), r)
	}
	for _, n := range s.networks {
		for _, p := range n.Subnets {
			s.fib.Insert(p.Masked(), &route{RouteConfig: RouteConfig{Prefix: p, Kind: routeNetwork}, network: n})
		}
		// The gateway is the host's own address, TAP or not.
		for _, g := range n.Gateways {
			p := netip.PrefixFrom(g, g.BitLen())
			s.fib.Insert(p, &route{RouteConfig: RouteConfig{Prefix: p, Kind: RouteLocal}})
		}
	}
	return nil
}

func (s *Snapshot) addPublish(cfg *SnapshotConfig) error {
	for _, pc := range cfg.Publish {
		if pc.First > pc.Last || int(pc.Target)+int(pc.Last-pc.First) > 65535 {
			return fmt.Errorf("publish %d-%d to %d: no interval", pc.First, pc.Last, pc.Target)
		}
		t := header.AddrFrom(pc.Addr)
		if s.hosts[t] == nil {
			return fmt.Errorf("publish %d: no host %s", pc.First, pc.Addr)
		}
		at := header.AddrFrom(pc.HostAddr)
		switch {
		case !pc.HostAddr.IsValid():
			at = everyAddr(t)
		case at.Is4() != t.Is4():
			return fmt.Errorf("publish %d: %s to %s changes the family", pc.First, pc.HostAddr, pc.Addr)
		}
		s.movesSCTP = s.movesSCTP || pc.Proto == header.ProtoSCTP && pc.Target != pc.First
		s.publish.add(pc.Proto, at, publishInterval{first: pc.First, last: pc.Last, addr: t, target: pc.Target})
		if s.hosts[t].network.Modes[family(t)] == GatewayRouted {
			s.open(pc.Proto, t, PortRange{First: pc.Target, Last: pc.Target + (pc.Last - pc.First)})
		}
	}
	return s.publish.sort()
}

// lookup finds the route of an address, nil when there is none.
func (s *Snapshot) lookup(a header.Addr) *route {
	r, _ := s.fib.Lookup(a.NetIP())
	return r
}

// slotOf is the claim slot of a host address. Addresses without one, such as a
// network's gateway, share the wildcard's bits in the masquerade plane, which no
// program looks at: nothing for them comes in by an uplink.
func (s *Snapshot) slotOf(a header.Addr) int { return s.slots[a] }

// Published finds where a published port leads: the container's address and
// port. A mapping of the specific address wins over one of every address.
func (s *Snapshot) Published(proto uint8, addr netip.Addr, port uint16) (netip.AddrPort, bool) {
	iv := s.publish.find(proto, header.AddrFrom(addr), port)
	if iv == nil {
		return netip.AddrPort{}, false
	}
	return netip.AddrPortFrom(iv.addr.NetIP(), iv.target+port-iv.first), true
}

// publishTable finds the interval a host port lies in: one sorted list for each
// protocol and host address, the unspecified address for every address of its
// family.
type publishTable map[publishKey][]publishInterval

type publishKey struct {
	addr  header.Addr
	proto uint8
}

type publishInterval struct {
	first, last uint16 // host ports
	target      uint16 // container port that first leads to
	addr        header.Addr
}

func (t *publishTable) add(proto uint8, hostAddr header.Addr, iv publishInterval) {
	if *t == nil {
		*t = make(publishTable)
	}
	k := publishKey{hostAddr, proto}
	(*t)[k] = append((*t)[k], iv)
}

func (t publishTable) sort() error {
	for k, list := range t {
		slices.SortFunc(list, func(a, b publishInterval) int { return cmp.Compare(a.first, b.first) })
		for i := 1; i < len(list); i++ {
			if list[i].first <= list[i-1].last {
				return fmt.Errorf("publish: port %d of protocol %d twice", list[i].first, k.proto)
			}
		}
	}
	return nil
}

func (t publishTable) find(proto uint8, addr header.Addr, port uint16) *publishInterval {
	if len(t) == 0 {
		return nil
	}
	if iv := search(t[publishKey{addr, proto}], port); iv != nil {
		return iv
	}
	return search(t[publishKey{everyAddr(addr), proto}], port)
}

// everyAddr is the unspecified address of a's family.
func everyAddr(a header.Addr) header.Addr {
	if a.Is4() {
		return header.AddrFrom4([4]byte{})
	}
	return header.Addr{}
}

// holds reports whether a port is published on any address.
func (t publishTable) holds(proto uint8, port uint16) bool {
	for k, list := range t {
		if k.proto == proto && search(list, port) != nil {
			return true
		}
	}
	return false
}

func search(list []publishInterval, port uint16) *publishInterval {
	i, found := slices.BinarySearchFunc(list, port, func(iv publishInterval, p uint16) int { return cmp.Compare(iv.first, p) })
	if !found {
		i--
	}
	if i < 0 || port > list[i].last {
		return nil
	}
	return &list[i]
}

// family indexes pairs of things by address family.
func family(a header.Addr) int {
	if a.Is4() {
		return 0
	}
	return 1
}
