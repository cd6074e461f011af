package dataplane

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/gaissmai/bart"

	"github.com/vswitch/vswitch/dataplane/conntrack"
	"github.com/vswitch/vswitch/dataplane/fdb"
	"github.com/vswitch/vswitch/dataplane/flowmap"
	"github.com/vswitch/vswitch/dataplane/frame"
	"github.com/vswitch/vswitch/dataplane/header"
)

// ErrSnapshot is wrapped by every error of NewSnapshot: the controller built
// something that contradicts itself.
var ErrSnapshot = errors.New("inconsistent snapshot")

// Snapshot is what the workers know of ports, networks and routes, immutable. They load it once
// a turn; the garbage collector is the grace period of an old one.
type Snapshot struct {
	revision uint64
	ports    [MaxPorts]*portConfig
	networks map[frame.NetworkID]*network
	stations map[header.Addr]*station
	fib      *bart.Table[*route]
	ours     addrSet // the host's own addresses, and all in networks' subnets, as fib has them
	publish  publishTable
	outside  map[header.Addr][]PublishConfig // of containers, by their address
	names    map[header.Addr]bool            // gateways at which names are answered
	// movesSCTP: an SCTP port is published under another number.
	movesSCTP bool
	rules     []Rule // in the order in which they are read
	general   rules  // those that are of no port or network alone
	pool      *conntrack.Pool
	timeouts  conntrack.Limits
	pinned    map[fdb.Key]frame.PortID // stations that have their port
	slots     map[header.Addr]int      // claim slots of the host's addresses
	ruled     [2]bool                  // see SnapshotConfig.Ruled
	byUplink  bool
}

type portConfig struct {
	PortConfig
	network *network // nil for an uplink
	uplink  *uplink  // nil unless it is one
	own     owned
	trunk   *vlanSet // nil for an access port
	rules   rules
	layer2  rules           // those that part it from containers of its network, and what comes before
	limited bool            // there are such
	asked   bool            // rows about protocols, ports or addresses concern what is bridged from or to it
	plain   bool            // the flow table can speak of it
	storm   int64           // ns of credit that a flooded frame costs, 0: free
	quota   conntrack.Quota // with defaults
	tenant  frame.PortID    // that its container is counted on
}

type network struct {
	NetworkConfig
	members []frame.PortID // where a flooded frame goes, VLANs aside
	guests  []frame.PortID // the same without the host
	gateway [2]header.Addr // IPv4, IPv6
	// linkLocal is the host's address on the network's link (IPv6).
	linkLocal header.Addr
	ipv6      bool // one of the subnets is
	vlans     bool // some port is in another VLAN than 0
	rules     rules
	// What rows say of all of the network:
	closed    [2]*Rule // of the family nothing passes between containers and the host
	shut      *Rule    // the same of what is of no family
	tracked   bool     // some may not begin everything to the host, or the host to them
	welcoming bool     // strangers may come in by a mapping
}

type uplink struct {
	UplinkConfig
	slots map[header.Addr]int
}

type station struct {
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
		networks: make(map[frame.NetworkID]*network, len(cfg.Networks)),
		stations: make(map[header.Addr]*station, len(cfg.Stations)),
		fib:      new(bart.Table[*route]),
		pool:     conntrack.NewPool(cfg.MasqueradePorts, cfg.MasqueradeLast),
		slots:    make(map[header.Addr]int),
		ruled:    cfg.Ruled,
		byUplink: cfg.ByUplink,
		pinned:   make(map[fdb.Key]frame.PortID, len(cfg.Ports)),
	}
	for _, build := range []func(*SnapshotConfig) error{
		s.addTimeouts, s.addNetworks, s.addPorts, s.addUplinks, s.addStations, s.addRoutes, s.addPublish, s.addRules,
	} {
		if err := build(&cfg); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrSnapshot, err)
		}
	}
	return s, nil
}

func (s *Snapshot) addTimeouts(cfg *SnapshotConfig) (err error) {
	s.timeouts, err = cfg.Timeouts.Compile()
	return err
}

func (s *Snapshot) addNetworks(cfg *SnapshotConfig) error {
	for _, nc := range cfg.Networks {
		if nc.ID == 0 || s.networks[nc.ID] != nil {
			return fmt.Errorf("network %d: no ID of its own", nc.ID)
		}
		n := &network{NetworkConfig: nc, linkLocal: linkLocal(nc.GatewayMAC)}
		for _, g := range nc.Gateways {
			n.gateway[family(header.AddrFrom(g))] = header.AddrFrom(g)
			if nc.Names {
				if s.names == nil {
					s.names = make(map[header.Addr]bool)
				}
				s.names[header.AddrFrom(g)] = true
			}
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
		p := &portConfig{PortConfig: pc, quota: pc.Quota.WithDefaults(), tenant: cmp.Or(pc.Tenant, pc.ID)}
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
		n.vlans = n.vlans || pc.VLAN != 0 || p.trunk != nil
		n.members = append(n.members, pc.ID)
		if pc.Kind != PortHost {
			n.guests = append(n.guests, pc.ID)
		}
		if pc.MAC != (header.MAC{}) {
			s.pinned[fdb.KeyOf(pc.Network, pc.VLAN, pc.MAC)] = pc.ID
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
			if slot <= flowmap.WildcardSlot || slot >= flowmap.WildcardSlot6 {
				return fmt.Errorf("uplink port %d: address %s has slot %d", uc.Port, a, slot)
			}
			u.slots[header.AddrFrom(a)] = slot
			s.slots[header.AddrFrom(a)] = slot
		}
		s.ports[uc.Port].uplink = u
	}
	return nil
}

func (s *Snapshot) addStations(cfg *SnapshotConfig) error {
	for _, h := range cfg.Stations {
		n, a := s.networks[h.Network], header.AddrFrom(h.Addr)
		if n == nil || int(h.Port) >= MaxPorts || s.ports[h.Port] == nil || s.ports[h.Port].network != n {
			return fmt.Errorf("station %s: port %d is not in network %d", h.Addr, h.Port, h.Network)
		}
		if s.stations[a] != nil {
			return fmt.Errorf("station %s: address given twice", h.Addr)
		}
		s.stations[a] = &station{network: n, mac: h.MAC, port: h.Port}
		s.ports[h.Port].own.add(a)
	}
	return nil
}

func (s *Snapshot) addRoutes(cfg *SnapshotConfig) error {
	// No route leads from a link to what is on another (RFC 4291 2.5.6). Of IPv4 the
	// host's routes say so: clouds use its link-local addresses for what lies further.
	p := netip.MustParsePrefix("fe80::/10")
	s.fib.Insert(p, &route{RouteConfig: RouteConfig{Prefix: p, Kind: RouteUnreachable}})
	for _, rc := range cfg.Routes {
		r, err := s.newRoute(rc)
		if err != nil {
			return err
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
	s.ours = s.oursOf(cfg)
	return nil
}

// newRoute makes a route of the host one of the snapshot, which has its ports.
func (s *Snapshot) newRoute(rc RouteConfig) (*route, error) {
	r := &route{RouteConfig: rc, via: header.AddrFrom(rc.Via), source: header.AddrFrom(rc.Source)}
	if rc.Kind != RouteUplink {
		return r, nil
	}
	if int(rc.Uplink) >= MaxPorts || s.ports[rc.Uplink] == nil || s.ports[rc.Uplink].uplink == nil {
		return nil, fmt.Errorf("route %s: port %d is no uplink", rc.Prefix, rc.Uplink)
	}
	r.uplink = s.ports[rc.Uplink].uplink
	slot, ok := r.uplink.slots[r.source]
	if !ok {
		return nil, fmt.Errorf("route %s: source %s has no slot", rc.Prefix, rc.Source)
	}
	r.slot = slot
	return r, nil
}

func (s *Snapshot) addPublish(cfg *SnapshotConfig) error {
	var inside []PublishConfig
	for _, pc := range cfg.Publish {
		if pc.HostFirst > pc.HostLast || int(pc.ContainerFirst)+int(pc.HostLast-pc.HostFirst) > 65535 {
			return fmt.Errorf("publish %d-%d to %d: no interval", pc.HostFirst, pc.HostLast, pc.ContainerFirst)
		}
		if s.stations[pc.ContainerAddr] == nil {
			return fmt.Errorf("publish %d: no station %s", pc.HostFirst, pc.ContainerAddr)
		}
		switch every := everyAddr(pc.ContainerAddr); {
		case pc.HostAddr == header.Addr{}:
			pc.HostAddr = every
		case pc.HostAddr.Is4() != every.Is4():
			return fmt.Errorf("publish %d: %s to %s changes the family", pc.HostFirst, pc.HostAddr, pc.ContainerAddr)
		}
		s.movesSCTP = s.movesSCTP || pc.Proto == header.ProtoSCTP && pc.ContainerFirst != pc.HostFirst
		s.pool.Publish(pc.Proto, pc.HostFirst, pc.HostLast)
		if pc.Inside {
			inside = append(inside, pc)
			continue
		}
		s.publish.add(pc)
		if s.outside == nil {
			s.outside = make(map[header.Addr][]PublishConfig)
		}
		s.outside[pc.ContainerAddr] = append(s.outside[pc.ContainerAddr], pc)
	}
	for _, pc := range inside { // what is published at the gateway itself comes first
		if !s.publish.overlaps(pc) {
			s.publish.add(pc)
		}
	}
	return s.publish.sort()
}

// hasNetwork reports whether a network exists.
func (s *Snapshot) hasNetwork(id frame.NetworkID) bool { return s.networks[id] != nil }

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
	iv := s.published(proto, header.AddrFrom(addr), port)
	if iv == nil {
		return netip.AddrPort{}, false
	}
	return netip.AddrPortFrom(iv.ContainerAddr.NetIP(), iv.port(port)), true
}

// published finds the published port that a packet to an address of the host is for, nil when
// there is none.
func (s *Snapshot) published(proto uint8, addr header.Addr, port uint16) *PublishConfig {
	if port == PortOfNames && s.names[addr] && (proto == header.ProtoUDP || proto == header.ProtoTCP) {
		if iv := search(s.publish[publishKey{addr, proto}], port); iv != nil && !iv.Inside {
			return iv
		}
		return nil
	}
	return s.publish.find(proto, addr, port)
}

// family indexes pairs of things by address family.
func family(a header.Addr) int {
	if a.Is4() {
		return 0
	}
	return 1
}
