package events

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/control/directory"
	"github.com/vswitch/vswitch/control/inventory"
	"github.com/vswitch/vswitch/dataplane/conntrack"
)

// about adds an event of a container: fill gets its name, as soon as it has one.
func (l *Log) about(ct *inventory.Container, fill func(whole *directory.Container) api.Event) {
	last := l.whole(ct)
	l.later(ct.Rec.ID, nameless(last), func() told {
		if now := l.names.Now().ByID(ct.Rec.ID); now != nil {
			last = now
		}
		e := fill(last)
		e.Container = last.Name
		return told{e, last}
	})
}

// Attached tells of a container that was attached, or given more.
func (l *Log) Attached(ct *inventory.Container) {
	var e api.Event
	for _, ep := range ct.Endpoints {
		e.Addresses = append(e.Addresses, inventory.Texts(ep.Prefixes())...)
		e.Interface, e.MAC = cmp.Or(e.Interface, ep.Veth), cmp.Or(e.MAC, ep.MAC.String())
	}
	e.Ports = inventory.PortTexts(ct.Mappings)
	id, eps := ct.Rec.ID, ct.Endpoints
	l.about(ct, func(whole *directory.Container) api.Event {
		for _, ep := range eps {
			e.Network = cmp.Or(e.Network, ep.Network.Called())
		}
		e.Type, e.Message = api.EventAttach, "container "+whole.Name+" attached"
		if i := slices.IndexFunc(whole.Pieces, func(p *directory.Container) bool { return p.ID == id }); i >= 0 && whole.ID != id {
			e.Type, e.Message = api.EventConnect, "container "+whole.Name+" joined network "+e.Network
		}
		if len(e.Addresses) > 0 {
			e.Message += " with " + strings.Join(e.Addresses, ", ")
		}
		return e
	})
}

// Ending is a container, or a piece of one, that is about to go.
type Ending struct {
	*directory.Container // all of it, as it was
	log                  *Log
	id                   string
}

// Ending remembers names before their bearer goes.
func (l *Log) Ending(ct *inventory.Container) Ending {
	return Ending{l.whole(ct), l, ct.Rec.ID}
}

// Tell tells of the end, and why. A piece that goes while others stay leaves its network.
func (e Ending) Tell(why string) {
	e.log.named(e.id)
	var piece *directory.Container
	stays := false
	for _, p := range e.Pieces {
		if p.ID == e.id {
			piece = p
		} else {
			stays = stays || e.log.names.Now().ByID(p.ID) != nil
		}
	}
	out := api.Event{Type: api.EventDetach, Container: e.Name, Message: "container " + e.Name + " detached"}
	if stays && piece != nil && len(piece.Endpoints) > 0 {
		ep := piece.Endpoints[0]
		out.Type, out.Message = api.EventDisconnect, "container "+e.Name+" left network "+ep.Network
		out.Network, out.Interface, out.MAC, out.Addresses = ep.Network, ep.Veth, ep.MAC.String(), inventory.Texts(ep.Addrs)
	}
	if why != "detach" {
		out.Message += ": " + why
	}
	e.log.add(told{out, e.Container})
}

// Moved tells of an endpoint that came or left: kind is api.EventConnect or
// api.EventDisconnect.
func (l *Log) Moved(kind string, e *inventory.Endpoint) {
	verb := map[string]string{api.EventConnect: "joined", api.EventDisconnect: "left"}[kind]
	addrs := inventory.Texts(e.Prefixes())
	l.about(e.Container, func(whole *directory.Container) api.Event {
		return api.Event{
			Type: kind, Network: e.Network.Called(), Interface: e.Veth, MAC: e.MAC.String(),
			Addresses: addrs, Message: "container " + whole.Name + " " + verb + " network " + e.Network.Called(),
		}
	})
}

// Renamed tells that a container has another name than it had, if it has. Events that waited for
// its first one are told by it. It returns the name.
func (l *Log) Renamed(ct *inventory.Container, was string) (name string) {
	now := l.whole(ct)
	if nameless(now) || l.named(ct.Rec.ID) || now.Name == was {
		return now.Name
	}
	l.add(told{api.Event{Type: api.EventRename, Container: now.Name, Was: was, Message: "container " + was + " is called " + now.Name + " now"}, now})
	return now.Name
}

// OnTheWayIn tells of a program of others that sees what goes into a container.
func (l *Log) OnTheWayIn(e *inventory.Endpoint, program string) {
	l.about(e.Container, func(whole *directory.Container) api.Event {
		return api.Event{
			Type: api.EventCableProgram, Network: e.Network.Called(), Interface: e.Veth,
			Message: program + " sees what goes to container " + whole.Name + ": its flows take the way through it",
		}
	})
}

// OnTheWayOut tells of a chain of others that sees what leaves by an uplink.
func (l *Log) OnTheWayOut(uplink, program string) {
	l.Emit(api.Event{
		Type: api.EventUplinkProgram, Interface: uplink,
		Message: program + " sees what leaves by uplink " + uplink + ": the kernel does not carry what leaves there, for the chain would miss it",
	})
}

// Ports tells of published ports that came or left: kind is api.EventPublish or
// api.EventUnpublish.
func (l *Log) Ports(kind string, ct *inventory.Container, list []*inventory.Mapping) {
	ports := inventory.PortTexts(list)
	l.about(ct, func(whole *directory.Container) api.Event {
		return api.Event{Type: kind, Ports: ports, Message: "container " + whole.Name + ": " + strings.Join(ports, ", ") + " " + kind + "ed"}
	})
}

// NotAgain tells that ports which somebody had added to a container of a runtime are not
// published again, and why.
func (l *Log) NotAgain(container string, ports []string, why string) {
	l.add(told{api.Event{
		Type: api.EventUnpublish, Container: container, Ports: ports,
		Message: "container " + container + ": " + strings.Join(ports, ", ") + ", added by hand, not published again: " + why,
	}, l.names.Now().Named(container)})
}

// network adds an event of a network: fill gets its name, as soon as it has one.
func (l *Log) network(n *inventory.Network, fill func(name string) api.Event) {
	l.later(n.Rec.ID, namelessNetwork(n), func() told {
		e := fill(n.Called())
		e.Network = n.Called()
		return told{Event: e}
	})
}

// NetworkCreated tells of a network that was made, with these subnets.
func (l *Log) NetworkCreated(n *inventory.Network, subnets []string) {
	device := n.Rec.TAP
	l.network(n, func(name string) api.Event {
		return api.Event{Type: api.EventNetworkCreate, Interface: device, Addresses: subnets, Message: "network " + name + " created"}
	})
}

// NetworkUpdated tells of one that was changed. A name from its runtime is no change of it where
// nobody has heard of another.
func (l *Log) NetworkUpdated(n *inventory.Network, was string) {
	now := n.Called()
	if !namelessNetwork(n) && l.named(n.Rec.ID) && now != was {
		return
	}
	e := api.Event{Type: api.EventNetworkUpdate, Message: "network " + now + " changed"}
	if now != was {
		e.Was, e.Message = was, "network "+was+" is called "+now+" now"
	}
	l.network(n, func(string) api.Event { return e })
}

// NetworkRemoved tells of one that is no more.
func (l *Log) NetworkRemoved(n *inventory.Network) {
	l.named(n.Rec.ID)
	l.Emit(api.Event{Type: api.EventNetworkRemove, Network: n.Called(), Interface: n.Rec.TAP, Message: "network " + n.Called() + " removed"})
}

// Pressure tells that flows were refused or gave way (RFC 6888 REQ-11 c).
func (l *Log) Pressure(p conntrack.Pressure) {
	if p.TableFull > 0 {
		l.Emit(api.Event{Type: api.EventTableFull, Count: p.TableFull, Message: fmt.Sprintf("%d flows refused: conntrack is full, and their containers hold as much as any", p.TableFull)})
	}
	if p.Evicted > 0 {
		l.Emit(api.Event{Type: api.EventTableFull, Count: p.Evicted, Message: fmt.Sprintf("%d flows made room for new ones", p.Evicted)})
	}
	if p.PortsExhausted > 0 {
		l.Emit(api.Event{Type: api.EventLimitHit, Count: p.PortsExhausted, Message: fmt.Sprintf("%d flows refused: no masquerade port is free", p.PortsExhausted)})
	}
}

// GatewayBack tells of addresses that were taken from the device of a network, which has them again.
func (l *Log) GatewayBack(n *inventory.Network, lost []netip.Prefix) {
	texts := inventory.Texts(lost)
	l.Emit(api.Event{
		Type: api.EventGatewayBack, Network: n.Called(), Interface: n.Rec.TAP, Addresses: texts,
		Message: fmt.Sprintf("somebody has taken %s from %s, the device of network %s: it is back; a manager of networks is to leave vs-* alone", strings.Join(texts, ", "), n.Rec.TAP, n.Called()),
	})
}
