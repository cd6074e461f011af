package policy

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/vswitch/vswitch/dataplane"
	"github.com/vswitch/vswitch/dataplane/conntrack"
	"github.com/vswitch/vswitch/dataplane/frame"
	"github.com/vswitch/vswitch/dataplane/header"
)

func nameOf(n frame.NetworkID) string { return map[frame.NetworkID]string{1: "front", 2: "back"}[n] }

// said are the rules of rows in words, each once, in the order of the words.
func said(rows []dataplane.Rule) []string {
	var list []string
	for _, r := range rows {
		list = append(list, Describe(r.ID, nameOf, func(uint32) string { return "" }))
	}
	slices.Sort(list)
	return slices.Compact(list)
}

// TestCompileNetworks: each word of how a network was made is a row of its own, and the
// networks beside it have none of it.
func TestCompileNetworks(t *testing.T) {
	cfg := &dataplane.SnapshotConfig{
		Networks: []dataplane.NetworkConfig{{ID: 1}, {ID: 2}},
		Stations: []dataplane.StationConfig{{Addr: netip.MustParseAddr("10.1.0.2"), Network: 1, Port: 11}},
		Publish: []dataplane.PublishConfig{{
			Proto: header.ProtoTCP, ContainerAddr: header.AddrFrom(netip.MustParseAddr("10.1.0.2")), HostFirst: 8000, HostLast: 8009, ContainerFirst: 80,
		}},
	}
	plain := said(Compile(cfg, nil))
	for _, tt := range []struct {
		name string
		n    Network
		adds []string
	}{
		{"nothing", Network{}, nil},
		{"icc", Network{Isolated: true}, []string{"--icc=false"}},
		{"internal", Network{Internal: true}, []string{"--internal"}},
		{"host access", Network{NoHostAccess: true}, []string{"--host-access=false"}},
		{"eif", Network{Filter: FilterEIF}, []string{"--nat-filter eif"}},
		{"isolated", Network{Modes: [2]GatewayMode{GatewayIsolated, GatewayNAT}}, []string{"mode isolated"}},
		{"exempt", Network{Exempt: []netip.Prefix{office}}, []string{"--exempt"}},
		{
			"routed", Network{Modes: [2]GatewayMode{GatewayRouted, GatewayNAT}},
			[]string{"ICMP queries may come in", "its containers' own addresses", "open at the container's own address"},
		},
		{"routed, of the other family", Network{Modes: [2]GatewayMode{GatewayNAT, GatewayRouted}}, []string{"ICMP queries may come in", "its containers' own addresses"}},
		{"routed and internal", Network{Internal: true, Modes: [2]GatewayMode{GatewayRouted, GatewayNAT}}, []string{"--internal", "its containers' own addresses"}},
	} {
		tt.n.ID = 1
		added := slices.DeleteFunc(said(Compile(cfg, []Network{tt.n})), func(s string) bool { return slices.Contains(plain, s) })
		if len(added) != len(tt.adds) {
			t.Errorf("%s adds %q, want %q", tt.name, added, tt.adds)
			continue
		}
		for _, want := range tt.adds {
			if !slices.ContainsFunc(added, func(s string) bool { return strings.HasPrefix(s, "network front: ") && strings.Contains(s, want) }) {
				t.Errorf("%s adds %q, want %q of network front", tt.name, added, want)
			}
		}
	}
	if rows := Compile(cfg, []Network{{ID: 3, Internal: true}}); !slices.Equal(said(rows), plain) {
		t.Errorf("a network that is not in the snapshot has rows: %q", said(rows))
	}
}

// TestDirectPorts: in a routed network the outside reaches a published port at the
// container's own address and port, and no other.
func TestDirectPorts(t *testing.T) {
	addr := netip.MustParseAddr("2001:db8:1::2")
	cfg := &dataplane.SnapshotConfig{
		Networks: []dataplane.NetworkConfig{{ID: 1}},
		Stations: []dataplane.StationConfig{{Addr: addr, Network: 1, Port: 11}},
		Publish: []dataplane.PublishConfig{{
			Proto: header.ProtoUDP, ContainerAddr: header.AddrFrom(addr), HostFirst: 8000, HostLast: 8009, ContainerFirst: 80,
		}},
	}
	rows := Compile(cfg, []Network{{ID: 1, Modes: [2]GatewayMode{GatewayNAT, GatewayRouted}}})
	rows = slices.DeleteFunc(rows, func(r dataplane.Rule) bool { return r.ID != ofNetwork(1, direct) })
	want := dataplane.Rule{
		ID: ofNetwork(1, direct), Tier: dataplane.TierNetwork, Direction: dataplane.In, From: dataplane.Selector{Sides: dataplane.SideOutside},
		To:  dataplane.Selector{Sides: dataplane.SideContainer, OfPort: true, Port: 11, Prefix: netip.PrefixFrom(addr, 128)},
		Via: dataplane.ViaAddress, Proto: header.ProtoUDP, Ports: conntrack.PortRange{First: 80, Last: 89},
	}
	if len(rows) != 1 || rows[0] != want {
		t.Errorf("%+v, want %+v", rows, want)
	}
}

// TestIsolatedPorts: a port that was isolated by itself refuses the isolated ones of its
// network.
func TestIsolatedPorts(t *testing.T) {
	cfg := &dataplane.SnapshotConfig{
		Networks: []dataplane.NetworkConfig{{ID: 1}},
		Ports:    []dataplane.PortConfig{{ID: 11, Network: 1, Groups: []dataplane.GroupID{Isolated}}, {ID: 12, Network: 1, Groups: []dataplane.GroupID{7}}},
	}
	var of []frame.PortID
	for _, r := range Compile(cfg, nil) {
		if r.Deny && r.To.OfPort {
			of = append(of, r.To.Port)
			if r.From.Group != Isolated || r.To.Group != Isolated || r.From.OfPort {
				t.Errorf("%+v", r)
			}
		}
	}
	if !slices.Equal(of, []frame.PortID{11}) {
		t.Errorf("ports %d refuse others, want 11", of)
	}
}

// TestDescribe: a number is told in words, also when what it is of is gone.
func TestDescribe(t *testing.T) {
	rules := func(n uint32) string { return map[uint32]string{5: "no-telnet"}[n] }
	for _, tt := range []struct {
		id   dataplane.RuleID
		want string
	}{
		{0, ""},
		{ofNetwork(1, internal), "network front: it has no way out (--internal)"},
		{ofNetwork(3, internal), "network that is gone: it has no way out (--internal)"},
		{ofNetwork(0, published), "a published port is open to everybody"},
		{ofNetwork(1, kind(len(words))), ""},
		{written | 5, "rule no-telnet"},
		{written | 6, ""},
	} {
		if got := Describe(tt.id, nameOf, rules); got != tt.want {
			t.Errorf("%#x: %q, want %q", uint32(tt.id), got, tt.want)
		}
	}
	for k := inNetwork; int(k) < len(words); k++ {
		if words[k] == "" {
			t.Errorf("kind %d has no words", k)
		}
	}
}
