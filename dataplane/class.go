package dataplane

import (
	"slices"

	"github.com/vswitch/vswitch/dataplane/flowmap"
	"github.com/vswitch/vswitch/dataplane/frame"
)

// Who is parted from whom at layer 2, in the form in which the programs can ask: rows become
// classes of containers, and who is parted from a class.

// class is containers of a network that no row tells apart at layer 2. nil is the class of all
// where no row parts any.
type class struct {
	of      uint8
	members []*portConfig // two are enough
	from    uint64        // classes that its members are parted from
	to      uint64        // classes to which all of its unicast passes as it is, and back
}

const otherClass = flowmap.Classes - 1 // of those for which there is none: everybody is parted from them

func (c *class) number() uint8 {
	if c == nil {
		return 0
	}
	return c.of
}

func (c *class) hidden() uint64 {
	if c == nil {
		return 0
	}
	return c.from
}

// reach are the classes to which it passes without a question about ports, protocols or who begins.
func (c *class) reach() uint64 {
	if c == nil {
		return 1
	}
	return c.to
}

// classes sorts the containers of networks in which a row parts some.
func (s *Snapshot) classes() map[*portConfig]*class {
	limited := make(map[*network][]*portConfig)
	for _, p := range s.ports {
		if p != nil && p.Kind == PortContainer && p.limited {
			limited[p.network] = nil
		}
	}
	if len(limited) == 0 {
		return nil
	}
	for _, p := range s.ports {
		if p != nil && p.Kind == PortContainer {
			if list, ok := limited[p.network]; ok {
				limited[p.network] = append(list, p)
			}
		}
	}
	of := make(map[*portConfig]*class)
	for _, ports := range limited {
		s.sort(ports, of)
	}
	return of
}

// sort sorts the containers of one network.
func (s *Snapshot) sort(ports []*portConfig, of map[*portConfig]*class) {
	named := make(map[frame.PortID]bool) // rows of others speak of it
	for _, p := range ports {
		for d := range p.layer2 {
			for _, r := range p.layer2[d].rows {
				if o := r.other(); o.OfPort {
					named[o.Port] = true
				}
			}
		}
	}
	var classes []*class
	rest := &class{of: otherClass, from: ^uint64(0)}
	for _, p := range ports {
		i := slices.IndexFunc(classes, func(c *class) bool {
			return !named[p.ID] && !named[c.members[0].ID] && p.alike(c.members[0])
		})
		switch {
		case i >= 0:
			of[p] = classes[i]
		case len(classes) < otherClass:
			of[p] = &class{of: uint8(len(classes)), from: 1 << otherClass}
			classes = append(classes, of[p])
		default:
			of[p] = rest
			continue
		}
		if c := of[p]; len(c.members) < 2 {
			c.members = append(c.members, p)
		}
	}
	for _, c := range classes {
		for _, o := range classes {
			one, other := c.members[0], o.members[len(o.members)-1]
			switch asks := one.asks(other); {
			case s.bridges(one, other) != nil:
				c.from |= 1 << o.of
			case !asks:
				c.to |= 1 << o.of
			}
		}
	}
}

// alike reports whether the rows between containers say the same of two.
func (p *portConfig) alike(o *portConfig) bool {
	if p.asked != o.asked || p.limited != o.limited || !slices.Equal(p.Groups, o.Groups) {
		return false
	}
	for d := range p.layer2 {
		if !slices.EqualFunc(p.layer2[d].rows, o.layer2[d].rows, func(a, b *Rule) bool { return a == b || a.ofOwn() == b.ofOwn() }) {
			return false
		}
	}
	return true
}

// ofOwn is a row without its number, and without that of the port that it is of.
func (r *Rule) ofOwn() Rule {
	o := *r
	o.ID, o.Reason = 0, NotDropped
	if s := o.subject(); s.OfPort {
		s.Port = 0
	}
	return o
}
