package dataplane_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"

	"github.com/vswitch/vswitch/control/policy"
	"github.com/vswitch/vswitch/dataplane"
	"github.com/vswitch/vswitch/dataplane/conntrack"
	"github.com/vswitch/vswitch/dataplane/frame"
	"github.com/vswitch/vswitch/dataplane/header"
	. "github.com/vswitch/vswitch/dataplane/switchtest"
)

// TestRulesOnBridgedFrames: rules of all kinds hold for what two containers of a network,
// or a container and its host, send each other at layer 2, and answers pass.
func TestRulesOnBridgedFrames(t *testing.T) {
	rng := rand.New(rand.NewPCG(13, 12))
	selectors := []policy.Selector{
		{}, {Network: "one"}, {Container: "c1"}, {Container: "c2"}, {Label: "app=web"}, {Label: "app=db", Network: "one"}, {Host: true},
		{CIDR: netip.MustParsePrefix("10.1.0.11/32")}, {CIDR: netip.MustParsePrefix("10.1.0.12/31")}, {Name: "feed"},
	}
	ports := []conntrack.PortRange{{}, {}, {First: 443, Last: 443}, {First: 80, Last: 1000}}
	here := []place{places[0], places[1], places[2], places[4]} // c1, c2, c3, host1
	stations := []string{"c1", "c2", "c3", "host1"}
	verdicts := map[bool]int{}
	for round := range 120 {
		var rules []policy.Rule
		for n := range 1 + rng.IntN(5) {
			rules = append(rules, policy.Rule{
				Number: uint32(n + 1), Tier: dataplane.Tier(rng.IntN(2)), Direction: dataplane.Direction(rng.IntN(2)), Deny: rng.IntN(3) > 0,
				Of: selectors[rng.IntN(len(selectors))], With: selectors[rng.IntN(len(selectors))],
				Proto: []uint8{0, header.ProtoTCP, header.ProtoUDP}[rng.IntN(3)], Ports: ports[rng.IntN(len(ports))],
			})
		}
		l := ruled(t, rules)
		for range 60 {
			i, j := rng.IntN(len(here)), rng.IntN(len(here))
			if i == j {
				continue
			}
			proto, port, sport := []uint8{header.ProtoTCP, header.ProtoUDP}[rng.IntN(2)], []uint16{22, 80, 443, 1001}[rng.IntN(4)], uint16(2000+rng.IntN(30000))
			want := naive(rules, &here[i], &here[j], proto, port, dataplane.ViaAddress)
			verdicts[want]++
			p := Packet{
				EthSrc: MAC(stations[i]), EthDst: MAC(stations[j]), Src: fmt.Sprintf("%s:%d", here[i].addr, sport), Dst: fmt.Sprintf("%s:%d", here[j].addr, port),
				Proto: proto, Flags: SYN, Seq: 100, Payload: opening(proto),
			}
			l.Send(stations[i], Bytes(p))
			got := len(l.Got(stations[j])) == 1
			if got != want {
				t.Fatalf("round %d: %s to %s, %d port %d passes: %v, want %v; rules:\n%s%s", round, stations[i], stations[j], proto, port, got, want, listed(rules), l.Drops())
			}
			p.EthSrc, p.EthDst, p.Src, p.Dst, p.Flags, p.Seq, p.Ack = p.EthDst, p.EthSrc, p.Dst, p.Src, SYN|ACK, 500, 101
			if stations[i] != "host1" && stations[j] != "host1" {
				l.Got(stations[i])
			}
			l.Send(stations[j], Bytes(p))
			if got := len(l.Got(stations[i])); want && got != 1 {
				t.Fatalf("round %d: the answer of %s to %s, %d port %d, did not come; rules:\n%s%s", round, stations[j], stations[i], proto, port, listed(rules), l.Drops())
			}
			for _, s := range everybody {
				l.Got(s)
			}
			l.Switch.FlushConns(conntrack.Selector{})
		}
	}
	if verdicts[true] < 500 || verdicts[false] < 500 {
		t.Errorf("%v: too few of one kind", verdicts)
	}
}

// Rules about some containers say nothing of the rest of their network: broadcasts of
// those reach the host, of others not.
func TestRulesOnFloodedFrames(t *testing.T) {
	all := func(from, dst string) []byte {
		return Bytes(Packet{EthSrc: MAC(from), EthDst: header.Broadcast, Src: Stations[from] + ":137", Dst: dst, Proto: header.ProtoUDP, Payload: []byte("x")})
	}
	heard := func(l *Lab, from, dst string) string {
		l.Send(from, all(from, dst))
		s := ""
		for _, at := range everybody {
			if len(l.Got(at)) > 0 {
				s += at + " "
			}
		}
		return s
	}
	for _, tc := range []struct {
		name string
		rule policy.Rule
		want map[string]string // from and destination, who hears it
	}{
		{"label", policy.Rule{Direction: dataplane.Out, Of: policy.Selector{Label: "app=web"}, With: policy.Selector{Host: true}}, map[string]string{
			"c1 10.1.0.255:137": "c2 c3 ", "c2 10.1.0.255:137": "c1 c3 host1 ", "c3 10.1.0.255:137": "c1 c2 "}},
		{"container, port", policy.Rule{Direction: dataplane.Out, Of: policy.Selector{Container: "c2"}, With: policy.Selector{Host: true}, Ports: conntrack.PortRange{First: 137, Last: 137}}, map[string]string{
			"c1 10.1.0.255:137": "c2 c3 host1 ", "c2 10.1.0.255:137": "c1 c3 ", "c2 10.1.0.255:138": "c1 c3 host1 "}},
		{"who may come to the host", policy.Rule{Direction: dataplane.In, Of: policy.Selector{Host: true}, With: policy.Selector{Label: "app=db"}}, map[string]string{
			"c1 10.1.0.255:137": "c2 c3 host1 ", "c2 10.1.0.255:137": "c1 c3 "}},
		{"between two, port", policy.Rule{Direction: dataplane.In, Of: policy.Selector{Container: "c3"}, With: policy.Selector{Container: "c1"}, Proto: header.ProtoUDP, Ports: conntrack.PortRange{First: 137, Last: 137}}, map[string]string{
			"c1 10.1.0.255:137": "c2 host1 ", "c1 10.1.0.255:138": "c2 c3 host1 ", "c2 10.1.0.255:137": "c1 c3 host1 "}},
		{"by address", policy.Rule{Direction: dataplane.Out, Of: policy.Selector{CIDR: netip.MustParsePrefix("10.1.0.11/32")}}, map[string]string{
			"c1 10.1.0.255:137": "", "c2 10.1.0.255:137": "c1 c3 host1 "}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tc.rule.Number, tc.rule.Deny, tc.rule.Tier = 1, true, dataplane.TierUser
			l := ruled(t, []policy.Rule{tc.rule})
			for way, want := range tc.want {
				if got := heard(l, way[:2], way[3:]); got != want {
					t.Errorf("%s: heard by %q, want %q", way, got, want)
				}
			}
		})
	}
	t.Run("who may come to the host, unicast", func(t *testing.T) {
		l := ruled(t, []policy.Rule{{Number: 1, Tier: dataplane.TierUser, Direction: dataplane.In, Deny: true, Of: policy.Selector{Host: true}, With: policy.Selector{Label: "app=db"}}})
		l.Send("c2", UDP("c2", 5000, "10.1.0.1:53", "x"))
		if len(l.Got("host1")) != 0 {
			t.Error("the row was not asked")
		}
		l.Got("c2")
		l.Send("c1", UDP("c1", 5000, "10.1.0.1:53", "x"))
		l.Expect("host1")
	})
}

// Who has no such rows pays nothing: frames between others are bridged as they are.
func TestRulesElsewhereRouteNothing(t *testing.T) {
	l := ruled(t, []policy.Rule{
		{Number: 1, Tier: dataplane.TierUser, Direction: dataplane.In, Deny: true, Of: policy.Selector{Container: "c3"}, Proto: header.ProtoTCP},
		{Number: 2, Tier: dataplane.TierUser, Direction: dataplane.Out, Deny: true, Of: policy.Selector{Network: "one"}, With: policy.Selector{CIDR: netip.MustParsePrefix("203.0.113.0/24")}},
		{Number: 3, Tier: dataplane.TierUser, Direction: dataplane.Out, Deny: true, Of: policy.Selector{Network: "one"}, With: policy.Selector{Network: "two"}, Proto: header.ProtoTCP},
	})
	p := Bytes(Packet{EthSrc: MAC("c1"), EthDst: MAC("c2"), Src: "10.1.0.11:5000", Dst: "10.1.0.12:80", Proto: header.ProtoTCP, Flags: SYN})
	l.SendOffload("c1", p, frame.Offload{})
	if got := l.Expect("c2"); string(got) != string(p) {
		t.Errorf("arrived as %s", Describe(got))
	}
	if n := len(l.Switch.Conns()); n != 0 {
		t.Errorf("%d flows are tracked, want none", n)
	}
}
