package control

import (
	"cmp"
	"fmt"
	"log/slog"
	"strings"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/dataplane"
)

// What becomes an event, beside the few that are written where they happen.

func (c *Controller) emitAttachLocked(ct *container) {
	e := api.Event{Type: api.EventAttach, Container: ct.rec.Name}
	for _, ep := range ct.endpoints {
		e.Addresses = append(e.Addresses, texts(ep.prefixes())...)
		e.Network, e.Interface, e.MAC = cmp.Or(e.Network, ep.net.rec.Name), cmp.Or(e.Interface, ep.veth), cmp.Or(e.MAC, ep.mac.String())
	}
	e.Ports = portTexts(ct.mappings)
	e.Message = "container " + ct.rec.Name + " attached"
	if len(e.Addresses) > 0 {
		e.Message += " with " + strings.Join(e.Addresses, ", ")
	}
	c.emit(e)
}

func (c *Controller) emitDetach(name, why string) {
	msg := "container " + name + " detached"
	if why != "detach" {
		msg += ": " + why
	}
	c.emit(api.Event{Type: api.EventDetach, Container: name, Message: msg})
}

func (c *Controller) emitConnect(kind string, e *endpoint) {
	verb := map[string]string{api.EventConnect: "joined", api.EventDisconnect: "left"}[kind]
	c.emit(api.Event{
		Type: kind, Container: e.ct.rec.Name, Network: e.net.rec.Name, Interface: e.veth, MAC: e.mac.String(),
		Addresses: texts(e.prefixes()), Message: "container " + e.ct.rec.Name + " " + verb + " network " + e.net.rec.Name,
	})
}

func (c *Controller) emitPorts(kind string, ct *container, list []*mapping) {
	ports := portTexts(list)
	c.emit(api.Event{
		Type: kind, Container: ct.rec.Name, Ports: ports,
		Message: "container " + ct.rec.Name + ": " + strings.Join(ports, ", ") + " " + kind + "ed",
	})
}

// portTexts writes mappings as they stand after -p.
func portTexts(list []*mapping) []string {
	var out []string
	for _, m := range list {
		at := ""
		if m.hostIP.IsValid() {
			at = m.hostIP.String() + ":"
			if m.hostIP.Is6() {
				at = "[" + m.hostIP.String() + "]:"
			}
		}
		out = append(out, fmt.Sprintf("%s%s:%s/%s", at, portsText(m.first, m.last), portsText(m.target, m.target+(m.last-m.first)), protoName(m.proto)))
	}
	return out
}

func (c *Controller) emitPressure(p dataplane.Pressure) {
	if p.TableFull > 0 {
		c.emit(api.Event{Type: api.EventTableFull, Count: p.TableFull, Message: fmt.Sprintf("%d flows refused: conntrack is full of answered ones", p.TableFull)})
	}
	if p.Evicted > 0 {
		c.emit(api.Event{Type: api.EventTableFull, Count: p.Evicted, Message: fmt.Sprintf("%d half-open flows made room for new ones", p.Evicted)})
	}
	if p.PortsExhausted > 0 {
		c.emit(api.Event{Type: api.EventLimitHit, Count: p.PortsExhausted, Message: fmt.Sprintf("%d flows refused: no masquerade port is free", p.PortsExhausted)})
	}
}

// switchEvent is dataplane.Config.Event.
func (c *Controller) switchEvent(e dataplane.Event) {
	c.mu.Lock()
	at, _ := c.portNameLocked(e.Port)
	owner, ok := c.portNameLocked(e.Other)
	c.mu.Unlock()
	out := api.Event{
		Type: e.Kind.String(), Network: at.network, Container: at.container, Interface: at.name, VLAN: int(e.VLAN),
	}
	args := []any{"event", out.Type, "network", at.network, "port", at.name, "container", at.container}
	if e.Kind.OfStation() {
		out.MAC = e.MAC.String()
		args = append(args, "mac", out.MAC)
	}
	if ok {
		out.Owner = cmp.Or(owner.container, owner.name)
		args = append(args, "owner", owner.name, "owner_container", owner.container)
	}
	if e.VLAN != 0 {
		args = append(args, "vlan", e.VLAN)
	}
	out.Message = describeEvent(e.Kind, &out)
	level := slog.LevelWarn
	if e.Kind == dataplane.EventMove {
		level = slog.LevelInfo
	}
	c.log.Log(c.ctx, level, "port event", args...)
	c.emit(out)
}

// describeEvent is the line for people.
func describeEvent(k dataplane.EventKind, e *api.Event) string {
	who := cmp.Or(e.Container, e.Interface)
	owner := e.Owner
	if owner == "" {
		owner = "another station"
	}
	switch k {
	case dataplane.EventSpoof:
		return fmt.Sprintf("%s sent with MAC %s, which belongs to %s", who, e.MAC, owner)
	case dataplane.EventLoop:
		return fmt.Sprintf("a frame of MAC %s came back at %s: something bridges two ports behind it", e.MAC, who)
	case dataplane.EventFlap:
		return fmt.Sprintf("MAC %s moves between %s and %s too often and stays at %s for a minute", e.MAC, who, owner, owner)
	case dataplane.EventMove:
		return fmt.Sprintf("MAC %s moved from %s to %s", e.MAC, owner, who)
	case dataplane.EventStorm:
		return who + " floods more than it may"
	case dataplane.EventQuota:
		return who + " begins more flows, or begins them faster, than its quota allows"
	case dataplane.EventStations:
		return who + " has more stations behind it than a port may have"
	case dataplane.EventFDBFull:
		return "the MAC table is full: ports with many stations lose some of theirs"
	}
	return who
}
