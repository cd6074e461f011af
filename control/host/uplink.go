package host

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
)

// Uplinks resolves the daemon's --uplink. "auto" alone means the interfaces that
// hold a default route of any table, main's and the best metric first; it may find none. A named interface
// must exist, be up and speak Ethernet or IP alone, otherwise the error wraps ErrUplink or
// ErrNotFound.
func (h *Host) Uplinks(names []string) ([]Link, error) {
	var links []Link
	// Of thousands a few are asked for. One that is not there is left out.
	add := func(name string, index int) error {
		l, err := h.route.link(name, index)
		if err == nil {
			links = append(links, l)
		}
		if errors.Is(err, ErrNotFound) {
			return nil
		}
		return err
	}
	if isAuto(names) {
		routes, err := h.allRoutes()
		if err != nil {
			return nil, err
		}
		for _, r := range routes {
			for _, index := range r.leadsOut() {
				if err := add("", index); err != nil {
					return nil, err
				}
			}
		}
		return defaultLinks(links, routes), nil
	}
	for _, name := range names {
		if err := add(name, 0); err != nil {
			return nil, err
		}
	}
	return ChooseUplinks(links, nil, names)
}

// leadsOut are the interfaces of a default route. VPNs make it of two halves, and leave the host's.
func (r *Route) leadsOut() []int {
	if r.Prefix.Bits() > 1 || r.Kind != Unicast {
		return nil
	}
	return append([]int{r.Ifindex}, r.Hops...)
}

func isAuto(names []string) bool { return len(names) == 0 || len(names) == 1 && names[0] == "auto" }

// ChooseUplinks is Uplinks for links and routes that were read; only "auto" needs routes.
func ChooseUplinks(links []Link, routes []Route, names []string) ([]Link, error) {
	if isAuto(names) {
		return defaultLinks(links, routes), nil
	}
	var up []Link
	for _, name := range names {
		i := slices.IndexFunc(links, func(l Link) bool { return l.Name == name })
		switch {
		case i < 0:
			return nil, fmt.Errorf("uplink %s: %w: choose one of ip -br link with --uplink", name, ErrNotFound)
		case slices.ContainsFunc(up, func(l Link) bool { return l.Name == name }):
			continue
		case !links[i].Ethernet && !links[i].Packets:
			return nil, fmt.Errorf("uplink %s: %w: it speaks neither Ethernet nor IP alone as tun and WireGuard do: choose another with --uplink", name, ErrUplink)
		case !links[i].Up:
			return nil, fmt.Errorf("uplink %s: %w: it is down: ip link set %s up, or choose another with --uplink", name, ErrUplink, name)
		}
		up = append(up, links[i])
	}
	return up, nil
}

// defaultLinks returns the links that hold a default route and can serve.
func defaultLinks(links []Link, routes []Route) []Link {
	slices.SortStableFunc(routes, func(a, b Route) int { return cmp.Or(cmp.Compare(a.rank, b.rank), cmp.Compare(a.Metric, b.Metric)) })
	var up []Link
	for _, r := range routes {
		for _, l := range links {
			if slices.Contains(r.leadsOut(), l.Index) && (l.Ethernet || l.Packets) && l.Up && !slices.ContainsFunc(up, func(u Link) bool { return u.Index == l.Index }) {
				up = append(up, l)
			}
		}
	}
	return up
}
