package dataplane_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"github.com/vswitch/vswitch/control/policy"
	"github.com/vswitch/vswitch/dataplane"
	"github.com/vswitch/vswitch/dataplane/conntrack"
	"github.com/vswitch/vswitch/dataplane/frame"
	"github.com/vswitch/vswitch/dataplane/header"
	. "github.com/vswitch/vswitch/dataplane/switchtest"
)

// place is an end of a flow in the world of a Lab, with its names.
type place struct {
	side      dataplane.Side
	network   string
	container string
	label     string
	addr      string
}

var places = []place{
	{dataplane.SideContainer, "one", "c1", "app=web", "10.1.0.11"},
	{dataplane.SideContainer, "one", "c2", "app=db", "10.1.0.12"},
	{dataplane.SideContainer, "one", "c3", "app=web", "10.1.0.13"},
	{dataplane.SideContainer, "two", "c4", "app=db", "10.2.0.11"},
	{dataplane.SideHost, "one", "", "", "10.1.0.1"},
	{dataplane.SideOutside, "", "", "", World},
	{dataplane.SideOutside, "", "", "", "192.0.2.77"},
}

// resolved are the addresses of names.
var resolved = map[string][]string{
	"example.com": {World + "/32", "192.0.2.1/32"}, "feed": {"192.0.2.0/24", "10.2.0.0/16"},
}

var (
	ruleNetworks = map[string]frame.NetworkID{"one": 1, "two": 2}
	ruleLists    = map[string]dataplane.ListID{"example.com": 7, "feed": 8}
	ruleLabels   = map[string]dataplane.GroupID{"app=web": 10, "app=db": 11}
)

// ruled is a Lab with rules that somebody wrote, beside those of its networks.
func ruled(t *testing.T, rules []policy.Rule) *Lab {
	t.Helper()
	l := New(t)
	names := policy.Names{Networks: ruleNetworks, Containers: map[string][]frame.PortID{}, Labels: ruleLabels, Lists: ruleLists}
	for _, p := range places {
		if p.container == "" {
			continue
		}
		id := l.Port(p.container)
		names.Containers[p.container] = []frame.PortID{id}
		for i := range l.Config.Ports {
			if l.Config.Ports[i].ID == id {
				l.Config.Ports[i].Groups = []dataplane.GroupID{ruleLabels[p.label]}
			}
		}
	}
	rows, err := policy.CompileRules(rules, &names)
	if err != nil {
		t.Fatal(err)
	}
	l.Written = rows
	l.Install()
	l.Switch.SetLists(listsOf(resolved))
	return l
}

func listsOf(names map[string][]string) map[dataplane.ListID][]netip.Prefix {
	lists := make(map[dataplane.ListID][]netip.Prefix)
	for name, prefixes := range names {
		for _, p := range prefixes {
			lists[ruleLists[name]] = append(lists[ruleLists[name]], netip.MustParsePrefix(p))
		}
	}
	return lists
}

// names says by names alone whether a selector is about a place.
func selects(s *policy.Selector, p *place) bool {
	a := netip.MustParseAddr(p.addr)
	switch {
	case s.Host && s.Outside && p.side == dataplane.SideContainer,
		s.Host && !s.Outside && p.side != dataplane.SideHost, s.Outside && !s.Host && p.side != dataplane.SideOutside,
		s.Network != "" && (s.Network != p.network || p.side != dataplane.SideContainer),
		s.Container != "" && s.Container != p.container, s.Label != "" && s.Label != p.label,
		s.CIDR.IsValid() && !s.CIDR.Contains(a):
		return false
	}
	return s.Name == "" || slices.ContainsFunc(resolved[s.Name], func(x string) bool { return netip.MustParsePrefix(x).Contains(a) })
}

// naive says by the rules as they were written what may begin: tier by tier, denials
// first, and below them what holds between networks.
func naive(rules []policy.Rule, from, to *place, proto uint8, port uint16, via dataplane.Via) bool {
	side := func(d dataplane.Direction, of, with *place) (verdict, tier int) {
		for tier := dataplane.TierAdmin; tier <= dataplane.TierUser; tier++ {
			for _, deny := range []bool{true, false} {
				for _, r := range rules {
					if r.Tier == tier && r.Deny == deny && r.Direction == d && selects(&r.Of, of) && selects(&r.With, with) &&
						(r.Proto == 0 || r.Proto == proto) && (r.Ports == conntrack.PortRange{} || r.Ports.First <= port && port <= r.Ports.Last) {
						if deny {
							return -1, int(tier)
						}
						return 1, int(tier)
					}
				}
			}
		}
		return 0, 9
	}
	out, _ := side(dataplane.Out, from, to)
	in, _ := side(dataplane.In, to, from)
	if out == 0 && from.side != dataplane.SideOutside && to.side != dataplane.SideContainer {
		out = 1 // containers go out and reach the host
	}
	if in == 0 {
		switch {
		case to.side == dataplane.SideContainer && (via == dataplane.ViaPublished || from.network == to.network && from.side != dataplane.SideOutside):
			in = 1
		case from.side == dataplane.SideOutside, to.side == dataplane.SideContainer:
			in = -1
		}
	}
	return out >= 0 && in >= 0 && out+in > 0
}

// TestRulesOfAllKinds: rules with tiers, allow and deny, of both directions, by CIDR,
// port, container, label, network and resolved name compile, and the data path answers
// as one does who reads them.
func TestRulesOfAllKinds(t *testing.T) {
	rng := rand.New(rand.NewPCG(11, 28))
	selectors := []policy.Selector{
		{}, {Network: "one"}, {Network: "two"}, {Container: "c1"}, {Container: "c4"}, {Label: "app=web"}, {Label: "app=db", Network: "one"}, {Host: true},
		{Outside: true}, {Outside: true, CIDR: netip.MustParsePrefix("203.0.113.0/24")}, {CIDR: netip.MustParsePrefix("10.1.0.0/30")}, // the last one changes
		{CIDR: netip.MustParsePrefix("10.0.0.0/8")}, {Name: "example.com"}, {Name: "feed"}, {Host: true, Outside: true},
	}
	ports := []conntrack.PortRange{{}, {}, {First: 443, Last: 443}, {First: 80, Last: 1000}}
	verdicts := map[bool]int{}
	for round := range 150 {
		var rules []policy.Rule
		count := rng.IntN(7)
		if round%15 == 14 {
			count = 20 + rng.IntN(300) // found by an index
		}
		for n := range count {
			if first := uint16(rng.IntN(1200)); n >= 7 {
				ports[3] = conntrack.PortRange{First: first, Last: first + uint16(rng.IntN(100))}
				prefix, _ := netip.AddrFrom4([4]byte{byte(10 + 193*rng.IntN(2)), byte(rng.IntN(3)), byte(113 * rng.IntN(2)), byte(9 + rng.IntN(5))}).Prefix(8 + rng.IntN(25))
				selectors[10].CIDR = prefix
			}
			rules = append(rules, policy.Rule{
				Number: uint32(n + 1), Tier: dataplane.Tier(rng.IntN(2)), Direction: dataplane.Direction(rng.IntN(2)), Deny: rng.IntN(2) == 0,
				Of: selectors[rng.IntN(len(selectors))], With: selectors[rng.IntN(len(selectors))],
				Proto: []uint8{0, header.ProtoTCP, header.ProtoUDP}[rng.IntN(3)], Ports: ports[rng.IntN(len(ports))],
			})
		}
		l := ruled(t, rules)
		for range 200 {
			from, to := places[rng.IntN(len(places))], places[rng.IntN(len(places))]
			if from.addr == to.addr {
				continue
			}
			proto, port := []uint8{header.ProtoTCP, header.ProtoUDP}[rng.IntN(2)], []uint16{22, 80, 443, 1001}[rng.IntN(4)]
			via := []dataplane.Via{dataplane.ViaAddress, dataplane.ViaPublished}[rng.IntN(2)]
			if to.side != dataplane.SideContainer {
				via = dataplane.ViaAddress
			}
			want := naive(rules, &from, &to, proto, port, via)
			verdicts[want]++
			a := dataplane.Asked{
				From: from.side, To: to.side, FromNet: ruleNetworks[from.network], ToNet: ruleNetworks[to.network], FromPort: l.Port(from.container), ToPort: l.Port(to.container),
				Tuple: header.Tuple{Src: header.AddrFrom(netip.MustParseAddr(from.addr)), Dst: header.AddrFrom(netip.MustParseAddr(to.addr)), SrcPort: 5000, DstPort: port, Proto: proto}, Via: via,
			}
			if id, ok := l.Switch.Judge(&a); ok != want {
				t.Fatalf("round %d: %+v to %+v, %d port %d via %d: %v by rule %#x, want %v; rules:\n%s", round, from, to, proto, port, via, ok, uint32(id), want, listed(rules))
			}
		}
	}
	if verdicts[true] < 1000 || verdicts[false] < 1000 {
		t.Errorf("%v: too few of one kind", verdicts)
	}
}

func listed(rules []policy.Rule) (s string) {
	for _, r := range rules {
		s += fmt.Sprintf("%+v\n", r)
	}
	return s
}

// What the rules say is what frames meet: a container may reach one name only, by one
// port, and a neighbour may not come in.
func TestRulesOnTheWay(t *testing.T) {
	l := ruled(t, []policy.Rule{
		{Number: 1, Tier: dataplane.TierUser, Direction: dataplane.Out, Of: policy.Selector{Label: "app=db"}, With: policy.Selector{Name: "example.com"}, Ports: conntrack.PortRange{First: 443, Last: 443}},
		{Number: 2, Tier: dataplane.TierNetwork, Direction: dataplane.Out, Deny: true, Of: policy.Selector{Label: "app=db"}, With: policy.Selector{Outside: true}},
		{Number: 3, Tier: dataplane.TierAdmin, Direction: dataplane.In, Deny: true, Of: policy.Selector{Container: "c2"}, With: policy.Selector{Container: "c1"}},
	})
	l.Send("c2", TCP("c2", 5000, World+":443", SYN, ""))
	out := See(t, l.Expect("up"))
	l.Send("c2", TCP("c2", 5001, World+":80", SYN, ""))
	l.Got("c2")
	l.ExpectDrop("c2", dataplane.DropIsolated, 1)
	l.Send("c1", l2(MAC("c2"), MAC("c1"), "x"))
	l.ExpectDrop("c1", dataplane.DropIsolatedPort, 1)
	l.Send("c2", l2(MAC("c1"), MAC("c2"), "x"))
	l.Expect("c1")
	// The name has another address: the flow to the old one ends, and one to the new one
	// may begin.
	l.Switch.SetLists(listsOf(map[string][]string{"example.com": {"192.0.2.9/32"}}))
	l.Send("up", Inbound(header.ProtoTCP, World+":443", out.From(), SYN|ACK, ""))
	l.ExpectNothing()
	l.Send("c2", TCP("c2", 5000, World+":443", SYN, ""))
	l.Got("c2")
	l.ExpectDrop("c2", dataplane.DropIsolated, 2)
	l.Send("c2", TCP("c2", 5000, "192.0.2.9:443", SYN, ""))
	l.Expect("up")
}

// A CompileRules that cannot mean what was written says which rule it is.
func TestRulesThatMeanNothing(t *testing.T) {
	for _, r := range []policy.Rule{
		{}, {Number: 1 << 31}, {Number: 1, Direction: dataplane.Keep}, {Number: 1, Of: policy.Selector{Name: "nobody"}},
		{Number: 1, With: policy.Selector{Container: "c1", Outside: true}},
	} {
		if rows, err := policy.CompileRules([]policy.Rule{r}, &policy.Names{}); err == nil {
			t.Errorf("%+v became %+v", r, rows)
		}
	}
	if rows, err := policy.CompileRules([]policy.Rule{{Number: 1, Of: policy.Selector{Container: "gone"}}}, &policy.Names{}); err != nil || len(rows) != 0 {
		t.Errorf("a rule about nobody: %v, %v", rows, err)
	}
}
