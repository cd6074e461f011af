package events

import (
	"cmp"
	"fmt"
	"log/slog"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/control/directory"
	"github.com/vswitch/vswitch/dataplane"
	"github.com/vswitch/vswitch/dataplane/header"
)

// Switch tells of an event of the layer 2 guards, and returns what the log says of it.
func (l *Log) Switch(e dataplane.Event, names *directory.Directory) (level slog.Level, args []any) {
	at, _ := names.Port(e.Port)
	owner, ok := names.Port(e.Other)
	out := api.Event{
		Type: e.Kind.String(), Network: at.Network, Container: at.Container, Interface: at.Name, VLAN: int(e.VLAN),
	}
	args = []any{"event", out.Type, "network", at.Network, "port", at.Name, "container", at.Container}
	if e.Kind.OfStation() {
		out.MAC = e.MAC.String()
		args = append(args, "mac", out.MAC)
	}
	if ok {
		out.Owner = cmp.Or(owner.Container, owner.Name)
		args = append(args, "owner", owner.Name, "owner_container", owner.Container)
	}
	if e.VLAN != 0 {
		args = append(args, "vlan", e.VLAN)
	}
	if e.Addr != (header.Addr{}) {
		out.Addresses = []string{e.Addr.NetIP().String()}
		args = append(args, "address", out.Addresses[0])
	}
	if e.Kind == dataplane.EventShare {
		out.Shared = e.Shared.String()
		args = append(args, "shared", out.Shared)
	}
	out.Message = describe(e.Kind, &out)
	level = slog.LevelWarn
	if e.Kind.OfHabit() {
		level = slog.LevelInfo
	}
	l.add(told{out, names.Behind(e.Port)})
	return level, args
}

// describe is the line for people.
func describe(k dataplane.EventKind, e *api.Event) string {
	who := cmp.Or(e.Container, e.Interface)
	owner := e.Owner
	if owner == "" {
		owner = "another station"
	}
	addr := "an address"
	if len(e.Addresses) > 0 {
		addr = e.Addresses[0]
	}
	switch k {
	case dataplane.EventSpoof:
		return fmt.Sprintf("%s sent with MAC %s, which belongs to %s", who, e.MAC, owner)
	case dataplane.EventMACFlood:
		return who + " uses more source addresses than a port may: a MAC flood, or too many stations behind it"
	case dataplane.EventBadSource:
		return fmt.Sprintf("%s sent with MAC %s, which no station can have", who, e.MAC)
	case dataplane.EventReservedGroup:
		return who + " speaks to bridges (STP, LLDP or 802.1X), and this switch forwards none of it"
	case dataplane.EventNoIPv6:
		return who + " sends IPv6, and network " + e.Network + " has none"
	case dataplane.EventForwarded:
		return "the host forwarded a packet from " + addr + " into network " + e.Network + ", which takes the host's own only"
	case dataplane.EventIPSpoof:
		return who + " sent from " + addr + ", which it was not given"
	case dataplane.EventForgedSource:
		return "a packet from " + addr + " came in by uplink " + who + ": only containers and the host speak from that address"
	case dataplane.EventARPSpoof:
		return who + " claimed " + addr + " by ARP, which it was not given"
	case dataplane.EventNDSpoof:
		return who + " claimed " + addr + " by neighbour discovery, which it was not given"
	case dataplane.EventRogueRouter:
		return who + " announced itself as an IPv6 router, or redirected traffic"
	case dataplane.EventRogueDHCP:
		return who + " sent what only a DHCP server sends"
	case dataplane.EventUnreadable:
		return who + " sent a packet whose headers hide what it is"
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
	case dataplane.EventShare:
		if e.Shared == dataplane.SharedTime.String() {
			return who + " has reached its share of the switch's time: most of what it sends begins flows, has no answer yet or is dear to its receiver, and others come first"
		}
		return who + " has reached its share of " + sharedWords[e.Shared] + ": what it has gives way to new ones, or they are refused"
	case dataplane.EventFDBFull:
		return "the MAC table is full: ports with many stations lose some of theirs"
	}
	return who
}

// sharedWords are the shared tables in words for people.
var sharedWords = map[string]string{
	dataplane.SharedFlows.String():     "connections that it began",
	dataplane.SharedReceived.String():  "connections that others began with it",
	dataplane.SharedPorts.String():     "masquerade ports",
	dataplane.SharedStations.String():  "the MAC table",
	dataplane.SharedRows.String():      "the kernel's flow table",
	dataplane.SharedWaiting.String():   "packets that wait for a next hop",
	dataplane.SharedHops.String():      "next hops that are waited for",
	dataplane.SharedFragments.String(): "datagrams in fragments",
	dataplane.SharedDeferred.String():  "fragments that wait for their first",
	dataplane.SharedTime.String():      "the switch's time",
	dataplane.SharedQuestions.String(): "questions for next hops",
	dataplane.SharedGroups.String():    "members of multicast groups",
	dataplane.SharedBridged.String():   "the account of flows inside of networks",
	dataplane.SharedNewcomers.String(): "new connections that wait",
	dataplane.SharedTold.String():      "flows that the kernel tells of",
}
