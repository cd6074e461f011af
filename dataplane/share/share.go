// Package share divides what all use among those who use it. Anyone may fill what is free;
// when nothing is, the tenant with the most gives. All of it takes constant time and
// allocates nothing, so that a flood pays no more for each new entry than others do.
//
// A table of something shared (flows, stations, pieces of datagrams) uses it like this:
//
//   - It numbers its entries from 1 on, keeps a Link in each, and hands itself to New as
//     Entries. It numbers its tenants from 0 on: ports, containers, users.
//   - It guards the Table with the lock that it takes anyway for a new entry.
//   - A new entry is told by Enter, one that is taken out by Leave, with its tenant, class and
//     weight (1, or bytes) each time. Move changes the class.
//   - When there is no room, Victim names the entry that gives, and the table takes it out.
//     If Victim is 0, or gives too little for what is to come in, it calls Refuse.
//
// Classes are in the order in which they give: class 0 is worth least. Within a class the
// entry gives that came first, unless it was used since: then it gets a second chance.
package share

import (
	"math/bits"
	"sync/atomic"
)

// Looks is how many entries of a class Victim looks at.
const Looks = 8

// Link is what an entry keeps for the list that it is in. It holds numbers only, so that
// it may lie in memory that outlives the process. The zero Link is that of an entry in no
// list, which may keep a number of its table's in Next.
type Link struct {
	Next uint32
	prev uint32
	seen uint32 // Entries.Seen when it came in or was last looked at
}

// Entries are the entries of a table, by number from 1 on.
type Entries interface {
	// Link is that of an entry. It does not change its place while the entry is in a list,
	// but see Table.Rename.
	Link(i uint32) *Link
	// Seen is when an entry was last used, in a unit of the table's choice that may wrap.
	Seen(i uint32) uint32
}

// Table is who holds what of one shared thing. Its user locks it, but Use may be called
// without the lock.
type Table struct {
	entries Entries
	keep    []int
	lists   []list // of a tenant, class after class
	tenants []tenant
	buckets [numBuckets]bucket
	filled  [(numBuckets + 63) / 64]uint64 // which buckets have tenants
	total   int
	active  int
}

// list links entries in the order in which they came.
type list struct {
	first, last uint32
	count       int32
}

// tenant is linked with those that hold about as much. prev and next are numbers of
// tenants and one, 0: none.
type tenant struct {
	held          atomic.Int64
	gave, refused atomic.Uint64
	prev, next    uint32
}

type bucket struct{ first, last uint32 }

// A bucket holds the tenants of one count below 32, and from there on of counts that differ
// by a sixteenth at most.
const (
	bucketBits = 4
	numBuckets = (48 + 1) << bucketBits
)

func bucketOf(held int) int {
	e := max(0, bits.Len(uint(held))-bucketBits-1)
	return min(e<<bucketBits+held>>e, numBuckets-1)
}

// New makes a table of a number of tenants. keep has a number for each class: of a
// tenant's entries a class keeps the n-th part when a later class has any, so that what is
// new has time to prove itself; 0 keeps none.
func New(entries Entries, tenants int, keep ...int) *Table {
	return &Table{entries: entries, keep: keep, lists: make([]list, tenants*len(keep)), tenants: make([]tenant, tenants)}
}

func (t *Table) list(tenant, class int) *list { return &t.lists[tenant*len(t.keep)+class] }

// Enter notes a new entry of a tenant.
func (t *Table) Enter(i uint32, tenant, class, weight int) {
	t.push(t.list(tenant, class), i)
	t.add(tenant, weight)
}

// Leave notes that an entry is taken out.
func (t *Table) Leave(i uint32, tenant, class, weight int) {
	t.unlink(t.list(tenant, class), i)
	t.add(tenant, -weight)
}

// Move puts an entry at the end of another class, or of its own.
func (t *Table) Move(i uint32, tenant, from, to int) {
	t.unlink(t.list(tenant, from), i)
	t.push(t.list(tenant, to), i)
}

// Weigh changes the weight of an entry by an amount.
func (t *Table) Weigh(tenant, by int) { t.add(tenant, by) }

// Rename says that the entry with one number has moved, with its Link, to another.
func (t *Table) Rename(from, to uint32, tenant, class int) {
	l, k := t.list(tenant, class), t.entries.Link(to)
	if k.prev != 0 {
		t.entries.Link(k.prev).Next = to
	} else if l.first == from {
		l.first = to
	}
	if k.Next != 0 {
		t.entries.Link(k.Next).prev = to
	} else if l.last == from {
		l.last = to
	}
}

func (t *Table) push(l *list, i uint32) {
	k := t.entries.Link(i)
	k.prev, k.Next, k.seen = l.last, 0, t.entries.Seen(i)
	if l.last != 0 {
		t.entries.Link(l.last).Next = i
	} else {
		l.first = i
	}
	l.last = i
	l.count++
}

func (t *Table) unlink(l *list, i uint32) {
	k := t.entries.Link(i)
	if k.prev != 0 {
		t.entries.Link(k.prev).Next = k.Next
	} else {
		l.first = k.Next
	}
	if k.Next != 0 {
		t.entries.Link(k.Next).prev = k.prev
	} else {
		l.last = k.prev
	}
	k.prev, k.Next = 0, 0
	l.count--
}

// add changes what a tenant holds, and its bucket when it has to.
func (t *Table) add(who, by int) {
	h := &t.tenants[who]
	was := int(h.held.Load())
	now := was + by
	h.held.Store(int64(now))
	t.total += by
	from, to := bucketOf(was), bucketOf(now)
	if from == to {
		return
	}
	if was > 0 {
		t.leaveBucket(from, who)
	} else {
		t.active++
	}
	if now > 0 {
		t.joinBucket(to, who)
	} else {
		t.active--
	}
}

func (t *Table) joinBucket(n, who int) {
	b, h := &t.buckets[n], &t.tenants[who]
	h.prev, h.next = b.last, 0
	if b.last != 0 {
		t.tenants[b.last-1].next = uint32(who + 1)
	} else {
		b.first = uint32(who + 1)
		t.filled[n>>6] |= 1 << (n & 63)
	}
	b.last = uint32(who + 1)
}

func (t *Table) leaveBucket(n, who int) {
	b, h := &t.buckets[n], &t.tenants[who]
	if h.prev != 0 {
		t.tenants[h.prev-1].next = h.next
	} else {
		b.first = h.next
	}
	if h.next != 0 {
		t.tenants[h.next-1].prev = h.prev
	} else {
		b.last = h.prev
	}
	if b.first == 0 {
		t.filled[n>>6] &^= 1 << (n & 63)
	}
}

// Largest is the tenant that has the most, within a sixteenth, and of several that one
// who has had so much for longest; -1 when nobody has anything.
func (t *Table) Largest() int {
	for w := len(t.filled) - 1; w >= 0; w-- {
		if t.filled[w] != 0 {
			return int(t.buckets[w<<6+bits.Len64(t.filled[w])-1].first) - 1
		}
	}
	return -1
}

// Giver is the tenant that gives so that another, the asker, may have more: the asker
// itself when nobody has more, so that no two who have their share take from each other.
// It is -1 when nobody has anything.
func (t *Table) Giver(asker int) int {
	most := t.Largest()
	if most >= 0 && bucketOf(t.Held(asker)) == bucketOf(t.Held(most)) {
		return asker
	}
	return most
}

// Victim is the entry that gives way to one of the asker's, and its tenant; 0 when there is
// none. It stays where it is until Leave.
func (t *Table) Victim(asker int) (i uint32, tenant int) {
	if tenant = t.Giver(asker); tenant < 0 {
		return 0, tenant
	}
	return t.VictimOf(tenant, len(t.keep)-1), tenant
}

// VictimOf is the entry of a tenant that gives first, if its class is one or less; 0 when
// there is none.
func (t *Table) VictimOf(tenant, upTo int) uint32 {
	class := t.Class(tenant)
	if class < 0 || class > upTo {
		return 0
	}
	return t.oldest(t.list(tenant, class))
}

// Class is the class of a tenant whose entries give first, -1 when it has none.
func (t *Table) Class(tenant int) int {
	n := 0
	for class := range t.keep {
		n += t.Count(tenant, class)
	}
	for class, keep := range t.keep {
		kept := 0
		if keep > 0 {
			kept = n / keep
		}
		if t.Count(tenant, class) > kept {
			return class
		}
	}
	return -1
}

// oldest is the first entry of a list that was not used since it was looked at, or of
// those it looks at the one that was not used for longest. The ones that were used go to
// the end. The list has entries.
func (t *Table) oldest(l *list) uint32 {
	idlest, at := uint32(0), uint32(0)
	for range min(Looks, l.count) {
		i := l.first
		seen := t.entries.Seen(i)
		if seen == t.entries.Link(i).seen {
			return i
		}
		if idlest == 0 || int32(seen-at) < 0 {
			idlest, at = i, seen
		}
		t.unlink(l, i)
		t.push(l, i)
	}
	return idlest
}

// Oldest is the first entry of a class of a tenant, 0 when there is none, and Next the one
// that came after an entry: they walk through a class in the order of entry.
func (t *Table) Oldest(tenant, class int) uint32 { return t.list(tenant, class).first }

// Next is the entry after one of the same list, 0 when it is the last.
func (t *Table) Next(i uint32) uint32 { return t.entries.Link(i).Next }

// Used reports whether an entry was used since it came in or was last looked at.
func (t *Table) Used(i uint32) bool { return t.entries.Seen(i) != t.entries.Link(i).seen }

// Count is how many entries of a class a tenant has.
func (t *Table) Count(tenant, class int) int { return int(t.list(tenant, class).count) }

// Held is the weight of all that a tenant has.
func (t *Table) Held(tenant int) int { return int(t.tenants[tenant].held.Load()) }

// Total is the weight of all entries, and Active how many tenants have any.
func (t *Table) Total() int  { return t.total }
func (t *Table) Active() int { return t.active }

// Gave notes that a tenant has given an entry for another.
func (t *Table) Gave(tenant int) { t.tenants[tenant].gave.Add(1) }

// Refuse notes that a tenant did not get what it asked for.
func (t *Table) Refuse(tenant int) { t.tenants[tenant].refused.Add(1) }

// Inherit counts for a tenant what another has given and been refused; Forget lets nothing
// be counted. They need no lock.
func (t *Table) Inherit(tenant, from int) {
	h, f := &t.tenants[tenant], &t.tenants[from]
	h.gave.Add(f.gave.Swap(0))
	h.refused.Add(f.refused.Swap(0))
}

func (t *Table) Forget(tenant int) {
	t.tenants[tenant].gave.Store(0)
	t.tenants[tenant].refused.Store(0)
}

// Use is what a tenant has of a shared thing.
type Use struct {
	Held    int    // weight
	Gave    uint64 // entries that it has given for others, or for newer ones of its own
	Refused uint64 // entries that it did not get
}

// Use reads what a tenant has; it needs no lock. The numbers are of about one moment.
func (t *Table) Use(tenant int) Use {
	h := &t.tenants[tenant]
	return Use{Held: int(h.held.Load()), Gave: h.gave.Load(), Refused: h.refused.Load()}
}

// Add sums the uses of several tenants.
func (u *Use) Add(o Use) {
	u.Held += o.Held
	u.Gave += o.Gave
	u.Refused += o.Refused
}
