package directory

import (
	"cmp"
	"iter"
	"slices"
	"strings"
)

// minPrefix is how much of an ID has to be given.
const minPrefix = 6

// pieces are what the container was attached as.
func (ct *Container) pieces() []*Container {
	if ct.Pieces == nil {
		return []*Container{ct}
	}
	return ct.Pieces
}

func (ct *Container) has(id string) bool {
	return slices.ContainsFunc(ct.pieces(), func(p *Container) bool { return p.ID == id })
}

// names are all that the container is known by: its own name, and what each piece is called.
func (ct *Container) names() []string {
	list := []string{ct.Name}
	for _, p := range ct.Pieces {
		list = append(list, p.Name)
	}
	slices.Sort(list)
	return slices.Compact(list)
}

// begins reports whether an ID of the container begins with a word.
func (ct *Container) begins(word string) bool {
	return strings.HasPrefix(ct.ID, word) || strings.HasPrefix(ct.RuntimeID, word) ||
		slices.ContainsFunc(ct.Pieces, func(p *Container) bool { return strings.HasPrefix(p.ID, word) || strings.HasPrefix(p.RuntimeID, word) })
}

// whole is the container that a piece is of.
func (e *edit) whole(p *Container) *Container {
	list := []*Container{p}
	for i := 0; i < len(list); i++ {
		for _, key := range list[i].Keys {
			ids, _ := e.keyed.get(key)
			for _, id := range ids {
				if o, _ := e.pieces.get(id); o != nil && !slices.Contains(list, o) {
					list = append(list, o)
				}
			}
		}
	}
	return wholeOf(list)
}

// wholeOf is the container of some pieces. Its way out is that which its runtime has named,
// or where the ports are published, or else what came first.
func wholeOf(list []*Container) *Container {
	if ct := list[0]; len(list) == 1 && ct.Called == "" && ct.Of() == ct.RuntimeID {
		return ct
	}
	age := func(a, b *Container) int { return cmp.Or(a.Created.Compare(b.Created), cmp.Compare(a.ID, b.ID)) }
	slices.SortFunc(list, func(a, b *Container) int {
		return cmp.Or(b.rank()-a.rank(), age(a, b))
	})
	first := slices.MinFunc(list, age)
	ct := *first
	ct.Pieces, ct.Endpoints, ct.Published, ct.Ready = list, nil, nil, false
	ct.Called = ""
	for _, p := range list {
		if of := p.Of(); of != p.RuntimeID {
			ct.RuntimeID = of
		}
		ct.Called = cmp.Or(ct.Called, p.Called)
		ct.Ready = ct.Ready || p.Ready
		ct.Endpoints, ct.Published = append(ct.Endpoints, p.Endpoints...), append(ct.Published, p.Published...)
	}
	if ct.Name = ct.Called; ct.Name == "" { // a name before an ID, and the shorter one: others end in a network's
		ct.Name = slices.MinFunc(list, func(a, b *Container) int {
			return cmp.Or(cmp.Compare(a.nameless(), b.nameless()), cmp.Compare(len(a.Name), len(b.Name)), age(a, b))
		}).Name
	}
	return &ct
}

// rank grows with what speaks for a piece as the way out.
func (ct *Container) rank() int {
	switch {
	case ct.WayOut:
		return 2
	case len(ct.Published) > 0:
		return 1
	}
	return 0
}

// nameless is 1 for a piece that is called as its runtime's ID begins.
func (ct *Container) nameless() int {
	if strings.HasPrefix(ct.RuntimeID, ct.Name) {
		return 1
	}
	return 0
}

// Nameless reports whether the container is called as its runtime's ID begins, for want of a name.
func (ct *Container) Nameless() bool {
	return !slices.ContainsFunc(ct.pieces(), func(p *Container) bool { return p.Called != "" || p.nameless() == 0 })
}

// KeyOfRuntime begins the key that is the runtime's own ID of a container, where a piece has
// an ID of its own.
const KeyOfRuntime = "id:"

// Of is the ID that the runtime has for the whole container, as far as it has said so.
func (ct *Container) Of() string {
	for _, key := range ct.Keys {
		if id, ok := strings.CutPrefix(key, KeyOfRuntime); ok {
			return id
		}
	}
	return ct.RuntimeID
}

// Containers ranges over the ready containers, in no order.
func (d *Directory) Containers() iter.Seq[*Container] {
	return func(yield func(*Container) bool) {
		for id, ct := range d.containers.all() {
			if ct.Ready && ct.ID == id && !yield(ct) {
				return
			}
		}
	}
}

// Named returns the container of a name that no other has, ready or not, or nil.
func (d *Directory) Named(name string) *Container {
	if ids, _ := d.names.get(name); len(ids) == 1 {
		return d.ByID(ids[0])
	}
	return nil
}

// ByID returns the container of an ID, its own or that of a piece, ready or not, or nil.
func (d *Directory) ByID(id string) *Container {
	ct, _ := d.containers.get(id)
	return ct
}
