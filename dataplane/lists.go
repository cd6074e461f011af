package dataplane

import (
	"maps"
	"net/netip"
	"slices"

	"github.com/gaissmai/bart"

	"github.com/vswitch/vswitch/dataplane/header"
)

// Lists are prefixes that rows speak of by a number and that change far more often than
// rows do: the addresses of a name every few seconds, a feed of ten thousand at once. So
// they have a door of their own, as the next hops have, and no snapshot is made for them.

// listTable is all lists. It is immutable and replaced as a whole; lists that stay the
// same are shared.
type listTable struct {
	generation uint32 // grows with each table
	lists      map[ListID]*list
}

type list struct {
	prefixes []netip.Prefix // sorted, masked, each once
	has      *bart.Lite
}

func (t *listTable) has(id ListID, a *header.Addr) bool {
	l := t.lists[id]
	return l != nil && a != nil && l.has.Contains(a.NetIP())
}

// renew makes a table out of all lists. changed has every address that another list has
// now than before; nil: none.
func (t *listTable) renew(lists map[ListID][]netip.Prefix) (fresh *listTable, changed *bart.Lite) {
	fresh = &listTable{generation: t.generation + 1, lists: make(map[ListID]*list, len(lists))}
	changed = new(bart.Lite)
	for id, prefixes := range lists {
		fresh.lists[id] = t.lists[id].renew(prefixes, changed)
	}
	for id, l := range t.lists {
		if _, stays := lists[id]; !stays {
			l.renew(nil, changed)
		}
	}
	if changed.Size() == 0 && len(lists) == len(t.lists) {
		return t, nil
	}
	return fresh, changed
}

// renew makes the next list, by what differs: prefixes are sorted both before and after.
func (l *list) renew(prefixes []netip.Prefix, changed *bart.Lite) *list {
	if l == nil {
		l = &list{has: new(bart.Lite)}
	}
	next := make([]netip.Prefix, len(prefixes))
	for i, p := range prefixes {
		next[i] = p.Masked()
	}
	slices.SortFunc(next, netip.Prefix.Compare)
	next = slices.Compact(next)
	if slices.Equal(l.prefixes, next) {
		return l
	}
	fresh := &list{prefixes: next, has: l.has.Clone()}
	for old, now := l.prefixes, next; len(old) > 0 || len(now) > 0; {
		switch {
		case len(now) == 0 || len(old) > 0 && old[0].Compare(now[0]) < 0:
			fresh.has.Delete(old[0])
			changed.Insert(old[0])
			old = old[1:]
		case len(old) == 0 || old[0].Compare(now[0]) > 0:
			fresh.has.Insert(now[0])
			changed.Insert(now[0])
			now = now[1:]
		default:
			old, now = old[1:], now[1:]
		}
	}
	return fresh
}

// SetLists replaces all lists; one that is not named has no address any more. When it has
// returned, no frame passes by what a list said before, in a turn or in the kernel. The
// prefixes are copied.
func (s *Switch) SetLists(lists map[ListID][]netip.Prefix) {
	s.mu.Lock()
	t, changed := s.lists.Load().renew(lists)
	if changed == nil {
		s.mu.Unlock()
		return
	}
	s.lists.Store(t)
	s.grace()
	s.mu.Unlock()
	touches := func(a *header.Addr) bool { return changed.Contains(a.NetIP()) }
	s.flows.revalidate(s, func(r *flowRow) bool {
		return touches(&r.flow.tuple.Src) || touches(&r.flow.tuple.Dst) || r.routed && (touches(&r.to.Src) || touches(&r.to.Dst))
	})
}

// Lists returns how many prefixes each list has.
func (s *Switch) Lists() map[ListID]int {
	t := s.lists.Load()
	n := make(map[ListID]int, len(t.lists))
	for id := range maps.Keys(t.lists) {
		n[id] = len(t.lists[id].prefixes)
	}
	return n
}
