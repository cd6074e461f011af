package inventory

import (
	"maps"
	"slices"
	"strings"

	"github.com/vswitch/vswitch/control/host"
	"github.com/vswitch/vswitch/control/model"
)

// Marks tell the links of a state directory from all others. Its value is the identity of
// the directory.
type Marks string

// Alias begins the alias of every link that belongs to the state directory.
func (k Marks) Alias() string { return host.AliasOf(string(k)) }

// Veth begins the names of its cables. A link gets its name in the moment it is made and
// its alias in the next: the name alone speaks for one whose daemon was killed between the
// two.
func (k Marks) Veth() string { return "veth" + string(k[:5]) }

// IsLeftover reports whether a link was made for the state directory, whether or not the
// state knows it.
func (k Marks) IsLeftover(l host.Link) bool {
	if l.Alias == "" {
		return l.HalfMade() || l.Kind == "veth" && !l.Up && len(l.Name) == model.MaxIfname && strings.HasPrefix(l.Name, k.Veth())
	}
	return strings.HasPrefix(l.Alias, k.Alias())
}

// isWaiting reports whether a link is a container end that waits, or waited
// until now. The runtime finds it by its name, so that it has no alias, which it
// would take into the container.
func (k Marks) isWaiting(l host.Link) bool {
	return l.Kind == "veth" && len(l.Name) == model.MaxIfname &&
		strings.HasPrefix(l.Name, host.WaitPrefix+strings.TrimPrefix(k.Veth(), "veth"))
}

// Cabled reports whether any of the links is a cable that was made for the state directory.
func (k Marks) Cabled(links []host.Link) bool {
	return k != "" && slices.ContainsFunc(links, func(l host.Link) bool { return l.Kind == "veth" && k.IsLeftover(l) })
}

// Cabled reports whether there is a cable, or it cannot be told: link finds one by its name, and
// links lists all. The first of thousands answers.
func (inv *Inventory) Cabled(link func(name string) (host.Link, error), links func() ([]host.Link, error)) bool {
	for _, e := range inv.Endpoints {
		if l, err := link(e.Veth); err == nil && l.Kind == "veth" && l.Alias == e.Alias {
			return true
		}
	}
	list, err := links()
	return err != nil || inv.Marks.Cabled(list)
}

// IsOurs reports whether a link is one that a switch made.
func (k Marks) IsOurs(l host.Link) bool {
	return strings.HasPrefix(l.Alias, "vswitch:") || k.isWaiting(l)
}

// WaitsAs is the name under which the container end is made when it waits for its runtime:
// that of the host end, with another beginning.
func (e *Endpoint) WaitsAs() string {
	return host.WaitPrefix + strings.TrimPrefix(e.Veth, "veth")
}

// LostOwner is the identity of a state directory that does not know it any more, by the links:
// held, for which a process before has left something, else that of the
// only one without a running daemon. It has so many letters, and is "" when nobody can tell.
func LostOwner(links []host.Link, held string, length int) string {
	owners := make(map[string]bool) // and whether their daemon runs
	for _, l := range links {
		if id := OwnerOf(l.Alias); len(id) == length {
			owners[id] = owners[id] || l.Kind == "tun" && l.Running // a device with a carrier is open
		}
	}
	if _, ok := owners[held]; ok {
		return held
	}
	maps.DeleteFunc(owners, func(_ string, runs bool) bool { return runs })
	if len(owners) != 1 {
		return ""
	}
	for id := range owners {
		return id
	}
	return ""
}
