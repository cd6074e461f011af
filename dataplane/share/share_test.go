package share

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

// memory is a table of entries in plain memory.
type memory struct {
	links []Link
	seen  []uint32
}

func (m *memory) Link(i uint32) *Link  { return &m.links[i] }
func (m *memory) Seen(i uint32) uint32 { return m.seen[i] }

func newMemory(n int) *memory { return &memory{make([]Link, n+1), make([]uint32, n+1)} }

// model says who gives as the doc comment does, as naively as can be.
type model struct {
	keep    []int
	entries []*entry   // in the order in which they came into their classes
	order   []grouping // tenants in the order in which they came into their groups
}

type entry struct {
	i             uint32
	tenant, class int
	weight        int
	seen, looked  uint32
}

type grouping struct{ tenant, group int }

func (m *model) held(tenant int) (n int) {
	for _, e := range m.entries {
		if e.tenant == tenant {
			n += e.weight
		}
	}
	return n
}

// group is the same for tenants that hold about as much.
func group(held int) int {
	g := 0
	for step := 1; held >= 32; held, step = held/2, step*2 {
		g += 1000
	}
	return g + held
}

// regroup follows a change of what a tenant has.
func (m *model) regroup(tenant int) {
	g := 0
	if n := m.held(tenant); n > 0 {
		g = group(n)
	}
	at := slices.IndexFunc(m.order, func(o grouping) bool { return o.tenant == tenant })
	if at >= 0 && m.order[at].group == g {
		return
	}
	if at >= 0 {
		m.order = slices.Delete(m.order, at, at+1)
	}
	if g > 0 {
		m.order = append(m.order, grouping{tenant, g})
	}
}

func (m *model) giver(asker int) int {
	most := grouping{-1, 0}
	for _, o := range m.order {
		if o.group > most.group {
			most = o
		}
	}
	for _, o := range m.order {
		if o.tenant == asker && o.group == most.group {
			return asker
		}
	}
	return most.tenant
}

func (m *model) of(tenant, class int) (list []*entry) {
	for _, e := range m.entries {
		if e.tenant == tenant && e.class == class {
			list = append(list, e)
		}
	}
	return list
}

func (m *model) toEnd(e *entry) {
	m.entries = slices.DeleteFunc(m.entries, func(o *entry) bool { return o == e })
	m.entries = append(m.entries, e)
	e.looked = e.seen
}

func (m *model) victim(asker int) uint32 {
	tenant, all := m.giver(asker), 0
	for class := range m.keep {
		all += len(m.of(tenant, class))
	}
	for class, keep := range m.keep {
		list := m.of(tenant, class)
		if kept := 0; keep > 0 {
			kept = all / keep
			if len(list) <= kept {
				continue
			}
		} else if len(list) == 0 {
			continue
		}
		var idlest *entry
		for n, e := range list {
			if n == 8 {
				break
			}
			if e.seen == e.looked {
				return e.i
			}
			if idlest == nil || e.seen < idlest.seen {
				idlest = &entry{i: e.i, seen: e.seen}
			}
			m.toEnd(e)
		}
		return idlest.i
	}
	return 0
}

// Random sequences of everything that a table tells, against the model: the same entries give.
func TestSharesAgainstModel(t *testing.T) {
	for seed := range uint64(30) {
		rng := rand.New(rand.NewPCG(seed, 1))
		const entries, tenants = 120, 7
		mem := newMemory(entries)
		m := &model{keep: []int{0, 8, 4, 0}}
		s := New(mem, tenants, m.keep...)
		heavy := seed%3 == 0
		live := map[uint32]*entry{}
		now := uint32(0)
		var free []uint32
		for i := range uint32(entries) {
			free = append(free, i+1)
		}
		some := func() *entry {
			keys := make([]uint32, 0, len(live))
			for k := range live {
				keys = append(keys, k)
			}
			slices.Sort(keys)
			return live[keys[rng.IntN(len(keys))]]
		}
		leave := func(e *entry) {
			s.Leave(e.i, e.tenant, e.class, e.weight)
			m.entries = slices.DeleteFunc(m.entries, func(o *entry) bool { return o == e })
			m.regroup(e.tenant)
			delete(live, e.i)
			free = append(free, e.i)
		}
		for step := range 2000 {
			now++
			what := fmt.Sprintf("seed %d, step %d", seed, step)
			switch op := rng.IntN(10); {
			case op < 5 || len(live) == 0:
				// Some tenants ask more often than others.
				asker := min(rng.IntN(tenants), rng.IntN(tenants))
				if len(free) == 0 {
					want := m.victim(asker)
					got, tenant := s.Victim(asker)
					if got != want || tenant != live[got].tenant {
						t.Fatalf("%s: entry %d of tenant %d gives, the model says %d", what, got, tenant, want)
					}
					leave(live[got])
				}
				e := &entry{i: free[0], tenant: asker, class: rng.IntN(len(m.keep)), weight: 1}
				if heavy {
					e.weight = 1 + rng.IntN(3000)
				}
				free = free[1:]
				mem.seen[e.i], e.seen, e.looked = now, now, now
				s.Enter(e.i, e.tenant, e.class, e.weight)
				live[e.i] = e
				m.entries = append(m.entries, e)
				m.regroup(e.tenant)
			case op < 7:
				e := some()
				mem.seen[e.i], e.seen = now, now
			case op < 8:
				e, to := some(), rng.IntN(len(m.keep))
				s.Move(e.i, e.tenant, e.class, to)
				e.class = to
				m.toEnd(e)
			case op < 9 && len(free) > 0: // a table moves an entry in memory
				e, to := some(), free[0]
				mem.links[to], mem.seen[to] = mem.links[e.i], mem.seen[e.i]
				s.Rename(e.i, to, e.tenant, e.class)
				delete(live, e.i)
				free[0], e.i = e.i, to
				live[to] = e
			case rng.IntN(4) == 0:
				leave(some())
			}
			if step%50 == 0 {
				total := 0
				for h := range tenants {
					if got, want := s.Held(h), m.held(h); got != want {
						t.Fatalf("%s: tenant %d has %d, the model says %d", what, h, got, want)
					}
					total += s.Held(h)
				}
				if s.Total() != total || s.Active() != len(m.order) {
					t.Fatalf("%s: %d of %d tenants in all, the model says %d of %d", what, s.Total(), s.Active(), total, len(m.order))
				}
			}
		}
	}
}

// The tenant that gives has nearly the most: at most a sixteenth less than any other.
func TestLargestIsNearlyTheLargest(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	mem := newMemory(1)
	s := New(mem, 100, 0)
	for range 20_000 {
		who := rng.IntN(100)
		by := rng.IntN(5000) - 2000
		if s.Held(who)+by < 0 {
			by = -s.Held(who)
		}
		s.Weigh(who, by)
		most := 0
		for h := range 100 {
			most = max(most, s.Held(h))
		}
		if got := s.Held(max(0, s.Largest())); got < most-most/16 || most > 0 && s.Largest() < 0 {
			t.Fatalf("the largest has %d, another %d", got, most)
		}
	}
}

// One tenant takes all, in vain: the others get what they ask for, at its cost only, and it
// gets no more than what the others leave.
func TestFloodGivesToOthers(t *testing.T) {
	const entries, tenants = 1000, 50
	mem := newMemory(entries)
	s := New(mem, tenants, 0)
	owner := make([]int, entries+1)
	next := uint32(0)
	ask := func(who int) {
		i := next + 1
		if next == entries {
			var from int
			if i, from = s.Victim(who); from != 0 && s.Held(from) < entries/tenants {
				t.Fatalf("tenant %d gives, which has %d", from, s.Held(from))
			}
			s.Leave(i, owner[i], 0, 1)
		} else {
			next++
		}
		owner[i] = who
		s.Enter(i, who, 0, 1)
	}
	for range 5000 {
		ask(0)
	}
	for n := range 15 {
		for who := 1; who < tenants; who++ {
			ask(who)
			for range 10 {
				ask(0)
			}
			if s.Held(who) != n+1 {
				t.Fatalf("tenant %d has %d of the %d it asked for", who, s.Held(who), n+1)
			}
		}
	}
	if s.Total() != entries {
		t.Errorf("%d entries, want %d", s.Total(), entries)
	}
}

func TestSharesAllocateNothing(t *testing.T) {
	mem := newMemory(100)
	s := New(mem, 100, 0, 16, 0)
	for i := range uint32(100) {
		s.Enter(i+1, int(i%7), int(i%3), 1)
	}
	n := 0
	if got := testing.AllocsPerRun(1000, func() {
		n++
		asker := n % 11
		i, tenant := s.Victim(asker)
		class := 0
		for s.Count(tenant, class) == 0 || !s.has(tenant, class, i) {
			class++
		}
		s.Leave(i, tenant, class, 1)
		s.Enter(i, asker, n%3, 1)
	}); got != 0 {
		t.Errorf("%v allocations for a new entry, want none", got)
	}
}

// has reports whether an entry is in a list.
func (t *Table) has(tenant, class int, i uint32) bool {
	for at := t.Oldest(tenant, class); at != 0; at = t.Next(at) {
		if at == i {
			return true
		}
	}
	return false
}

func BenchmarkNewEntry(b *testing.B) {
	mem := newMemory(1 << 18)
	s := New(mem, 8192, 0, 16, 16, 0)
	for i := range uint32(1 << 18) {
		s.Enter(i+1, int(i%50), 1, 1)
	}
	owner := make([]int, 1<<18+1)
	for i := range uint32(1 << 18) {
		owner[i+1] = int(i % 50)
	}
	n := 0
	for b.Loop() {
		n++
		i, tenant := s.Victim(n & 63)
		s.Leave(i, tenant, 1, 1)
		s.Enter(i, n&63, 1, 1)
	}
}
