package state

import (
	"errors"
	"slices"
	"strings"
)

// Lost says that something was lost, which every start looks for until Searched.
func (s *Store) Lost(what string) error { return s.update(op{keyLost, []byte(what)}) }

// Discard removes from c, and from the files, what can be no record of a network or container,
// and what a damaged state has twice: of two containers of one name the one stays that has a
// network and, says here, a link. Names of what went are returned; it counts as lost.
func (s *Store) Discard(c *Contents, here func(Endpoint) bool) (bad []string, err error) {
	broken := func(s Subnet) bool { return !s.Prefix.IsValid() || !s.Gateway.IsValid() }
	var gone []func() error
	names := make(map[string]bool)
	c.Networks = slices.DeleteFunc(c.Networks, func(n Network) bool {
		no := len(n.Subnets) == 0 || slices.ContainsFunc(n.Subnets, broken) || n.TAP == "" || n.Name == "" || names[n.Name]
		if names[n.Name] = true; no {
			bad = append(bad, "network "+n.Name)
			gone = append(gone, func() error { return s.DeleteNetwork(n.ID) })
		}
		return no
	})
	networks := make(map[string]bool)
	for _, n := range c.Networks {
		networks[n.ID] = true
	}
	best := make(map[string]string) // IDs by names
	for _, ct := range c.Containers {
		if best[ct.Name] == "" || slices.ContainsFunc(ct.Endpoints, func(e Endpoint) bool { return networks[e.Network] && here(e) }) {
			best[ct.Name] = ct.ID
		}
	}
	c.Containers = slices.DeleteFunc(c.Containers, func(ct Container) bool {
		no := ct.Name == "" || best[ct.Name] != ct.ID
		if no {
			bad = append(bad, "container "+ct.Name)
			gone = append(gone, func() error { return s.DeleteContainer(ct.ID) })
		}
		return no
	})
	if len(bad) == 0 {
		return nil, nil
	}
	errs := []error{s.Lost(strings.Join(bad, ", "))} // first: a start after this moment has to look, too
	for _, fn := range gone {
		errs = append(errs, fn())
	}
	return bad, errors.Join(errs...)
}
