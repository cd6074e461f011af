package directory

import (
	"iter"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/vswitch/vswitch/control/model"
	"github.com/vswitch/vswitch/dataplane/frame"
	"github.com/vswitch/vswitch/dataplane/header"
)

// HostName is what the host is called where a container's name could stand.
const HostName = "host"

// Kinds of ports.
const (
	KindContainer = "container"
	KindHost      = "host" // the TAP of a network
	KindUplink    = "uplink"
)

// Port is what a port of the switch is called in tables, and whose it is.
type Port struct {
	Name    string // of the host's interface
	Kind    string
	Network string // "" of an uplink
	// Container is the name of the container at the port, Owner its ID; both "" of others.
	Container, Owner string
	Ifname           string // at the other end; Name where there is none
	Runtime          string // of the container
}

// Title is what a capture calls a port: "web/eth0 (bridge)".
func (p Port) Title() string {
	switch p.Kind {
	case KindContainer:
		return p.Container + "/" + p.Ifname + " (" + p.Network + ")"
	case KindHost:
		return "host/" + p.Ifname + " (" + p.Network + ")"
	case "":
		return ""
	}
	return p.Kind + "/" + p.Ifname
}

// Container is an attached container, or one being attached or released: with all its
// interfaces, even where its runtime attached each by itself.
type Container struct {
	ID, Name, RuntimeID string
	Runtime             string
	// Called is what its user calls it, where its runtime has said so; "": Name.
	Called string
	// Keys are what the pieces of one container have in common: its sandbox, what its
	// runtime calls it. None: it is in one piece.
	Keys []string
	// Labels are what its user and its runtime say of it, Project and Services what it is of and
	// what it is there as, in the words of Compose; a service also by its aliases.
	Labels   map[string]string
	Project  string
	Services []string
	// Hostname is a name of it in all its networks. NameServers are asked for it outside, none: its networks'; and Hosts
	// are names that it alone knows.
	Hostname    string
	NameServers []netip.Addr
	Hosts       []Host
	Created     time.Time
	Mode, Peer  string // whose network it has in place of one, and of which container
	Ready       bool   // others may name it
	WayOut      bool   // its runtime says that this piece is the way out
	Endpoints   []Endpoint
	Published   []Published
	// Pieces are what was attached by itself, the container's way out first; nil: all at once.
	Pieces []*Container
}

// Endpoint is a container's place in a network.
type Endpoint struct {
	Network      string
	Ifname, Veth string
	MAC          header.MAC
	Addrs        []netip.Addr
	Aliases      []string // names in the network
	Port         frame.PortID
	Plugged      bool // Port is one of the switch
	Live         bool // the switch knows what is at Port
	// LeadsOut says of each family whether the network has a way out: the first endpoint
	// of a container that has one is its gateway.
	LeadsOut [2]bool
}

// Published counts a container's published ports of a protocol.
type Published struct {
	Proto string
	Ports int
}

// Gateway is the endpoint by which a container reaches what is in none of its networks,
// nil when there is none.
func (ct *Container) Gateway(f model.Family) *Endpoint {
	for i := range ct.Endpoints {
		if ct.Endpoints[i].LeadsOut[f] {
			return &ct.Endpoints[i]
		}
	}
	return nil
}

// Addr is the address of a family, invalid when there is none.
func (e *Endpoint) Addr(f model.Family) netip.Addr {
	for _, a := range e.Addrs {
		if model.FamilyOf(a) == f {
			return a
		}
	}
	return netip.Addr{}
}

// Network is a network, or one being made.
type Network struct {
	ID, Name, TAP string
	Made          string   // the name that it was made under, "": Name
	RuntimeIDs    []string // of networks of runtimes, for which it is there
	Number        frame.NetworkID
	Ready         bool
	MAC           header.MAC // of the gateway
	Subnets       []Subnet
	Port          frame.PortID
	Plugged       bool
	Internal      bool         // it has no way out
	NoDNS         bool         // its gateways answer no names
	NameServers   []netip.Addr // asked outside, none: the host's
}

// Host is a name with an address, an invalid one is the gateway's.
type Host struct {
	Name string
	Addr netip.Addr
}

// Subnet is what a network has of one family.
type Subnet struct {
	Prefix   netip.Prefix
	Gateway  netip.Addr
	Isolated bool // the gateway takes nothing, and the host is not there
	WayOut   bool // the gateway leads to the world
}

// Subnet is a network's of a family, nil when it has none.
func (n *Network) Subnet(f model.Family) *Subnet {
	for i := range n.Subnets {
		if model.FamilyOf(n.Subnets[i].Gateway) == f {
			return &n.Subnets[i]
		}
	}
	return nil
}

// Uplink is an interface of the host by which containers go out.
type Uplink struct {
	Port  frame.PortID
	Name  string
	MAC   header.MAC
	Addrs []netip.Prefix // that masquerade may use, with their subnets
}

// owner is the container that has an address, and where.
type owner struct{ id, name, network, ifname string }

// gonePort is a port that was, and the container that was at it.
type gonePort struct {
	Port
	of *Container
}

// Directory is who has what at one time. It never changes, and neither may what it
// returns. The zero value names nothing.
type Directory struct {
	// Revision is that of the newest snapshot when the directory was made.
	Revision uint64

	ports table[frame.PortID, Port]
	// gone are ports that were, until their number is another's: frames of theirs may
	// still be read. There are never more than numbers.
	gone       table[frame.PortID, gonePort]
	addrs      table[netip.Addr, owner]
	pieces     table[string, *Container] // by ID, as they were entered
	keyed      table[string, []string]   // IDs of pieces, by their keys
	containers table[string, *Container] // by the ID of each piece
	names      table[string, []string]   // IDs of containers, by all that they are called
	networks   table[string, *Network]   // by ID
	netNames   table[string, *Network]
	netNumbers table[frame.NetworkID, *Network]
	gateways   table[netip.Addr, string] // the ID of the network
	host       map[netip.Addr]bool       // addresses of the host's own
	uplinks    []Uplink
	slots      map[netip.Addr]int // claim slots of addresses that masquerade uses
}

// Uplinks are the interfaces of the host by which containers go out.
func (d *Directory) Uplinks() []Uplink { return d.uplinks }

// Slots are the claim slots of the host's addresses that masquerade may use.
func (d *Directory) Slots() map[netip.Addr]int { return d.slots }

// Networks ranges over the ready networks, in no order.
func (d *Directory) Networks() iter.Seq[*Network] {
	return func(yield func(*Network) bool) {
		for _, n := range d.networks.all() {
			if n.Ready && !yield(n) {
				return
			}
		}
	}
}

// Port returns a port of the switch.
func (d *Directory) Port(id frame.PortID) (Port, bool) { return d.ports.get(id) }

// LastPort returns a port, also one that is gone, unless its number is another's by now.
func (d *Directory) LastPort(id frame.PortID) (Port, bool) {
	if p, ok := d.ports.get(id); ok {
		return p, true
	}
	p, ok := d.gone.get(id)
	return p.Port, ok
}

// Behind is the container at a port, or of one that is gone the last there was; nil: none.
func (d *Directory) Behind(id frame.PortID) *Container {
	if p, ok := d.ports.get(id); ok {
		return d.ByID(p.Owner)
	}
	p, _ := d.gone.get(id)
	return p.of
}

// Ports are the numbers of all ports, sorted; with gone also those of ports that were.
func (d *Directory) Ports(gone bool) []frame.PortID {
	ids := make([]frame.PortID, 0, d.ports.n)
	for id := range d.ports.all() {
		ids = append(ids, id)
	}
	if gone {
		for id := range d.gone.all() {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}

// Name is the name of an address and of the network it is in, "" for one of the outside.
func (d *Directory) Name(a netip.Addr) (name, network string) {
	if o, ok := d.addrs.get(a); ok {
		return o.name, o.network
	}
	if _, ok := d.gateways.get(a); ok || d.host[a] {
		return HostName, ""
	}
	return "", ""
}

// Place is where an address is: an interface of a container, the zero value nowhere.
type Place struct {
	Owner, Container, Network, Ifname string
}

// Place is the place of a container's address.
func (d *Directory) Place(a netip.Addr) Place {
	o, _ := d.addrs.get(a)
	return Place{o.id, o.name, o.network, o.ifname}
}

// ContainerAt is the name of the container that has an address.
func (d *Directory) ContainerAt(a netip.Addr) (name string, ok bool) {
	o, ok := d.addrs.get(a)
	return o.name, ok
}

// Addrs ranges over the addresses of containers with their names, in no order.
func (d *Directory) Addrs() iter.Seq2[netip.Addr, string] {
	return func(yield func(netip.Addr, string) bool) {
		for a, o := range d.addrs.all() {
			if !yield(a, o.name) {
				return
			}
		}
	}
}

// NetworkNamed returns the network of a name, ready or not, or nil.
func (d *Directory) NetworkNamed(name string) *Network {
	n, _ := d.netNames.get(name)
	return n
}

// NetworkName is the name of the network of a number, "" when there is none.
func (d *Directory) NetworkName(id frame.NetworkID) string {
	if n, _ := d.netNumbers.get(id); n != nil {
		return n.Name
	}
	return ""
}

// Network finds a ready network by name, also the one that it was made under, by ID, its own
// or a runtime's, or by the beginning of an ID that only one has.
func (d *Directory) Network(name string) (*Network, error) {
	if n := d.NetworkNamed(name); n != nil && n.Ready {
		return n, nil
	}
	var found *Network
	if len(name) >= minPrefix {
		begins := func(id string) bool { return strings.HasPrefix(id, name) }
		for _, n := range d.networks.all() {
			if n.Ready && (begins(n.ID) || slices.ContainsFunc(n.RuntimeIDs, begins)) {
				if found != nil {
					return nil, model.Invalidf("network %s: several IDs begin so: give more of it", name)
				}
				found = n
			}
		}
	}
	if found == nil {
		return nil, model.NotFoundf("network %s does not exist: see vswitch network ls, or make it with vswitch network create %s", name, name)
	}
	return found, nil
}
