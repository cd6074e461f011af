package underlay

import (
	"errors"
	"fmt"
	"slices"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/control/host"
	"github.com/vswitch/vswitch/dataplane/frame"
)

// wanted are the links that should be uplinks now: the host's ways out, outs of them, and then those that
// only containers have chosen.
func (u *Underlay) wanted(chosen map[string]Egress) (links []host.Link, outs int, err error) {
	if u.followsRoutes() {
		if links, err = u.cfg.Edge.Uplinks([]string{Auto}); err != nil {
			return nil, 0, err
		}
	} else if links, err = u.named(nil, u.cfg.Names); err != nil {
		return nil, 0, err
	}
	outs = len(links)
	links, err = u.named(links, devices(chosen))
	return links, outs, err
}

// named adds the links of some names to a list, each once. One that is away for the moment is waited for.
func (u *Underlay) named(links []host.Link, names []string) ([]host.Link, error) {
	for _, name := range names {
		l, err := u.cfg.Edge.Uplinks([]string{name})
		if err != nil {
			if errors.Is(err, host.ErrNotFound) || errors.Is(err, host.ErrUplink) {
				continue
			}
			return nil, err
		}
		for _, up := range l { // named twice it is one
			if !slices.ContainsFunc(links, func(o host.Link) bool { return o.Index == up.Index }) {
				links = append(links, up)
			}
		}
	}
	return links, nil
}

// follow lets numbers follow the names of the uplinks that stay, also where two change
// theirs, and returns those that go.
func (u *Underlay) follow(old []Uplink, wanted []host.Link) (gone []Uplink) {
	for _, o := range old {
		i := slices.IndexFunc(wanted, func(l host.Link) bool { return l.Index == o.Link.Index })
		switch {
		case i < 0:
			gone = append(gone, o)
			if slices.ContainsFunc(wanted, func(l host.Link) bool { return l.Name == o.Link.Name }) {
				u.cfg.Ports.Forget(o.Port) // another device has the name already
			}
		case wanted[i].Name != o.Link.Name:
			u.cfg.Ports.Rename(o.Port, wanted[i].Name)
		}
	}
	return gone
}

func (u *Underlay) open(l host.Link, chosen bool) (frame.PortID, error) {
	id, err := u.cfg.Ports.Open(l)
	if err != nil {
		return id, fmt.Errorf("uplink %s: %w", l.Name, err)
	}
	u.cfg.Log.Info("uplink opened", "interface", l.Name, "mtu", l.MTU)
	who := "containers"
	if chosen {
		who = "containers that have chosen it"
	}
	u.cfg.Tell(api.Event{Type: api.EventUplinkChanged, Interface: l.Name, Message: "uplink " + l.Name + " opened: " + who + " go out through it"})
	return id, nil
}

func (u *Underlay) close(o Uplink) error {
	u.cfg.Log.Info("uplink closed", "interface", o.Link.Name)
	u.cfg.Tell(api.Event{Type: api.EventUplinkChanged, Interface: o.Link.Name, Message: "uplink " + o.Link.Name + " closed: it leads nowhere any more"})
	return u.cfg.Ports.Close(o.Port)
}
