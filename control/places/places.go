// Package places bounds who may be where there is room for a number only: so many in all and
// half of that for one user. Who comes when no place is free takes that of the user who has the
// most, his idlest. Its callers name the users: by a number of the kernel's, by an address.
package places

import "github.com/vswitch/vswitch/dataplane/share"

// Guest is what takes a place: a connection, a session.
type Guest interface {
	// Used is when it last carried anything, in a unit of its kind that may wrap.
	Used() uint32
}

// The classes of guests, in the order in which they give.
const (
	Opening = iota // not of use to anybody yet
	Open
)

// openingPart is the part of a user's places that those which open keep: another comes only
// through it.
const openingPart = 8

// Places is a number of places. Its user locks it.
type Places[K comparable] struct {
	each   int // of one user
	places []place[K]
	free   []uint32 // those that nobody has
	users  map[K]int
	spare  []int // of tenants
	shares *share.Table
	gave   uint64
}

type place[K comparable] struct {
	link   share.Link
	who    K
	tenant int
	class  int
	c      Guest
}

// New has so many places, at least one.
func New[K comparable](limit int) *Places[K] {
	p := &Places[K]{each: max(1, limit/2), places: make([]place[K], limit), users: make(map[K]int)}
	for i := limit; i > 0; i-- {
		p.free, p.spare = append(p.free, uint32(i)), append(p.spare, i-1)
	}
	p.shares = share.New(p, limit, openingPart, 0)
	return p
}

// Link and Seen implement share.Entries.
func (p *Places[K]) Link(i uint32) *share.Link { return &p.places[i-1].link }
func (p *Places[K]) Seen(i uint32) uint32      { return p.places[i-1].c.Used() }

// Len is how many places are taken.
func (p *Places[K]) Len() int { return len(p.places) - len(p.free) }

// Take gives c a place, which is a number from 1 on, and returns what has given its own
// for it, or nil; that one has left.
func (p *Places[K]) Take(c Guest, who K, class int) (at uint32, gave Guest) {
	mine, known := p.users[who]
	switch {
	case known && p.shares.Held(mine) >= p.each:
		gave = p.give(p.shares.VictimOf(mine, Open))
	case len(p.free) == 0:
		asker := mine
		if !known {
			asker = p.shares.Largest() // who has nothing takes from who has the most
		}
		i, _ := p.shares.Victim(asker)
		gave = p.give(i)
	}
	if mine, known = p.users[who]; !known { // perhaps no longer, if it has given its only one
		mine = p.spare[len(p.spare)-1]
		p.spare, p.users[who] = p.spare[:len(p.spare)-1], mine
	}
	at = p.free[len(p.free)-1]
	p.free = p.free[:len(p.free)-1]
	p.places[at-1] = place[K]{who: who, tenant: mine, class: class, c: c}
	p.shares.Enter(at, mine, class, 1)
	return at, gave
}

func (p *Places[K]) give(i uint32) Guest {
	c := p.places[i-1].c
	p.Leave(i, c)
	p.gave++
	return c
}

// Opened moves a guest to the class Open.
func (p *Places[K]) Opened(at uint32, c Guest) {
	if s := &p.places[at-1]; s.c == c && s.class == Opening {
		p.shares.Move(at, s.tenant, Opening, Open)
		s.class = Open
	}
}

// Leave gives a place back, unless c has given it before.
func (p *Places[K]) Leave(at uint32, c Guest) {
	s := &p.places[at-1]
	if s.c != c {
		return
	}
	p.shares.Leave(at, s.tenant, s.class, 1)
	if p.shares.Held(s.tenant) == 0 {
		delete(p.users, s.who)
		p.spare = append(p.spare, s.tenant)
	}
	*s = place[K]{}
	p.free = append(p.free, at)
}

// Full reports whether a user has all that one may have.
func (p *Places[K]) Full(who K) bool {
	mine, known := p.users[who]
	return known && p.shares.Held(mine) >= p.each
}

// Each is how many places one user may have, Gave how many were given to others so far.
func (p *Places[K]) Each() int    { return p.each }
func (p *Places[K]) Gave() uint64 { return p.gave }

// All calls fn for each guest.
func (p *Places[K]) All(fn func(Guest)) {
	for i := range p.places {
		if c := p.places[i].c; c != nil {
			fn(c)
		}
	}
}
