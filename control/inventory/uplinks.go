package inventory

import (
	"maps"

	"github.com/vswitch/vswitch/control/host"
)

// Uplinks are the chains of others at uplinks, by index, that would miss what the kernel
// carries.
type Uplinks map[int]host.Program

// Miss reports whether what leaves by an uplink would pass by a chain.
func (u Uplinks) Miss(index int) bool { return u[index].Misses }

// Have notes the chains that there are at uplinks, and reports whether an uplink has come or
// gone by that, and those to be told of.
func (u *Uplinks) Have(now map[int]host.Program, uplinks map[int]string) (way bool, seen []int) {
	next := make(Uplinks)
	for index := range uplinks {
		p := now[index]
		if !p.Misses {
			continue // tc and XDP see what a program redirects
		}
		next[index] = p
		if p != (*u)[index] {
			seen = append(seen, index)
		}
	}
	way = !maps.EqualFunc(next, *u, func(a, b host.Program) bool { return true })
	*u = next
	return way, seen
}
