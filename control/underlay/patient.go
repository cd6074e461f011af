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

// patient adds uplinks that were set down a moment ago: nothing leaves by them, and their
// flows go on when they are back. The flows end with the address that they leave with.
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
		since, ok := u.down[index]
		if !ok && !l.Up {
			since = time.Now()
			u.down[index] = since
			time.AfterFunc(comeBack, u.Kick)
		}
		if time.Since(since) < comeBack {
			wanted = append(wanted, l)
			continue
		}
		delete(u.down, index)
	}
	return wanted
}

// missing is an address that the kernel took from an uplink which was set down.
type missing struct {
	index int // of the uplink
	since time.Time
	up    bool // the uplink is up again
}

// missed returns the addresses that uplinks lost as they were set down, which the kernel does
// to IPv6 addresses, and that may come back with them: their flows wait, and their peers do
// not hear from the host that there is no such connection. there has the addresses of now.
func (u *Underlay) missed(old, now []Uplink, there map[netip.Addr]int) []netip.Addr {
	for _, o := range old {
		i := slices.IndexFunc(now, func(n Uplink) bool { return n.Link.Index == o.Link.Index })
		if i < 0 || now[i].Link.Up {
			continue
		}
		for _, p := range o.Addrs {
			if _, ok := there[p.Addr()]; !ok {
				u.away[p.Addr()] = missing{index: o.Link.Index, since: time.Now()}
			}
		}
	}
	maps.DeleteFunc(u.away, func(a netip.Addr, m missing) bool {
		_, back := there[a]
		i := slices.IndexFunc(now, func(n Uplink) bool { return n.Link.Index == m.index })
		if back || i < 0 || time.Since(m.since) >= comeBack {
			return true
		}
		if now[i].Link.Up && !m.up { // who manages it takes a moment
			u.away[a] = missing{m.index, time.Now(), true}
			time.AfterFunc(comeBack, u.Kick)
		}
		return false
	})
	return slices.SortedFunc(maps.Keys(u.away), netip.Addr.Compare)
}
