package policy

import (
	"net/netip"
	"reflect"
	"strings"
	"testing"

	"github.com/vswitch/vswitch/dataplane"
	"github.com/vswitch/vswitch/dataplane/conntrack"
	"github.com/vswitch/vswitch/dataplane/frame"
	"github.com/vswitch/vswitch/dataplane/header"
)

// now is what names mean in these tests: shop has two interfaces.
var now = Names{
	Networks:   map[string]frame.NetworkID{"front": 1, "back": 2},
	Containers: map[string][]frame.PortID{"shop": {11, 12}, "db": {21}},
	Labels:     map[string]dataplane.GroupID{"app=web": 7},
	Lists:      map[string]dataplane.ListID{"example.com": 9},
}

var (
	office = netip.MustParsePrefix("192.0.2.0/24")
	site6  = netip.MustParsePrefix("2001:db8::/32")
	web    = conntrack.PortRange{First: 443, Last: 443}
)

// TestCompileRules: each way to name an end becomes a selector, and whose the rule is says
// which end is which.
func TestCompileRules(t *testing.T) {
	everybody, host := dataplane.Selector{}, dataplane.Selector{Sides: dataplane.SideHost}
	port := func(id frame.PortID) dataplane.Selector {
		return dataplane.Selector{Sides: dataplane.SideContainer, OfPort: true, Port: id}
	}
	row := func(r dataplane.Rule) dataplane.Rule {
		r.ID = written | 5
		if r.Deny {
			r.Reason = dataplane.DropIsolated
		}
		return r
	}
	tests := []struct {
		name string
		rule Rule
		want []dataplane.Rule
	}{
		{"everything", Rule{}, []dataplane.Rule{row(dataplane.Rule{From: everybody, To: everybody})}},
		{
			"a tier, a denial, a CIDR", Rule{Tier: dataplane.TierUser, Deny: true, With: Selector{Outside: true, CIDR: office}},
			[]dataplane.Rule{row(dataplane.Rule{Tier: dataplane.TierUser, Deny: true, To: dataplane.Selector{Sides: dataplane.SideOutside, Prefix: office}})},
		},
		{
			"IPv6 in the other direction", Rule{Direction: dataplane.In, Deny: true, Of: Selector{Container: "db"}, With: Selector{CIDR: site6}},
			[]dataplane.Rule{row(dataplane.Rule{Direction: dataplane.In, Deny: true, From: dataplane.Selector{Prefix: site6}, To: port(21)})},
		},
		{
			"protocol and port", Rule{Of: Selector{Container: "db"}, With: Selector{Host: true}, Proto: header.ProtoTCP, Ports: web},
			[]dataplane.Rule{row(dataplane.Rule{From: port(21), To: host, Proto: header.ProtoTCP, Ports: web})},
		},
		{
			"a container of two networks has a row for each interface", Rule{Direction: dataplane.In, Of: Selector{Container: "shop"}, With: Selector{Container: "db"}},
			[]dataplane.Rule{
				row(dataplane.Rule{Direction: dataplane.In, From: port(21), To: port(11)}),
				row(dataplane.Rule{Direction: dataplane.In, From: port(21), To: port(12)}),
			},
		},
		{
			"a label in a network", Rule{Of: Selector{Label: "app=web", Network: "back"}, With: Selector{Network: "front"}},
			[]dataplane.Rule{row(dataplane.Rule{
				From: dataplane.Selector{Sides: dataplane.SideContainer, Network: 2, Group: 7}, To: dataplane.Selector{Sides: dataplane.SideContainer, Network: 1},
			})},
		},
		{
			"a name of DNS", Rule{Of: Selector{Label: "app=web"}, With: Selector{Name: "example.com", Outside: true}},
			[]dataplane.Rule{row(dataplane.Rule{
				From: dataplane.Selector{Sides: dataplane.SideContainer, Group: 7}, To: dataplane.Selector{Sides: dataplane.SideOutside, List: 9},
			})},
		},
		{
			"the host and outside", Rule{Direction: dataplane.In, Of: Selector{Network: "front"}, With: Selector{Host: true, Outside: true}},
			[]dataplane.Rule{row(dataplane.Rule{
				Direction: dataplane.In, From: dataplane.Selector{Sides: dataplane.SideHost | dataplane.SideOutside}, To: dataplane.Selector{Sides: dataplane.SideContainer, Network: 1},
			})},
		},
		{"a container that is gone", Rule{Of: Selector{Container: "gone"}}, nil},
		{"a network that is gone", Rule{With: Selector{Network: "gone"}}, nil},
		{"a label that nobody bears", Rule{With: Selector{Label: "app=gone"}}, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tt.rule.Number = 5
			got, err := CompileRules([]Rule{tt.rule}, &now)
			if err != nil || !reflect.DeepEqual(got, tt.want) {
				t.Errorf("%+v, %v\nwant %+v", got, err, tt.want)
			}
		})
	}
}

// TestCompileRulesRefuses: a rule that cannot be meant names itself and its fault.
func TestCompileRulesRefuses(t *testing.T) {
	for _, tt := range []struct {
		rule Rule
		says string
	}{
		{Rule{}, "rule 0: the number"},
		{Rule{Number: 1 << 31}, "rule 2147483648: the number"},
		{Rule{Number: 3, Direction: dataplane.Keep}, "rule 3: it is neither"},
		{Rule{Number: 4, Of: Selector{Name: "unknown.example"}}, `rule 4: name "unknown.example"`},
		{Rule{Number: 6, With: Selector{Container: "db", Outside: true}}, `rule 6: container "db"`},
		{Rule{Number: 7, With: Selector{Label: "app=web", Host: true}}, `rule 7: container "", label "app=web"`},
	} {
		if rows, err := CompileRules([]Rule{{Number: 1}, tt.rule}, &now); err == nil || !strings.HasPrefix(err.Error(), tt.says) || rows != nil {
			t.Errorf("%+v: %v, %v, want an error that begins with %q", tt.rule, rows, err, tt.says)
		}
	}
}

// TestRulesDependOnNoOther: a rule's rows are the same whatever is written beside it.
// Entries of carried flows bear the number.
func TestRulesDependOnNoOther(t *testing.T) {
	mine := Rule{Number: 40, Of: Selector{Container: "shop"}, With: Selector{CIDR: office}}
	alone, err := CompileRules([]Rule{mine}, &now)
	if err != nil {
		t.Fatal(err)
	}
	beside, err := CompileRules([]Rule{{Number: 2, Deny: true}, mine, {Number: 3}}, &now)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(beside[1:3], alone) {
		t.Errorf("%+v beside others, %+v alone", beside, alone)
	}
}
