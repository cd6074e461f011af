package control

import (
	"context"
	"fmt"
	"net/netip"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/control/state"
	"github.com/vswitch/vswitch/dataplane"
)

// UpdateNetwork changes what the data path reads anew with each snapshot. What a
// container has been given, its addresses, routes and MTU, would have to be
// changed inside the containers; for those make another network.
func (c *Controller) UpdateNetwork(_ context.Context, name string, in api.NetworkUpdate) (api.Network, error) {
	leave, err := c.enter()
	if err != nil {
		return api.Network{}, err
	}
	defer leave()
	c.mu.Lock()
	n, err := c.findNetworkLocked(name)
	c.mu.Unlock()
	if err != nil {
		return api.Network{}, err
	}
	defer c.names.lock(ofNetwork(n.rec.Name))()
	c.mu.Lock()
	same, was := c.networks[n.rec.Name] == n && n.ready, n.rec
	c.mu.Unlock()
	if !same { // removed while we waited
		return api.Network{}, notFoundf("network %s does not exist: see vswitch network ls", name)
	}
	rec, err := updated(was, in)
	if err != nil {
		return api.Network{}, &refusal{api.ErrInvalid, fmt.Errorf("network %s: %w", was.Name, err)}
	}
	u := &undo{fault: c.fault}
	err = u.do("commit", func() error { return c.store.PutNetwork(rec) }, func() error { return c.store.PutNetwork(was) })
	if err == nil {
		err = u.do("snapshot", func() error { return c.setNetwork(n, rec) }, func() error { return c.setNetwork(n, was) })
	}
	if err != nil {
		return api.Network{}, c.failed(u, "network "+was.Name, err)
	}
	c.log.Info("network updated", "network", rec.Name)
	c.emit(api.Event{Type: api.EventNetworkUpdate, Network: rec.Name, Message: "network " + rec.Name + " changed"})
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.viewNetworkLocked(n), nil
}

// updated is a record as a request wants it; it shares no map with the old one.
func updated(rec state.Network, in api.NetworkUpdate) (state.Network, error) {
	if in.ICC != nil {
		rec.NoICC = !*in.ICC
	}
	if in.HostAccess != nil {
		rec.NoHostAccess = !*in.HostAccess
	}
	var err error
	if in.Filter != nil {
		if rec.Filter, err = checkFilter(*in.Filter); err != nil {
			return rec, err
		}
	}
	if in.Exempt != nil {
		if rec.Exempt, err = checkExempt(*in.Exempt); err != nil {
			return rec, err
		}
	}
	rec.Labels = merged(rec.Labels, in.Labels)
	return rec, checkLabels("network "+rec.Name, in.Labels)
}

// setNetwork puts a record in force.
func (c *Controller) setNetwork(n *network, rec state.Network) error {
	c.mu.Lock()
	// Only what is read with the mutex held alone.
	n.rec.NoICC, n.rec.NoHostAccess = rec.NoICC, rec.NoHostAccess
	n.rec.Filter, n.rec.Exempt, n.rec.Labels = rec.Filter, rec.Exempt, rec.Labels
	c.mu.Unlock()
	return c.rebuild()
}

// checkFilter returns the word for the record, nothing for the default.
func checkFilter(word string) (string, error) {
	switch word {
	case "", api.FilterAPDF:
		return "", nil
	case api.FilterEIF:
		return word, nil
	}
	return "", fmt.Errorf("filter %q: use apdf (only who was written to comes in) or eif (everybody does)", word)
}

func checkExempt(list []string) (out []netip.Prefix, err error) {
	for _, s := range list {
		p, err := parsePrefix("exempt destination", s)
		if err != nil {
			return nil, err
		}
		out = append(out, p)
	}
	return out, nil
}

func filterWord(rec state.Network) string {
	if rec.Filter == "" {
		return api.FilterAPDF
	}
	return rec.Filter
}

func compileFilter(rec state.Network) dataplane.Filter {
	if rec.Filter == api.FilterEIF {
		return dataplane.FilterEIF
	}
	return dataplane.FilterAPDF
}
