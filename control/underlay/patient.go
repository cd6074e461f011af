package underlay

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/control/host"
	"github.com/vswitch/vswitch/dataplane/conntrack"
)

// comeBack is how long an interface that was set down may take to be up again, with its
// routes.
const comeBack = 4 * time.Second

// turnsBack is how long a route or an address may be away from an interface that is up: who
// replaces it, as a script or a DHCP client does, needs two commands.
const turnsBack = time.Second

// sleeps is how long the flows of an address that has gone wait for it. Nothing leaves with it.
const sleeps = 10 * time.Second

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
			until = u.lasts(comeBack)
			if l.Up {
				until = u.lasts(turnsBack)
			}
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

// lasts says until when something is waited for that has gone.
func (u *Underlay) lasts(d time.Duration) time.Time {
	time.AfterFunc(d, u.Kick)
	return time.Now().Add(d)
}

// missed returns the addresses of uplinks that have gone and may come back: the kernel takes IPv6
// addresses of an uplink that is set down, and all of one that is removed. Their flows are asleep,
// and their peers do not hear from the host that there is no such connection. Masqueraded
// flows do not wait for one in whose place another has come. there has the addresses of uplinks now, all that
// the host has.
func (u *Underlay) missed(old, now []Uplink, there map[netip.Addr]int, all []host.Addr) []netip.Addr {
	for _, o := range old {
		i := slices.IndexFunc(now, func(n Uplink) bool { return n.Link.Index == o.Link.Index })
		up := i >= 0 && now[i].Link.Up
		for _, p := range o.Addrs {
			a := p.Addr()
			if _, ok := there[a]; ok || has(all, a) {
				continue
			}
			if up && replaced(now[i].Addrs, a) {
				u.over = append(u.over, conntrack.Selector{At: a, Kinds: conntrack.Only(conntrack.KindMasquerade)})
				continue
			}
			u.away[a] = u.lasts(sleeps)
		}
	}
	maps.DeleteFunc(u.away, func(a netip.Addr, until time.Time) bool {
		_, back := there[a]
		return back || has(all, a) || !time.Now().Before(until)
	})
	return slices.SortedFunc(maps.Keys(u.away), netip.Addr.Compare)
}

// lose finds the addresses that the host has lost for so long that their flows end.
func (u *Underlay) lose(old, now map[netip.Addr]bool) {
	for a := range old {
		if _, ok := u.lost[a]; !ok && !now[a] {
			u.lost[a] = u.lasts(sleeps)
		}
	}
	maps.DeleteFunc(u.lost, func(a netip.Addr, until time.Time) bool {
		over := !now[a] && !time.Now().Before(until)
		if over {
			u.over = append(u.over, conntrack.Selector{At: a})
		}
		return over || now[a]
	})
}

// end ends the flows of addresses that are over.
func (u *Underlay) end() {
	for _, which := range u.over {
		if n := u.cfg.Over(which); n > 0 {
			text := fmt.Sprintf("the host has address %s no more: %d flows that came in by it or left with it have ended", which.At, n)
			u.cfg.Log.Info("flows of an address have ended", "addr", which.At, "flows", n)
			u.cfg.Tell(api.Event{Type: api.EventAddressGone, Addresses: []string{which.At.String()}, Count: uint64(n), Message: text})
		}
	}
	u.over = nil
}

// has reports whether an interface has an address, if it is no uplink any more, too.
func has(all []host.Addr, a netip.Addr) bool {
	return slices.ContainsFunc(all, func(h host.Addr) bool { return h.Prefix.Addr() == a && !h.Tentative })
}

// replaced reports whether an uplink has another address of a family.
func replaced(now []netip.Prefix, a netip.Addr) bool {
	return slices.ContainsFunc(now, func(p netip.Prefix) bool { return p.Addr().Is4() == a.Is4() })
}

// pause reports whether ctx goes on.
func pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

// keep takes the shields from interfaces that are no uplinks any more, also since a process before.
func (u *Underlay) keep(ups []Uplink) error {
	indexes := make([]int, 0, len(ups))
	for _, o := range ups {
		indexes = append(indexes, o.Link.Index)
	}
	others, err := u.cfg.Edge.KeepUplinks(indexes...)
	if len(others) > 0 {
		u.cfg.Log.Info("shields removed", "interfaces", others)
	}
	return err
}
