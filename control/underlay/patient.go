package underlay

import (
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/vswitch/vswitch/control/host"
)

// comeBack is how long an interface that was set down may take to be up again, with its
// routes.
const comeBack = 4 * time.Second

// turnsBack is how long a route or an address may be away from an interface that is up: who
// replaces it, as a script or a DHCP client does, needs two commands.
const turnsBack = time.Second

// patient adds uplinks that were set down a moment ago, or lost their routes: nothing leaves by
// them, and their flows go on when they are back. The flows end with the address that they leave with.
func (u *Underlay) patient(old []Uplink, wanted []host.Link) []host.Link {
	for _, o := range old {
		index := o.Link.Index
		if slices.ContainsFunc(wanted, func(l host.Link) bool { return l.Index == index }) {
			delete(u.down, index)
			continue
		}
		l, err := u.cfg.Edge.Link(o.Link.Name)
		if err != nil || l.Index != index {
			delete(u.down, index)
			continue
		}
		until, ok := u.down[index]
		if !ok {
			until = u.lasts(l.Up)
			u.down[index] = until
		}
		if time.Now().Before(until) {
			wanted = append(wanted, l)
			continue
		}
		delete(u.down, index)
	}
	return wanted
}

// lasts says until when something is waited for that has gone, and that may turn back at once.
func (u *Underlay) lasts(soon bool) time.Time {
	d := comeBack
	if soon {
		d = turnsBack
	}
	until := time.Now().Add(d)
	time.AfterFunc(d, u.Kick)
	return until
}

// missing is an address that an uplink has lost.
type missing struct {
	index int // of the uplink
	until time.Time
	down  bool // the kernel took it, as the uplink was set down, and it is still down
}

// missed returns the addresses that uplinks have lost a moment ago and that may come back: the
// kernel takes IPv6 addresses of an uplink that is set down, and all of one that is removed. Their
// flows wait, and their peers do not hear from the host that there is no such connection. One in whose
// place there is another does not come back. there has the addresses of uplinks now, all that the host has.
func (u *Underlay) missed(old, now []Uplink, there map[netip.Addr]int, all []host.Addr) []netip.Addr {
	for _, o := range old {
		i := slices.IndexFunc(now, func(n Uplink) bool { return n.Link.Index == o.Link.Index })
		up := i >= 0 && now[i].Link.Up
		for _, p := range o.Addrs {
			a := p.Addr()
			if _, ok := there[a]; ok || has(all, a) || up && replaced(now[i].Addrs, a) {
				continue
			}
			soon := up && a.Is4() // an IPv6 address is tried for up to two seconds first (RFC 4862, 5.4)
			u.away[a] = missing{o.Link.Index, u.lasts(soon), i >= 0 && !up}
		}
	}
	maps.DeleteFunc(u.away, func(a netip.Addr, m missing) bool {
		_, back := there[a]
		if back || has(all, a) || !time.Now().Before(m.until) {
			return true
		}
		i := slices.IndexFunc(now, func(n Uplink) bool { return n.Link.Index == m.index })
		if i >= 0 && now[i].Link.Up && m.down { // who manages it takes a moment
			u.away[a] = missing{index: m.index, until: u.lasts(false)}
		}
		return false
	})
	return slices.SortedFunc(maps.Keys(u.away), netip.Addr.Compare)
}

// has reports whether an interface has an address, if it is no uplink any more, too.
func has(all []host.Addr, a netip.Addr) bool {
	return slices.ContainsFunc(all, func(h host.Addr) bool { return h.Prefix.Addr() == a && !h.Tentative })
}

// replaced reports whether an uplink has another address of a family.
func replaced(now []netip.Prefix, a netip.Addr) bool {
	return slices.ContainsFunc(now, func(p netip.Prefix) bool { return p.Addr().Is4() == a.Is4() })
}
