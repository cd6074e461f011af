package dataplane

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/gaissmai/bart"

	"github.com/vswitch/vswitch/dataplane/conntrack"
	"github.com/vswitch/vswitch/dataplane/frame"
	"github.com/vswitch/vswitch/dataplane/header"
)

// Rows of one end of flows are told apart by the other end, and then by protocol and port:
// a container with a thousand rules asks the few that can match. Of lists, which change
// apart from rows, each that is named is asked whether it has the address.

// indexFrom is how many rows are read one after the other at most.
const indexFrom = 8

// rowList is rows in the order in which they are read.
type rowList struct {
	rows  []*Rule
	index *rowIndex // of many rows
}

// ranked is a row with its place in the order.
type ranked struct {
	at  int
	row *Rule
}

// rowIndex finds the first row that matches among many. A row lies in one leaf, by what
// its selector of the other end has that fewest ends have.
type rowIndex struct {
	in       bool // the other end is the sender
	ports    map[frame.PortID]*leaf
	prefixes *bart.Table[*leaf] // rows of a prefix and of all that contain it
	lists    []listLeaf
	groups   map[GroupID]*leaf
	networks map[frame.NetworkID]*leaf
	rest     *leaf
}

type listLeaf struct {
	id   ListID
	leaf *leaf
}

// leaf is rows by protocol and port.
type leaf [numProtoClasses][]span

// span is the rows of the ports from first to where the next span begins.
type span struct {
	first uint16
	rows  []ranked
}

const numProtoClasses = 6

// protoClass is a protocol's place in a leaf.
func protoClass(proto uint8) int {
	switch proto {
	case header.ProtoTCP:
		return 0
	case header.ProtoUDP:
		return 1
	case header.ProtoSCTP:
		return 2
	case header.ProtoICMP:
		return 3
	case header.ProtoICMPv6:
		return 4
	}
	return 5
}

// finish makes the index when all rows are there.
func (l *rowList) finish(d Direction) {
	if len(l.rows) <= indexFrom {
		return
	}
	x := &rowIndex{
		in: d == In, ports: make(map[frame.PortID]*leaf), prefixes: new(bart.Table[*leaf]), groups: make(map[GroupID]*leaf), networks: make(map[frame.NetworkID]*leaf),
	}
	var rest []ranked
	ports, groups, networks := make(map[frame.PortID][]ranked), make(map[GroupID][]ranked), make(map[frame.NetworkID][]ranked)
	lists, prefixes := make(map[ListID][]ranked), make(map[netip.Prefix][]ranked)
	for i, r := range l.rows {
		switch c, n := r.other(), (ranked{i, r}); {
		case c.OfPort:
			ports[c.Port] = append(ports[c.Port], n)
		case c.Prefix.IsValid():
			p := c.Prefix.Masked()
			prefixes[p] = append(prefixes[p], n)
		case c.List != 0:
			lists[c.List] = append(lists[c.List], n)
		case c.Group != 0:
			groups[c.Group] = append(groups[c.Group], n)
		case c.Network != 0:
			networks[c.Network] = append(networks[c.Network], n)
		default:
			rest = append(rest, n)
		}
	}
	x.rest = newLeaf(rest)
	fillLeaves(x.ports, ports)
	fillLeaves(x.groups, groups)
	fillLeaves(x.networks, networks)
	for id, rows := range lists {
		x.lists = append(x.lists, listLeaf{id, newLeaf(rows)})
	}
	around := new(bart.Table[[]ranked])
	for p, rows := range prefixes {
		around.Insert(p, rows)
	}
	for p := range prefixes {
		var rows []ranked
		for _, more := range around.Supernets(p) {
			rows = append(rows, more...)
		}
		slices.SortFunc(rows, byRank)
		x.prefixes.Insert(p, newLeaf(rows))
	}
	l.index = x
}

func fillLeaves[K comparable](leaves map[K]*leaf, rows map[K][]ranked) {
	for k := range rows {
		leaves[k] = newLeaf(rows[k])
	}
}

func byRank(a, b ranked) int { return cmp.Compare(a.at, b.at) }

// other is the selector of the end that the row is not of.
func (r *Rule) other() *Selector {
	if r.Direction == In {
		return &r.From
	}
	return &r.To
}

// newLeaf sorts rows, which are in their order, by protocol and port.
func newLeaf(rows []ranked) *leaf {
	f := new(leaf)
	for class := range f {
		var some []ranked
		for _, n := range rows {
			if n.row.Proto == 0 || protoClass(n.row.Proto) == class {
				some = append(some, n)
			}
		}
		f[class] = spansOf(some)
	}
	return f
}

// spansOf cuts the ports where some row begins or ends. A span has of rows that differ in
// nothing but their ports and what they say the first only, which keeps nested ranges from
// being read one by one. Where rows lie over each other in so many kinds that this would be
// large there is one span.
func spansOf(rows []ranked) (spans []span) {
	if len(rows) <= indexFrom {
		return []span{{0, rows}}
	}
	cuts := []uint16{0}
	for _, n := range rows {
		if p := n.row.Ports; p != (conntrack.PortRange{}) {
			cuts = append(cuts, p.First)
			if p.Last < 65535 {
				cuts = append(cuts, p.Last+1)
			}
		}
	}
	slices.Sort(cuts)
	cuts = slices.Compact(cuts)
	begin, end := slices.Clone(rows), slices.Clone(rows)
	slices.SortStableFunc(begin, func(a, b ranked) int { return cmp.Compare(a.row.Ports.First, b.row.Ports.First) })
	slices.SortStableFunc(end, func(a, b ranked) int { return cmp.Compare(a.row.lastPort(), b.row.lastPort()) })
	active := make(map[Rule][]ranked) // by kind, each in the order of rows
	size, most := 0, 64*(len(rows)+1)
	for _, first := range cuts {
		for len(end) > 0 && end[0].row.lastPort() < first {
			k := end[0].row.kind()
			i, _ := slices.BinarySearchFunc(active[k], end[0], byRank)
			if active[k] = slices.Delete(active[k], i, i+1); len(active[k]) == 0 {
				delete(active, k)
			}
			end = end[1:]
		}
		for len(begin) > 0 && begin[0].row.Ports.First <= first {
			k := begin[0].row.kind()
			i, _ := slices.BinarySearchFunc(active[k], begin[0], byRank)
			active[k], begin = slices.Insert(active[k], i, begin[0]), begin[1:]
		}
		if size += len(active); size > most {
			return []span{{0, rows}}
		}
		s := span{first, make([]ranked, 0, len(active))}
		for _, same := range active {
			s.rows = append(s.rows, same[0])
		}
		slices.SortFunc(s.rows, byRank)
		spans = append(spans, s)
	}
	return spans
}

// lastPort is the last port of a row, which may be of all.
func (r *Rule) lastPort() uint16 {
	if r.Ports == (conntrack.PortRange{}) {
		return 65535
	}
	return r.Ports.Last
}

// kind is what rows of a leaf have in common that differ in their ports and in what they
// say. An address that has a leaf of a prefix lies in the prefixes around that, too.
func (r *Rule) kind() Rule {
	k := *r
	k.ID, k.Tier, k.Deny, k.Reason, k.Ports = 0, 0, false, NotDropped, conntrack.PortRange{}
	if o := k.other(); !o.OfPort {
		o.Prefix = netip.Prefix{}
	}
	return k
}

// first finds the row that comes first of those that match. It allocates nothing.
func (x *rowIndex) first(q *question) *Rule {
	e, class, port := &q.to, numProtoClasses-1, uint16(0)
	if x.in {
		e = &q.from
	}
	if q.tuple != nil {
		class, port = protoClass(q.tuple.Proto), q.tuple.DstPort
	}
	var best ranked
	look := func(f *leaf) {
		if f != nil {
			f.first(q, class, port, &best)
		}
	}
	look(x.rest)
	if e.network != 0 {
		look(x.networks[e.network])
	}
	if e.port != nil {
		look(x.ports[e.port.ID])
		for _, g := range e.port.Groups {
			look(x.groups[g])
		}
	}
	if e.addr != nil {
		if f, ok := x.prefixes.Lookup(e.addr.NetIP()); ok {
			look(f)
		}
		for i := range x.lists {
			if q.lists.has(x.lists[i].id, e.addr) {
				look(x.lists[i].leaf)
			}
		}
	}
	return best.row
}

// first finds the first row of a leaf that matches, if it comes before best.
func (f *leaf) first(q *question, class int, port uint16, best *ranked) {
	spans := f[class]
	i, found := slices.BinarySearchFunc(spans, port, func(s span, p uint16) int { return cmp.Compare(s.first, p) })
	if !found {
		i--
	}
	for _, n := range spans[i].rows {
		if best.row != nil && n.at > best.at {
			return
		}
		if n.row.matches(q) {
			*best = n
			return
		}
	}
}
