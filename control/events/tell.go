package events

import (
	"cmp"
	"fmt"
	"strings"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/control/inventory"
	"github.com/vswitch/vswitch/dataplane/conntrack"
)

// Attached tells of a container that was attached, or given more.
func (l *Log) Attached(ct *inventory.Container) {
	e := api.Event{Type: api.EventAttach, Container: ct.Called()}
	for _, ep := range ct.Endpoints {
		e.Addresses = append(e.Addresses, inventory.Texts(ep.Prefixes())...)
		e.Network, e.Interface, e.MAC = cmp.Or(e.Network, ep.Network.Called()), cmp.Or(e.Interface, ep.Veth), cmp.Or(e.MAC, ep.MAC.String())
	}
	e.Ports = inventory.PortTexts(ct.Mappings)
	e.Message = "container " + ct.Called() + " attached"
	if len(e.Addresses) > 0 {
		e.Message += " with " + strings.Join(e.Addresses, ", ")
	}
	l.Emit(e)
}

// Detached tells of a container that is no more, and why.
func (l *Log) Detached(name, why string) {
	msg := "container " + name + " detached"
	if why != "detach" {
		msg += ": " + why
	}
	l.Emit(api.Event{Type: api.EventDetach, Container: name, Message: msg})
}

// Moved tells of an endpoint that came or left: kind is api.EventConnect or
// api.EventDisconnect.
func (l *Log) Moved(kind string, e *inventory.Endpoint) {
	verb := map[string]string{api.EventConnect: "joined", api.EventDisconnect: "left"}[kind]
	l.Emit(api.Event{
		Type: kind, Container: e.Container.Called(), Network: e.Network.Called(), Interface: e.Veth, MAC: e.MAC.String(),
		Addresses: inventory.Texts(e.Prefixes()), Message: "container " + e.Container.Called() + " " + verb + " network " + e.Network.Called(),
	})
}

// OnTheWayIn tells of a program of others that sees what goes into a container.
func (l *Log) OnTheWayIn(e *inventory.Endpoint, program string) {
	name := e.Container.Called()
	l.Emit(api.Event{
		Type: api.EventCableProgram, Container: name, Network: e.Network.Called(), Interface: e.Veth,
		Message: program + " sees what goes to container " + name + ": its flows take the way through it",
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
	l.Emit(api.Event{
		Type: kind, Container: ct.Called(), Ports: ports,
		Message: "container " + ct.Called() + ": " + strings.Join(ports, ", ") + " " + kind + "ed",
	})
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
