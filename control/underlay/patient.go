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

// lasts says until when something is waited for that has gone from an interface, which is up or not.
func (u *Underlay) lasts(up bool) time.Time {
	d := comeBack
	if up {
		d = turnsBack
	}
	time.AfterFunc(d, u.Kick)
	return time.Now().Add(d)
}

// missing is an address that an uplink has lost.
type missing struct {
	index int // of the uplink
	until time.Time
	down  bool // the kernel took it, as the uplink was set down, and it is still down
}

// missed returns the addresses that uplinks have lost a moment ago and that may come back: the
// kernel takes IPv6 addresses of an uplink that is set down. Their flows wait, and their peers do
// not hear from the host that there is no such connection. there has the addresses of now.
func (u *Underlay) missed(old, now []Uplink, there map[netip.Addr]int) []netip.Addr {
	for _, o := range old {
		i := slices.IndexFunc(now, func(n Uplink) bool { return n.Link.Index == o.Link.Index })
		if i < 0 {
			continue
		}
		for _, p := range o.Addrs {
			if _, ok := there[p.Addr()]; !ok {
				up := now[i].Link.Up
				u.away[p.Addr()] = missing{o.Link.Index, u.lasts(up), !up}
			}
		}
	}
	maps.DeleteFunc(u.away, func(a netip.Addr, m missing) bool {
		_, back := there[a]
		i := slices.IndexFunc(now, func(n Uplink) bool { return n.Link.Index == m.index })
		if back || i < 0 || !time.Now().Before(m.until) {
			return true
		}
		if now[i].Link.Up && m.down { // who manages it takes a moment
			u.away[a] = missing{index: m.index, until: u.lasts(false)}
		}
		return false
	})
	return slices.SortedFunc(maps.Keys(u.away), netip.Addr.Compare)
}
