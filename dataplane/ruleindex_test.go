package dataplane_test

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/vswitch/vswitch/dataplane"
	"github.com/vswitch/vswitch/dataplane/conntrack"
	"github.com/vswitch/vswitch/dataplane/frame"
	"github.com/vswitch/vswitch/dataplane/header"
	. "github.com/vswitch/vswitch/dataplane/switchtest"
)

// manyRows are n rows of c1 of a kind, none of which matches a packet to World's port 80.
func manyRows(l *Lab, kind string, n int) (rows []dataplane.Rule) {
	for i := range n {
		r := dataplane.Rule{
			ID: dataplane.RuleID(1000 + i), Tier: dataplane.TierUser, Direction: dataplane.Out, Deny: true, Reason: dataplane.DropIsolated,
			From: dataplane.Selector{Sides: dataplane.SideContainer, OfPort: true, Port: l.Port("c1")}, To: dataplane.Selector{Sides: dataplane.SideOutside},
		}
		switch kind {
		case "prefixes":
			r.To.Prefix = netip.PrefixFrom(netip.AddrFrom4([4]byte{100, byte(i >> 8), byte(i), 0}), 24)
		case "ports":
			r.Proto, r.Ports = header.ProtoTCP, conntrack.PortRange{First: uint16(1000 + 2*i), Last: uint16(1000 + 2*i)}
		case "nested ports":
			r.Proto, r.Ports = header.ProtoTCP, conntrack.PortRange{First: uint16(1000 + i), Last: uint16(60000 - i)}
		case "containers":
			r.To = dataplane.Selector{Sides: dataplane.SideContainer, OfPort: true, Port: frame.PortID(100 + i)}
		}
		rows = append(rows, r)
	}
	return rows
}

// Rows of a container are found without reading them all, and reading allocates nothing.
func TestManyRowsAreFound(t *testing.T) {
	for _, kind := range []string{"prefixes", "ports", "nested ports", "containers"} {
		l := New(t)
		l.Written = manyRows(l, kind, 1000)
		// One row that decides lies in the middle, and one above it.
		hit := dataplane.Rule{ID: 7, Tier: dataplane.TierUser, Direction: dataplane.Out, Deny: true, Reason: dataplane.DropIsolated,
			From: dataplane.Selector{OfPort: true, Port: l.Port("c1")}, To: dataplane.Selector{Prefix: netip.MustParsePrefix("203.0.113.0/24")}, Proto: header.ProtoTCP, Ports: conntrack.PortRange{First: 443, Last: 443}}
		pass := hit
		pass.ID, pass.Tier, pass.Deny, pass.Reason, pass.To.Prefix = 8, dataplane.TierAdmin, false, 0, netip.MustParsePrefix("203.0.113.10/32")
		l.Written = append(l.Written, hit, pass)
		l.Install()
		for dst, want := range map[string]dataplane.RuleID{World: 7, "203.0.113.10": 8, "203.0.114.1": 0} {
			a := dataplane.Asked{From: dataplane.SideContainer, FromNet: 1, FromPort: l.Port("c1"), To: dataplane.SideOutside,
				Tuple: header.Tuple{Src: header.AddrFrom(netip.MustParseAddr("10.1.0.11")), Dst: header.AddrFrom(netip.MustParseAddr(dst)), SrcPort: 5000, DstPort: 443, Proto: header.ProtoTCP}, Via: dataplane.ViaAddress}
			id, ok := l.Switch.Judge(&a)
			if want != 0 && id != want || ok == (want == 7) {
				t.Errorf("%s: to %s: %v by rule %d, want %d", kind, dst, ok, id, want)
			}
			if n := testing.AllocsPerRun(20, func() { l.Switch.Judge(&a) }); n != 0 {
				t.Errorf("%s: %v allocations for a question", kind, n)
			}
		}
	}
}

// BenchmarkManyRows asks about one flow that none of a container's rows is about.
func BenchmarkManyRows(b *testing.B) {
	for _, kind := range []string{"prefixes", "ports", "nested ports", "containers"} {
		for _, n := range []int{1, 100, 1000} {
			b.Run(fmt.Sprintf("%s/%d", kind, n), func(b *testing.B) {
				l := New(b)
				l.Written = manyRows(l, kind, n)
				l.Install()
				a := dataplane.Asked{From: dataplane.SideContainer, FromNet: 1, FromPort: l.Port("c1"), To: dataplane.SideOutside,
					Tuple: header.Tuple{Src: header.AddrFrom(netip.MustParseAddr("10.1.0.11")), Dst: header.AddrFrom(netip.MustParseAddr(World)), SrcPort: 5000, DstPort: 80, Proto: header.ProtoTCP}, Via: dataplane.ViaAddress}
				b.ReportAllocs()
				for b.Loop() {
					l.Switch.Judge(&a)
				}
			})
		}
	}
	for _, n := range []int{100, 1000} {
		b.Run(fmt.Sprintf("install/%d", n), func(b *testing.B) {
			l := New(b)
			l.Written = manyRows(l, "prefixes", n)
			for b.Loop() {
				l.Install()
			}
		})
	}
}
