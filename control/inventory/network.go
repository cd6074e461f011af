package inventory

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/control/directory"
	"github.com/vswitch/vswitch/control/edge"
	"github.com/vswitch/vswitch/control/model"
	"github.com/vswitch/vswitch/control/state"
	"github.com/vswitch/vswitch/dataplane/frame"
	"github.com/vswitch/vswitch/dataplane/header"
)

// Network is a network that exists or is being made.
type Network struct {
	Rec      state.Network
	ID       frame.NetworkID
	MAC      header.MAC // of the gateway
	Ready    bool       // with its TAP; compiled into snapshots
	TAP      edge.Device
	TAPIndex int
	Port     frame.PortID
	Plugged  bool // Port is in the switch
	Addrs    *model.Addresses
	MACs     map[header.MAC]string     // container by address
	Members  map[*Endpoint]bool        // also those still being attached
	bore     map[netip.Addr]header.MAC // who had an address last

	called atomic.Pointer[string] // by its runtime's user, where no other is called so
}

// Plugged are the networks whose device has an index and is in the switch, or all by index 0.
func (v *Inventory) Plugged(index int) (list []*Network) {
	for _, n := range v.Networks {
		if n.Plugged && (index == 0 || n.TAPIndex == index) {
			list = append(list, n)
		}
	}
	return list
}

// Device is the index of a network's device, 0 when there is none.
func (v *Inventory) Device(id frame.NetworkID) int {
	for _, n := range v.Networks {
		if n.ID == id {
			return n.TAPIndex
		}
	}
	return 0
}

// boreRoom bounds what a network remembers of addresses that nobody has.
const boreRoom = 4096

// left remembers who had the addresses of an endpoint.
func (n *Network) left(e *Endpoint) {
	for _, a := range e.Addrs {
		if len(n.bore) >= boreRoom {
			for o := range n.bore {
				delete(n.bore, o)
				break
			}
		}
		n.bore[a] = e.MAC
	}
}

// Moved are the addresses of an endpoint that another station had before: neighbours may know
// them by its MAC address.
func (e *Endpoint) Moved() (list []netip.Addr) {
	for _, a := range e.Addrs {
		if was, ok := e.Network.bore[a]; ok && was != e.MAC {
			list = append(list, a)
		}
	}
	return list
}

// Called is the name that people have for it. No two have the same.
func (n *Network) Called() string {
	if name := n.called.Load(); name != nil && *name != "" {
		return *name
	}
	return n.Rec.Name
}

// NewNetwork makes a network of a record, which may lack its subnets until Fill.
func NewNetwork(rec state.Network) *Network {
	return &Network{Rec: rec, Port: frame.NoPort, MACs: make(map[header.MAC]string), Members: make(map[*Endpoint]bool), bore: make(map[netip.Addr]header.MAC)}
}

// Fill sets what follows from the record. cursors are how far its addresses had got.
func (n *Network) Fill(cursors []netip.Addr) {
	n.MAC = model.GatewayMAC(n.Rec.Subnets[0].Gateway)
	n.Addrs = model.NewAddresses(n.Rec, cursors)
	n.MACs[n.MAC] = "the gateway"
}

// MemberNames are the containers of a network, at most ten of them.
func (n *Network) MemberNames() []string {
	var names []string
	for e := range n.Members {
		names = append(names, e.Container.Called())
	}
	slices.Sort(names)
	if more := len(names) - 10; more > 0 {
		names = append(names[:10], fmt.Sprintf("%d more", more))
	}
	return names
}

// Used reports whether a runtime relies on a network, with or without containers.
func (n *Network) Used() bool {
	for key := range n.Rec.Labels {
		if strings.HasPrefix(key, api.UsedBy) {
			return true
		}
	}
	return false
}

// listing is the entry of a network in the directory.
func (n *Network) listing() directory.Network {
	l := directory.Network{
		ID: n.Rec.ID, Name: n.Called(), Made: n.Rec.Name, TAP: n.Rec.TAP, Number: n.ID, Ready: n.Ready, MAC: n.MAC, Port: n.Port, Plugged: n.Plugged,
		Internal: n.Rec.Internal, NoDNS: n.Rec.NoDNS, NameServers: n.Rec.DNSServers,
		Subnets: make([]directory.Subnet, 0, len(n.Rec.Subnets)),
	}
	for key := range n.Rec.Labels {
		if of, ok := strings.CutPrefix(key, api.UsedBy); ok {
			_, id, _ := strings.Cut(of, ".")
			l.RuntimeIDs = append(l.RuntimeIDs, id)
		}
	}
	for _, s := range n.Rec.Subnets {
		isolated := s.Mode == api.GatewayIsolated
		l.Subnets = append(l.Subnets, directory.Subnet{Prefix: s.Prefix.Masked(), Gateway: s.Gateway, Isolated: isolated, WayOut: !isolated && !n.Rec.Internal})
	}
	return l
}

// Routes reports whether the addresses of a subnet are reached from outside.
func (n *Network) Routes(s state.Subnet) bool {
	return s.Mode == api.GatewayRouted && !n.Rec.Internal
}
