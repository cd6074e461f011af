package inventory

import (
	"strings"

	"github.com/vswitch/vswitch/control/host"
	"github.com/vswitch/vswitch/control/state"
)

// Somebody may rename the host's end of a cable. It is the same cable for as long as its
// number and its alias are the same.

// EndpointOf is whose host end a link is, under the name that it has or another one.
func (v *Inventory) EndpointOf(l host.Link) *Endpoint {
	if e := v.Endpoints[l.Name]; e != nil || !strings.HasPrefix(l.Alias, v.Marks.Alias()) {
		return e
	}
	for _, e := range v.Endpoints {
		if e.Index == l.Index && e.Alias == l.Alias {
			return e
		}
	}
	return nil
}

// FollowNames gives the endpoints of a container the names that their links have.
func (v *Inventory) FollowNames(ct *Container, links []host.Link) {
	for _, l := range links {
		e := v.EndpointOf(l)
		if e == nil || e.Container != ct || e.Veth == l.Name || e.Index != l.Index {
			continue
		}
		delete(v.Endpoints, e.Veth)
		v.Numbers.Ports.Rename(int(e.Port), l.Name)
		e.Veth = l.Name
		v.Endpoints[e.Veth] = e
		v.Changed(ct)
	}
}

// FollowStored does the same for what the state says, and returns the links by name.
func (v *Inventory) FollowStored(s *state.Contents, links []host.Link) map[string]host.Link {
	byName, byIndex := make(map[string]host.Link, len(links)), make(map[int]host.Link, len(links))
	for _, l := range links {
		byName[l.Name], byIndex[l.Index] = l, l
	}
	for _, ct := range s.Containers {
		for i := range ct.Endpoints {
			e := &ct.Endpoints[i]
			l := byIndex[e.Ifindex]
			if l.Name == e.Veth || l.Alias == "" || l.Alias != e.Alias {
				continue
			}
			if v.Numbers.Ports.Number(e.Veth) == e.PortNumber {
				v.Numbers.Ports.Rename(e.PortNumber, l.Name)
			}
			e.Veth = l.Name
		}
	}
	return byName
}
