package model

import "slices"

// Numbering gives numbers from 1 to last to what keys name. 0 is none. A number that
// was given back waits until every other has had its turn, and then the one that has
// waited longest goes first: what still speaks of it has forgotten it by then. A key may
// keep its number meanwhile, and has it again if nobody else was given it.
//
// It is not safe for concurrent use.
type Numbering[K comparable] struct {
	last int
	once bool // what was given back is not given out again

	given   int          // out last
	had     map[int]bool // numbers that were somebody's since the process began, or are kept
	of      map[K]int
	keys    map[int]K // the reverse
	waiting []int     // given back, longest first
}

// NewNumbering makes a numbering from 1 to last in which every number is free. With once no
// number is given to a second key.
func NewNumbering[K comparable](last int, once bool) *Numbering[K] {
	return &Numbering[K]{last: last, once: once, had: make(map[int]bool), of: make(map[K]int), keys: make(map[int]K)}
}

// Begin lets the numbers after latest be given out first: they were free for longest.
func (t *Numbering[K]) Begin(latest int) {
	if 0 < latest && latest <= t.last {
		t.given = latest
	}
}

// Keep lets a key that is not in use have a number of its own, when it will be. It
// reports whether the number is in the range and nobody else's.
func (t *Numbering[K]) Keep(key K, n int) bool {
	if n < 1 || n > t.last || t.had[n] || t.of[key] != 0 {
		return false
	}
	t.had[n] = true
	t.Rename(n, key)
	t.waiting = append(t.waiting, n)
	return true
}

// Take returns the number of a key, which is in use from then on; false when all are.
func (t *Numbering[K]) Take(key K) (n int, ok bool) {
	if n = t.of[key]; n != 0 {
		t.waiting = slices.DeleteFunc(t.waiting, func(o int) bool { return o == n })
		return n, true
	}
	switch {
	case len(t.had) < t.last:
		for n = t.given%t.last + 1; t.had[n]; n = n%t.last + 1 {
		}
		t.had[n] = true
	case len(t.waiting) > 0 && !t.once:
		n = t.waiting[0]
		t.waiting = t.waiting[1:]
	default:
		return 0, false
	}
	t.given = n
	t.Rename(n, key)
	return n, true
}

// Rename gives a number another key. One that had the key has none from then on.
func (t *Numbering[K]) Rename(n int, key K) {
	if o, ok := t.of[key]; ok {
		t.Forget(o)
	}
	t.Forget(n)
	t.of[key], t.keys[n] = n, key
}

// Forget takes its key from a number.
func (t *Numbering[K]) Forget(n int) {
	if key, ok := t.keys[n]; ok {
		delete(t.of, key)
		delete(t.keys, n)
	}
}

// GiveBack ends the use of a number; its key keeps it until it is another's.
func (t *Numbering[K]) GiveBack(n int) {
	if !t.once {
		t.waiting = append(t.waiting, n)
	}
}

// Free ends the use of a number, and its key is forgotten.
func (t *Numbering[K]) Free(n int) {
	t.Forget(n)
	t.GiveBack(n)
}

// Latest is the number that was given out last.
func (t *Numbering[K]) Latest() int { return t.given }

// InUse is how many numbers are.
func (t *Numbering[K]) InUse() int { return len(t.had) - len(t.waiting) }

// Number returns the number of a key, 0 when it has none.
func (t *Numbering[K]) Number(key K) int { return t.of[key] }

// KeyNumber is a key and its number.
type KeyNumber[K comparable] struct {
	Key    K
	Number int
}

// List returns the keys that have numbers: those not in use, for longest first, then
// those in use by number.
func (t *Numbering[K]) List() []KeyNumber[K] {
	list := make([]KeyNumber[K], 0, len(t.of))
	waits := make(map[int]bool, len(t.waiting))
	for _, n := range t.waiting {
		waits[n] = true
		if key, ok := t.keys[n]; ok {
			list = append(list, KeyNumber[K]{key, n})
		}
	}
	away := len(list)
	for n, key := range t.keys {
		if !waits[n] {
			list = append(list, KeyNumber[K]{key, n})
		}
	}
	slices.SortFunc(list[away:], func(a, b KeyNumber[K]) int { return a.Number - b.Number })
	return list
}
