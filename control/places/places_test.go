package places

import (
	"testing"
)

// held is a thing with a time of last use.
type held struct{ at uint32 }

func (h *held) Used() uint32 { return h.at }

// User is a user, or nobody.
type User struct {
	UID   uint32
	Known bool
}

func user(n uint32) User { return User{n, true} }

// TestPlacesOfUsers: one who takes all he can has half, and leaves others theirs.
func TestPlacesOfUsers(t *testing.T) {
	p := New[User](100)
	mine, at := &held{1}, uint32(0)
	at, _ = p.Take(mine, user(7), Open)
	for n := range uint32(500) { // a flood
		_, gave := p.Take(&held{n}, user(1), Open)
		if (gave != nil) != (n >= 50) {
			t.Fatalf("%d: gave %v", n, gave)
		}
	}
	if p.Len() != 51 || !p.Full(user(1)) || p.Full(user(7)) || p.gave != 450 {
		t.Errorf("%d places are taken, %d were given", p.Len(), p.gave)
	}
	for n := range uint32(500) { // of many users, nobody's too
		p.Take(&held{n}, User{20 + n%9, n%3 > 0}, Open)
	}
	if p.Len() != 100 || p.places[at-1].c != mine {
		t.Errorf("%d places are taken, of the first user %v", p.Len(), p.places[at-1].c)
	}
	for i := range uint32(100) {
		p.Leave(i+1, p.places[i].c)
	}
	if p.Len() != 0 || len(p.users) != 0 || len(p.spare) != 100 {
		t.Errorf("%d places, %d users are left", p.Len(), len(p.users))
	}
	p.Leave(1, mine) // again
	if p.Len() != 0 {
		t.Error("a place was given back twice")
	}
}

// TestPlacesOfAsManyUsers: when each has one place, the one who has had it for longest
// gives it.
func TestPlacesOfAsManyUsers(t *testing.T) {
	p := New[User](10)
	for n := range uint32(1000) {
		_, gave := p.Take(&held{n}, user(n), Open)
		if n >= 10 && gave.(*held).at != n-10 || n < 10 && gave != nil {
			t.Fatalf("%d: gave %v", n, gave)
		}
	}
	if p.Len() != 10 || len(p.users) != 10 {
		t.Errorf("%d places of %d users", p.Len(), len(p.users))
	}
}

// TestPlacesOfTheIdlest: of one's own what is opening gives first, except for the last
// eighth, then what was idle for longest.
func TestPlacesOfTheIdlest(t *testing.T) {
	p := New[User](16)
	var list []*held
	var at []uint32
	for range 8 {
		h := &held{1}
		n, _ := p.Take(h, user(1), Open)
		list, at = append(list, h), append(at, n)
	}
	for i, h := range list {
		if h.at = 9; i == 5 {
			h.at = 1
		}
	}
	if _, gave := p.Take(&held{9}, user(1), Opening); gave != list[5] {
		t.Errorf("the idlest did not give: %v", gave)
	}
	p.Leave(at[0], list[0])
	p.Leave(at[1], list[1])
	half := &held{9}
	n, _ := p.Take(half, user(1), Opening)
	if _, gave := p.Take(&held{9}, user(1), Open); gave != nil {
		t.Errorf("a free place was not taken: %v", gave)
	}
	if _, gave := p.Take(&held{9}, user(1), Open); gave == nil || gave.(*held).at != 9 || gave == half {
		t.Errorf("of two that are opening the older one did not give: %v", gave)
	}
	p.Opened(n, half)
	if _, gave := p.Take(&held{9}, user(1), Open); gave == half || gave == nil {
		t.Errorf("what has just opened gave: %v", gave)
	}
}
