package policy

import (
	"fmt"
	"net/netip"

	"github.com/vswitch/vswitch/dataplane"
	"github.com/vswitch/vswitch/dataplane/conntrack"
	"github.com/vswitch/vswitch/dataplane/frame"
)

// Rule is a rule with names in it. It is of whoever Of selects: where they may go (Out),
// or who may come to them (In).
type Rule struct {
	Number    uint32 // its own, below 1<<31
	Tier      dataplane.Tier
	Direction dataplane.Direction
	Deny      bool
	Of, With  Selector
	Proto     uint8 // 0: all
	// Ports are the receiver's; the zero value is every port.
	Ports conntrack.PortRange
}

// Selector names ends of flows: those for which everything holds that is set. The zero
// value names everybody.
type Selector struct {
	Network, Container string
	Label              string // "app" or "app=web"
	Name               string // of DNS
	CIDR               netip.Prefix
	Host, Outside      bool // the host, or what an uplink leads to; with neither also containers
}

// Names are the meaning of the names in rules now.
type Names struct {
	Networks   map[string]frame.NetworkID
	Containers map[string][]frame.PortID // ports by the container's name
	Labels     map[string]dataplane.GroupID
	Lists      map[string]dataplane.ListID // by the name of DNS
}

// CompileRules returns the rows of rules. A rule about a container or a network that is
// not there has none: nothing it could concern exists. It fails for a rule that cannot be
// meant: errors name the rule's number.
func CompileRules(rules []Rule, names *Names) (rows []dataplane.Rule, err error) {
	for i := range rules {
		r := &rules[i]
		if r.Number == 0 || dataplane.RuleID(r.Number)&written != 0 {
			return nil, fmt.Errorf("rule %d: the number is out of range", r.Number)
		}
		if r.Direction != dataplane.In && r.Direction != dataplane.Out {
			return nil, fmt.Errorf("rule %d: it is neither about coming in nor about going out", r.Number)
		}
		of, err := r.Of.compile(names)
		if err != nil {
			return nil, fmt.Errorf("rule %d: %w", r.Number, err)
		}
		with, err := r.With.compile(names)
		if err != nil {
			return nil, fmt.Errorf("rule %d: %w", r.Number, err)
		}
		row := dataplane.Rule{ID: written | dataplane.RuleID(r.Number), Tier: r.Tier, Direction: r.Direction, Deny: r.Deny, Proto: r.Proto, Ports: r.Ports}
		if r.Deny {
			row.Reason = dataplane.DropIsolated
		}
		for _, a := range of {
			for _, b := range with {
				if row.From, row.To = a, b; r.Direction == dataplane.In {
					row.From, row.To = b, a
				}
				rows = append(rows, row)
			}
		}
	}
	return rows, nil
}

// compile returns one selector for each port of a container that is named, or one.
func (c *Selector) compile(names *Names) (list []dataplane.Selector, err error) {
	s := dataplane.Selector{Prefix: c.CIDR}
	if c.Host {
		s.Sides |= dataplane.SideHost
	}
	if c.Outside {
		s.Sides |= dataplane.SideOutside
	}
	inside := c.Container != "" || c.Label != ""
	if inside && s.Sides != 0 {
		return nil, fmt.Errorf("container %q, label %q: a container is neither the host nor outside", c.Container, c.Label)
	}
	if c.Network != "" {
		id, ok := names.Networks[c.Network]
		if !ok {
			return nil, nil
		}
		s.Network, inside = id, true
	}
	if inside {
		s.Sides = dataplane.SideContainer
	}
	if c.Label != "" {
		g, ok := names.Labels[c.Label]
		if !ok {
			return nil, nil
		}
		s.Group = g
	}
	if c.Name != "" {
		l, ok := names.Lists[c.Name]
		if !ok {
			return nil, fmt.Errorf("name %q: nobody resolves it", c.Name)
		}
		s.List = l
	}
	if c.Container == "" {
		return []dataplane.Selector{s}, nil
	}
	s.OfPort = true
	for _, id := range names.Containers[c.Container] {
		s.Port = id
		list = append(list, s)
	}
	return list, nil
}
