package dataplane

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"github.com/vswitch/vswitch/dataplane/conntrack"
	"github.com/vswitch/vswitch/dataplane/frame"
	"github.com/vswitch/vswitch/dataplane/header"
)

// RuleID names the rule that a row is of: control numbers them, entries of flows carry
// them, and why says them in words. Several rows may be of one rule. 0 names none.
type RuleID uint32

// Rule is a row of policy: who may begin to speak to whom. The rows that concern a flow
// are read for the sender (Out) and for the receiver (In), each by itself. Of each the
// first row that matches decides, in the order of tiers, in a tier denials first. A flow
// may begin that one side allows and neither denies.
type Rule struct {
	ID        RuleID
	Tier      Tier
	Direction Direction
	// Deny refuses; otherwise the row allows.
	Deny bool
	// Reason counts the routed frames that the row refuses.
	Reason   DropReason
	From, To Selector
	// Via are the ways in that the row speaks of, 0: all of them.
	Via Via
	// OtherVLAN: only between two VLANs of a network.
	OtherVLAN bool
	Family    uint8 // 4 or 6; 0: both
	Proto     uint8 // 0: all. Of ICMP only the questions begin a flow.
	// Ports are the receiver's; the zero value is every port.
	Ports conntrack.PortRange
}

// Tier orders rows: the lower one is read first.
type Tier uint8

const (
	TierAdmin   Tier = iota // of the host's administrator: holds whatever users say
	TierUser                // of those who run containers
	TierNetwork             // how a network was made
	TierBase                // how it is where nobody said anything
)

// Direction is whose row it is.
type Direction uint8

const (
	Out Direction = iota // of From: where it may go
	In                   // of To: who may come
	// Keep is no question of may: an allowing row says that From is seen with its own
	// address by To (RFC 6888 REQ-6).
	Keep
	numDirections
)

// Side is the kind of an end of a flow.
type Side uint8

const (
	SideContainer Side = 1 << iota
	SideHost           // any address of the host, gateways' too
	SideOutside        // what an uplink leads to
	// SideGateway is the gateway as the next hop, whatever a packet is bound for. It is
	// for To of rows without proto and ports.
	SideGateway
)

// Via is the way by which a flow reaches its receiver, after translation.
type Via uint8

const (
	ViaAddress         Via = 1 << iota // by the receiver's own address
	ViaPublished                       // by a published port, where the outside or the sender's own network has it
	ViaPublishedInside                 // by a published port at an address of the host that is no uplink's
	ViaMapping                         // by a masquerade mapping of the receiver, uninvited
)

// Selector says which ends of flows a row is about: those for which everything holds
// that is not zero. The zero value is every end.
type Selector struct {
	Sides   Side
	Network frame.NetworkID // of the container; of the host, that of the TAP it speaks by
	// OfPort: the container at Port.
	OfPort bool
	Port   frame.PortID
	Group  GroupID      // a port's Groups has it
	Prefix netip.Prefix // has the address
	List   ListID       // a list that SetLists gave has the address
}

// GroupID names a set of ports: containers with a label, or those that are isolated.
type GroupID uint32

// ListID names a list of prefixes that is swapped apart from the snapshot: addresses of a
// name, CIDRs of a feed.
type ListID uint32

// subject is the selector of the end that the row is of.
func (r *Rule) subject() *Selector {
	if r.Direction == In {
		return &r.To
	}
	return &r.From
}

func (r *Rule) check() error {
	switch {
	case r.ID == 0:
		return errors.New("no number")
	case r.Direction >= numDirections:
		return fmt.Errorf("direction %d", r.Direction)
	case r.Deny != (r.Reason != NotDropped) || r.Reason >= NumDropReasons:
		return errors.New("a denial needs a reason, nothing else has one")
	case r.Ports.First > r.Ports.Last:
		return fmt.Errorf("ports %d-%d: no interval", r.Ports.First, r.Ports.Last)
	case (r.Proto == header.ProtoICMP || r.Proto == header.ProtoICMPv6) && r.Ports != conntrack.PortRange{}:
		return errors.New("ICMP has no ports")
	case r.From.Sides&SideGateway != 0, r.To.Sides&SideGateway != 0 && !r.closesGateway():
		return errors.New("the gateway as next hop is closed to a network, and nothing else")
	}
	return nil
}

// closesGateway reports whether a row is about all of a network and its gateway alone.
func (r *Rule) closesGateway() bool {
	return r.Direction == Out && r.Deny && r.From.Network != 0 && r.From == Selector{Network: r.From.Network} && r.To == Selector{Sides: SideGateway} &&
		r.Proto == 0 && r.Ports == conntrack.PortRange{}
}

// rules are rows by the end that they are of.
type rules [numDirections]rowList

// finish makes the indexes of long lists.
func (p *rules) finish() {
	for d := range p {
		p[d].finish(Direction(d))
	}
}

// addRules sorts the rows and gives each to the end that it is of.
func (s *Snapshot) addRules(cfg *SnapshotConfig) error {
	s.rules = slices.Clone(cfg.Rules)
	slices.SortFunc(s.rules, compareRules)
	for i := range s.rules {
		r := &s.rules[i]
		if err := r.check(); err != nil {
			return fmt.Errorf("rule %d: %w", r.ID, err)
		}
		of, subject := &s.general, r.subject()
		switch {
		case subject.OfPort:
			if int(subject.Port) >= MaxPorts || s.ports[subject.Port] == nil {
				return fmt.Errorf("rule %d: no port %d", r.ID, subject.Port)
			}
			of = &s.ports[subject.Port].rules
		case subject.Network != 0:
			n := s.networks[subject.Network]
			if n == nil {
				return fmt.Errorf("rule %d: no network %d", r.ID, subject.Network)
			}
			of = &n.rules
		}
		of[r.Direction].rows = append(of[r.Direction].rows, r)
		for _, n := range s.concerned(subject) {
			if n != nil {
				n.learn(r)
			}
		}
		if r.asksPackets() {
			s.ask(r)
		}
	}
	for _, n := range s.networks {
		n.shut = n.shutBy()
		n.rules.finish()
	}
	s.general.finish()
	for _, p := range s.ports {
		if p != nil && p.network != nil {
			p.plain = p.plainPort()
		}
		if p != nil && p.Kind == PortContainer {
			p.layer2.merge(&s.general, &p.network.rules, &p.rules)
			p.limited = slices.ContainsFunc(p.layer2[In].rows, (*Rule).denies) || slices.ContainsFunc(p.layer2[Out].rows, (*Rule).denies)
			p.rules.finish()
			p.layer2.finish()
		}
	}
	return nil
}

// concerned are the networks of which a row may concern a container.
func (s *Snapshot) concerned(c *Selector) []*network {
	switch {
	case c.OfPort:
		return []*network{s.ports[c.Port].network}
	case c.Network != 0:
		return []*network{s.networks[c.Network]}
	}
	return slices.Collect(maps.Values(s.networks))
}

// learn notes what a row means for all of a network.
func (n *network) learn(r *Rule) {
	switch {
	case r.To.Sides&SideGateway != 0:
		for i, family := range [2]uint8{4, 6} {
			if r.Family == 0 || r.Family == family {
				n.closed[i] = r
			}
		}
	case r.Direction != Keep && r.Deny && r.Tier < TierBase && r.byAddress() &&
		(r.To.mayBe(SideHost) && r.From.mayBe(SideContainer) || r.From.mayBe(SideHost) && r.To.mayBe(SideContainer)):
		n.tracked = true
	case r.Direction == In && !r.Deny && r.Via&ViaMapping != 0:
		n.welcoming = true
	}
}

// shutBy is the row by which nothing passes between a network's containers and the host
// that is of neither family: one closes each family that it has.
func (n *network) shutBy() (r *Rule) {
	for _, p := range n.Subnets {
		if r = n.closed[family(header.AddrFrom(p.Addr()))]; r == nil {
			return nil
		}
	}
	return r
}

// ask notes the ports whose bridged frames a row may tell apart.
func (s *Snapshot) ask(r *Rule) {
	of, with := r.subject(), &r.From
	if r.Direction == Out {
		with = &r.To
	}
	for _, p := range s.portsOf(of) {
		if p == nil || p.Kind != PortContainer || of.Group != 0 && !slices.Contains(p.Groups, of.Group) ||
			of.Network != 0 && of.Network != p.Network || with.Network != 0 && with.Network != p.Network || !p.network.overlaps(of.Prefix) || !p.network.overlaps(with.Prefix) {
			continue
		}
		p.asked = true
	}
}

// portsOf are the ports among which a selector chooses.
func (s *Snapshot) portsOf(c *Selector) []*portConfig {
	if c.OfPort {
		return s.ports[c.Port : c.Port+1]
	}
	return s.ports[:]
}

// overlaps reports whether a network has an address of a prefix, or there is none.
func (n *network) overlaps(p netip.Prefix) bool {
	return !p.IsValid() || slices.ContainsFunc(n.Subnets, p.Overlaps)
}

// asksPackets reports whether a row tells apart what is bridged between two containers by
// more than who they are.
func (r *Rule) asksPackets() bool {
	return r.Tier < TierBase && r.Direction != Keep && r.byAddress() && !r.OtherVLAN && r.From.mayBe(SideContainer) && r.To.mayBe(SideContainer) &&
		(r.Family != 0 || r.Proto != 0 || r.Ports != conntrack.PortRange{} || !r.From.ofPorts() || !r.To.ofPorts())
}

func (r *Rule) byAddress() bool { return r.Via == 0 || r.Via&ViaAddress != 0 }

func (r *Rule) denies() bool { return r.Deny }

func (c *Selector) mayBe(side Side) bool { return c.Sides == 0 || c.Sides&side != 0 }

// merge takes over the rows about two containers as such, which are asked of what is
// bridged between them. Where there are rows about ports, protocols or addresses as well,
// frames are asked about one by one (asked). Rows of TierBase come after a network's own.
func (p *rules) merge(all ...*rules) {
	for d := range p {
		for _, rules := range all {
			for _, r := range rules[d].rows {
				if r.Tier < TierBase && r.Direction != Keep && r.byAddress() && !r.OtherVLAN && r.From.mayBe(SideContainer) && r.To.mayBe(SideContainer) && !r.asksPackets() {
					p[d].rows = append(p[d].rows, r)
				}
			}
		}
		slices.SortStableFunc(p[d].rows, func(a, b *Rule) int { return compareRules(*a, *b) })
	}
}

// ofPorts reports whether a selector tells containers by what their port is.
func (c *Selector) ofPorts() bool {
	return c.mayBe(SideContainer) && !c.Prefix.IsValid() && c.List == 0
}

// compareRules puts rows in the order in which they are read, and equal sets of them in
// the same order.
func compareRules(a, b Rule) int {
	return cmp.Or(
		cmp.Compare(a.Tier, b.Tier), -compareBools(a.Deny, b.Deny), cmp.Compare(a.ID, b.ID), cmp.Compare(a.Direction, b.Direction),
		compareSelectors(&a.From, &b.From), compareSelectors(&a.To, &b.To), cmp.Compare(a.Via, b.Via), cmp.Compare(a.Family, b.Family),
		cmp.Compare(a.Proto, b.Proto), cmp.Compare(a.Ports.First, b.Ports.First), cmp.Compare(a.Ports.Last, b.Ports.Last),
		compareBools(a.OtherVLAN, b.OtherVLAN), cmp.Compare(a.Reason, b.Reason),
	)
}

func compareSelectors(a, b *Selector) int {
	return cmp.Or(
		cmp.Compare(a.Sides, b.Sides), cmp.Compare(a.Network, b.Network), compareBools(a.OfPort, b.OfPort), cmp.Compare(a.Port, b.Port),
		cmp.Compare(a.Group, b.Group), a.Prefix.Addr().Compare(b.Prefix.Addr()), cmp.Compare(a.Prefix.Bits(), b.Prefix.Bits()), cmp.Compare(a.List, b.List),
	)
}

func compareBools(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
}

// selects reports whether an end is one of those. lists may be nil where no row that is
// asked speaks of one.
func (c *Selector) selects(e *end, lists *listTable) bool {
	return (c.Sides == 0 || c.Sides&e.side != 0) &&
		(c.Network == 0 || c.Network == e.network) &&
		(!c.OfPort || e.port != nil && e.port.ID == c.Port) &&
		(c.Group == 0 || e.port != nil && slices.Contains(e.port.Groups, c.Group)) &&
		(!c.Prefix.IsValid() || c.hasAddr(e.addr)) &&
		(c.List == 0 || lists.has(c.List, e.addr))
}

func (c *Selector) hasAddr(a *header.Addr) bool { return a != nil && c.Prefix.Contains(a.NetIP()) }
