package dataplane

import (
	"cmp"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"github.com/vswitch/vswitch/dataplane/conntrack"
	"github.com/vswitch/vswitch/dataplane/frame"
	"github.com/vswitch/vswitch/dataplane/header"
)

// The index of many rows finds the row that reading them one after the other finds.
func TestIndexAnswersAsRowsDo(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 9))
	nets := []string{"10.1.0.0/16", "10.1.2.0/24", "10.1.2.3/32", "0.0.0.0/0", "192.0.2.0/25", "fd00::/8", "fd00:1::/32", "fd00:1::5/128", "::/0"}
	addrs := []string{"10.1.2.3", "10.1.2.4", "10.1.9.9", "192.0.2.1", "192.0.2.200", "fd00:1::5", "fd00:1::6", "fd77::1", "2001:db8::1"}
	protos := []uint8{0, header.ProtoTCP, header.ProtoUDP, header.ProtoSCTP, header.ProtoICMP, header.ProtoICMPv6, 47, 50}
	ports := []uint16{0, 1, 80, 443, 8080, 65534, 65535}
	pick := func() *Selector {
		s := &Selector{}
		switch rng.IntN(7) {
		case 0:
			s.OfPort, s.Port = true, frame.PortID(rng.IntN(3))
		case 1:
			s.Prefix = netip.MustParsePrefix(nets[rng.IntN(len(nets))])
		case 2:
			s.Group = GroupID(1 + rng.IntN(2))
		case 3:
			s.Network = frame.NetworkID(1 + rng.IntN(2))
		case 4:
			s.List = ListID(1 + rng.IntN(2))
		case 5: // of two kinds
			s.Prefix, s.Network = netip.MustParsePrefix(nets[rng.IntN(len(nets))]), frame.NetworkID(1+rng.IntN(2))
		}
		s.Sides = Side(rng.IntN(8))
		return s
	}
	lists, _ := new(listTable).renew(map[ListID][]netip.Prefix{
		1: {netip.MustParsePrefix("10.1.2.0/24"), netip.MustParsePrefix("fd00:1::5/128")}, 2: {netip.MustParsePrefix("10.1.2.3/32"), netip.MustParsePrefix("2001:db8::/32")}})
	for range 60 {
		d := Direction(rng.IntN(2))
		var rows []Rule
		for i := range 9 + rng.IntN(60) {
			r := Rule{ID: RuleID(i + 1), Tier: Tier(rng.IntN(4)), Direction: d, From: *pick(), To: *pick(), Family: []uint8{0, 0, 4, 6}[rng.IntN(4)], Proto: protos[rng.IntN(len(protos))], Via: Via(rng.IntN(4))}
			if r.Deny = rng.IntN(2) == 0; r.Deny {
				r.Reason = DropIsolated
			}
			if rng.IntN(2) == 0 {
				a, b := ports[rng.IntN(len(ports))], ports[rng.IntN(len(ports))]
				r.Ports = conntrack.PortRange{First: min(a, b), Last: max(a, b)}
			}
			if r.check() == nil {
				rows = append(rows, r)
			}
		}
		slices.SortFunc(rows, compareRules)
		var plain, indexed rowList
		for i := range rows {
			plain.rows = append(plain.rows, &rows[i])
		}
		indexed.rows = plain.rows
		indexed.finish(d)
		for range 300 {
			src, dst := header.AddrFrom(netip.MustParseAddr(addrs[rng.IntN(len(addrs))])), header.AddrFrom(netip.MustParseAddr(addrs[rng.IntN(len(addrs))]))
			someEnd := func(a *header.Addr) end {
				e := end{side: []Side{SideContainer, SideHost, SideOutside}[rng.IntN(3)], addr: a}
				if e.side != SideOutside {
					e.network = frame.NetworkID(1 + rng.IntN(3))
				}
				if e.side == SideContainer {
					e.port = &portConfig{PortConfig: PortConfig{ID: frame.PortID(rng.IntN(4)), Groups: [][]GroupID{nil, {1}, {1, 2}}[rng.IntN(3)]}}
				}
				return e
			}
			q := question{from: someEnd(&src), to: someEnd(&dst), via: []Via{ViaAddress, ViaPublished}[rng.IntN(2)], lists: lists,
				tuple: &header.Tuple{Src: src, Dst: dst, Proto: cmp.Or(protos[rng.IntN(len(protos))], 99), DstPort: ports[rng.IntN(len(ports))]}}
			if got, want := q.search(&indexed, nil), q.search(&plain, nil); got != want {
				t.Fatalf("from %+v to %+v %+v: %+v, want %+v", q.from, q.to, *q.tuple, got, want)
			}
		}
	}
}

// Of ranges of ports that lie in each other a question reads one row of each kind, whatever
// prefixes around its address they are of.
func TestNestedPortsAreNotReadOneByOne(t *testing.T) {
	var rows []Rule
	for i := range 2000 {
		rows = append(rows, Rule{ID: RuleID(i + 1), Direction: Out, Proto: []uint8{header.ProtoTCP, 0}[i%2], Ports: conntrack.PortRange{First: uint16(1 + i), Last: uint16(65000 - i)},
			To: Selector{Prefix: netip.PrefixFrom(netip.MustParseAddr("192.0.2.1"), 8+i%25)}})
	}
	slices.SortFunc(rows, compareRules)
	var l rowList
	for i := range rows {
		l.rows = append(l.rows, &rows[i])
	}
	l.finish(Out)
	f, ok := l.index.prefixes.Lookup(netip.MustParseAddr("192.0.2.1"))
	if !ok {
		t.Fatal("the address has no leaf")
	}
	most := 0
	for _, spans := range f {
		for _, s := range spans {
			most = max(most, len(s.rows))
		}
	}
	if most > 2 {
		t.Errorf("%d rows are read for one port", most)
	}
}
