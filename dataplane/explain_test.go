package dataplane_test

import (
	"bytes"
	"cmp"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/vswitch/vswitch/dataplane"
	"github.com/vswitch/vswitch/dataplane/conntrack"
	"github.com/vswitch/vswitch/dataplane/fdb"
	"github.com/vswitch/vswitch/dataplane/frame"
	"github.com/vswitch/vswitch/dataplane/header"
	. "github.com/vswitch/vswitch/dataplane/switchtest"
)

// everything is all that a switch shows of itself.
func everything(l *Lab) map[string]any {
	stations := l.Switch.FDB()
	slices.SortFunc(stations, func(a, b fdb.Entry) int {
		return cmp.Or(cmp.Compare(a.Network, b.Network), bytes.Compare(a.MAC[:], b.MAC[:]))
	})
	flows := l.Switch.Flows()
	slices.SortFunc(flows, func(a, b conntrack.Info) int { return cmp.Compare(fmt.Sprint(a.Orig), fmt.Sprint(b.Orig)) })
	claimed := map[int]uint64{}
	for i, word := range l.Claims {
		if word != 0 {
			claimed[i] = word
		}
	}
	return map[string]any{"stats": l.Switch.Stats(), "fdb": stations, "flows": flows, "claims": claimed, "drops": l.Switch.LastDrops(nil)}
}

// busyLab is a switch with flows, stations, a published port and a group.
func busyLab(t *testing.T, guarded bool) *Lab {
	l := New(t)
	if guarded {
		l.Guard()
	}
	l.Publish(8080, "c1", 80)
	l.Send("c1", TCP("c1", 5001, web, SYN, ""))
	l.Send("c2", UDP("c2", 5000, web, "x"))
	l.Send("up", Inbound(header.ProtoTCP, World+":4000", HostAddr+":8080", SYN, ""))
	l.Send("c3", l2(header.Broadcast, stranger, "learn me"))
	forgetSent(l)
	return l
}

// What Explain says of a frame is what then happens to it, and saying it changes
// nothing.
func TestExplainIsTheTruthAndLeavesNoTrace(t *testing.T) {
	kinds := map[string]int{}
	for _, guarded := range []bool{false, true} {
		for _, from := range ingress {
			corpus := Corpus(from)
			corpus = append(corpus,
				Named{Name: "to another container", Frame: Bytes(Packet{EthSrc: MAC(from), EthDst: MAC("c3"), Src: Stations[from] + ":1", Dst: "10.1.0.13:2", Proto: header.ProtoUDP})},
				Named{Name: "to a stranger", Frame: l2(stranger, MAC(from), "are you there")},
				Named{Name: "to nobody", Frame: l2(header.MAC{2, 0xbb, 0, 0, 0, 1}, MAC(from), "are you there")},
				Named{Name: "spoofed", Frame: l2(MAC("c3"), MAC("c2"), "I am c2")},
				Named{Name: "a living flow", Frame: TCP("c1", 5001, web, SYN, "")},
				Named{Name: "to the other network", Frame: UDP("c1", 5000, "10.2.0.11:53", "x")},
				Named{Name: "hairpin", Frame: UDP("c1", 5000, HostAddr+":8080", "x")},
				Named{Name: "for the host", Frame: UDP("c1", 5000, "10.1.0.1:53", "x")},
				Named{Name: "without a route", Frame: UDP("c1", 5000, "10.1.0.99:53", "x")},
			)
			l := busyLab(t, guarded)
			for _, n := range corpus {
				l.Advance(3 * time.Second) // deferred fragments are not in the dry run
				before := everything(l)
				ex, err := l.Switch.Explain(l.Port(from), n.Frame)
				if err != nil {
					t.Fatal(err)
				}
				if d := gocmp.Diff(before, everything(l)); d != "" {
					t.Fatalf("%s from %s: explaining it changed (-before +after):\n%s", n.Name, from, d)
				}
				l.ExpectNothing()
				wasDropped := l.Switch.Stats().Drops
				l.Memory(from).Inject(bytes.Clone(n.Frame), frame.Offload{})
				for l.Switch.Step() > 0 {
				}
				reason := dataplane.NotDropped
				for r, n := range l.Switch.Stats().Drops {
					if n > wasDropped[r] {
						reason = dataplane.DropReason(r)
					}
				}
				if len(n.Frame) >= header.EthernetLen && ex.Reason != reason {
					t.Errorf("%s from %s (guarded %v): said %s, was %s: %+v", n.Name, from, guarded, ex.Reason, reason, ex.Steps)
				}
				var out []frame.PortID
				for name := range Stations {
					got := l.Got(name)
					if len(got) == 0 || reason != dataplane.NotDropped {
						continue
					}
					out = append(out, l.Port(name))
					if len(ex.Out) > 0 && (ex.Out[0] == l.Port(name) && len(ex.Out) == 1) && !sameButID(ex.Sent, got[0]) {
						t.Errorf("%s from %s: said to leave as\n%s\nleft as\n%s", n.Name, from, Describe(ex.Sent), Describe(got[0]))
					}
				}
				slices.Sort(out)
				if !slices.Equal(out, ex.Out) {
					t.Errorf("%s from %s (guarded %v): said to leave by %v, left by %v: %+v", n.Name, from, guarded, ex.Out, out, ex.Steps)
				}
				for _, s := range ex.Steps {
					kinds[fmt.Sprint(s.Kind)]++
				}
			}
		}
	}
	if len(kinds) < 14 {
		t.Errorf("the corpus shows %d kinds of steps: %v", len(kinds), kinds)
	}
}

// sameButID compares two frames but for the IPv4 identification, which is drawn.
func sameButID(a, b []byte) bool {
	a, b = bytes.Clone(a), bytes.Clone(b)
	for _, f := range [][]byte{a, b} {
		if len(f) > 26 && f[12] == 8 && f[13] == 0 {
			copy(f[18:20], "\x00\x00")
			copy(f[24:26], "\x00\x00")
		}
	}
	return bytes.Equal(a, b)
}

// An explained frame waits for no neighbour, asks for none and is not sent when
// one appears.
func TestExplainAsksNobody(t *testing.T) {
	l := New(t)
	l.Neighbor("198.51.100.77", NextHopMAC)
	ex, err := l.Switch.Explain(l.Port("c1"), UDP("c1", 5000, web, "x"))
	if err != nil {
		t.Fatal(err)
	}
	last := ex.Steps[len(ex.Steps)-1]
	if last.Kind != dataplane.StepWaits || last.Via.String() != NextHop || last.Port != l.Port("up") || ex.Reason != dataplane.NotDropped {
		t.Errorf("steps %+v", ex.Steps)
	}
	l.Neighbor(NextHop, NextHopMAC)
	l.Advance(time.Second)
	for l.Switch.Step() > 0 {
	}
	l.ExpectNothing()
}

// The entry that decides is named.
func TestExplainNamesTheEntry(t *testing.T) {
	l := busyLab(t, true)
	find := func(from string, f []byte, k dataplane.StepKind) dataplane.Step {
		t.Helper()
		ex, err := l.Switch.Explain(l.Port(from), f)
		if err != nil {
			t.Fatal(err)
		}
		i := slices.IndexFunc(ex.Steps, func(s dataplane.Step) bool { return s.Kind == k })
		if i < 0 {
			t.Fatalf("no step %d in %+v", k, ex.Steps)
		}
		return ex.Steps[i]
	}
	out := UDP("c1", 7777, web, "x")
	if s := find("c1", out, dataplane.StepRoute); s.Prefix.String() != "0.0.0.0/0" || s.Via.String() != NextHop || s.Port != l.Port("up") {
		t.Errorf("route %+v", s)
	}
	if s := find("c1", out, dataplane.StepNeighbor); s.MAC != NextHopMAC {
		t.Errorf("neighbour %+v", s)
	}
	if s := find("c1", out, dataplane.StepTranslated); s.To.Src.String() != HostAddr || s.From.SrcPort != 7777 {
		t.Errorf("translation %+v", s)
	}
	if s := find("up", Inbound(header.ProtoUDP, World+":9", HostAddr+":8080", 0, "x"), dataplane.StepPublished); s.Publish.HostFirst != 8080 || s.Publish.ContainerFirst != 80 || s.To.Dst.String() != Stations["c1"] {
		t.Errorf("published %+v", s)
	}
	if s := find("c1", TCP("c1", 5001, web, SYN, ""), dataplane.StepTracked); s.State != "init" || s.Conn != conntrack.KindMasquerade {
		t.Errorf("flow %+v", s)
	}
	if s := find("c1", onLink("c1", "c2", Packet{Src: "10.1.0.11:1", Dst: "10.1.0.12:2", Proto: header.ProtoUDP}), dataplane.StepBridged); s.Port != l.Port("c2") || !s.Static {
		t.Errorf("FDB %+v", s)
	}
	if s := find("c1", WhoHas("c1", "10.1.0.12"), dataplane.StepAnswered); s.MAC != MAC("c2") {
		t.Errorf("answer %+v", s)
	}
}

func TestExplainOfNoPort(t *testing.T) {
	l := New(t)
	if _, err := l.Switch.Explain(4000, UDP("c1", 1, web, "")); err == nil {
		t.Error("a port that is not there")
	}
	if _, err := l.Switch.Explain(l.Port("c1"), []byte{1, 2, 3}); err == nil {
		t.Error("three bytes")
	}
}

// A full table, and a quota that is used up, show in the explanation.
func TestExplainOfLimits(t *testing.T) {
	l := NewSized(t, 8, nil)
	for i := range 8 {
		from := []string{"c1", "c2"}[i%2]
		f := UDP(from, uint16(6000+i), web, "x")
		l.Send(from, f)
		if got := l.Got("up"); len(got) == 1 {
			l.Send("up", Inbound(header.ProtoUDP, web, See(t, got[0]).From(), 0, "y"))
		}
		l.Advance(3 * time.Second)
		l.Send(from, f)
		forgetSent(l)
	}
	ex, err := l.Switch.Explain(l.Port("c1"), UDP("c1", 7000, web, "x"))
	if err != nil || ex.Reason != dataplane.DropShare {
		t.Errorf("full of assured flows: %s, %v", ex.Reason, err)
	}
	l = New(t)
	for i := range l.Config.Ports {
		l.Config.Ports[i].Quota.Flows = 1
	}
	l.Install()
	l.Send("c1", UDP("c1", 5000, web, "x"))
	ex, err = l.Switch.Explain(l.Port("c1"), UDP("c1", 7000, web, "x"))
	if err != nil || ex.Reason != dataplane.DropQuota {
		t.Errorf("quota of one: %s, %v", ex.Reason, err)
	}
}

// Explain knows the stages of turn.
func TestWalkFollowsTurn(t *testing.T) {
	stagesOf := func(file, from, to string, re *regexp.Regexp) (list []string) {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		_, text, ok := bytes.Cut(b, []byte(from))
		if !ok {
			t.Fatalf("%s has no %q", file, from)
		}
		text, _, _ = bytes.Cut(text, []byte(to))
		for _, m := range re.FindAllSubmatch(text, -1) {
			list = append(list, string(m[1]))
		}
		return list
	}
	turn := stagesOf("turn.go", "func (w *worker) turn() {", "\n}", regexp.MustCompile(`w\.([a-z]+)\(s\)`))
	walk := stagesOf("explain.go", "var walk = ", "\n}\n\n", regexp.MustCompile(`\(\*worker\)\.([a-z]+)\}`))
	if len(turn) < 12 || !slices.Equal(turn, walk) {
		t.Errorf("turn runs %v, Explain %v", turn, walk)
	}
}

func BenchmarkExplain(b *testing.B) {
	l := New(b)
	f := UDP("c1", 5000, web, "x")
	b.ReportAllocs()
	for b.Loop() {
		if _, err := l.Switch.Explain(l.Port("c1"), f); err != nil {
			b.Fatal(err)
		}
	}
}

// What a port has spent of its limits is told, and a frame beyond them is dropped as
// it would be.
func TestExplainTellsTheLimits(t *testing.T) {
	l := New(t)
	l.Configure("c1", func(p *dataplane.PortConfig) { p.Quota = conntrack.Quota{Flows: 2, Rate: 10, Burst: 4} })
	ask := func(f []byte) (kinds []string, why dataplane.DropReason) {
		t.Helper()
		ex, err := l.Switch.Explain(l.Port("c1"), f)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range ex.Steps {
			if s.Kind == dataplane.StepStorm || s.Kind == dataplane.StepQuota {
				kinds = append(kinds, fmt.Sprintf("%s: %d of %d", s.Stage, s.Used, s.Limit))
			}
		}
		return kinds, ex.Reason
	}
	want := func(what string, f []byte, want string, why dataplane.DropReason) {
		t.Helper()
		got, reason := ask(f)
		if s := strings.Join(got, ", "); s != want || reason != why {
			t.Errorf("%s: got %q, %s, want %q, %s", what, s, reason, want, why)
		}
	}
	loud := l2(header.Broadcast, MAC("c1"), "to all")
	want("first broadcast", loud, "storm: 1 of 2000", dataplane.NotDropped)
	for range 1999 {
		l.Send("c1", loud)
	}
	want("last of the burst", loud, "storm: 2000 of 2000", dataplane.NotDropped)
	l.Send("c1", loud)
	want("one too many", loud, "storm: 2000 of 2000", dataplane.DropStorm)
	l.Advance(time.Second)
	want("a second later", loud, "storm: 1001 of 2000", dataplane.NotDropped)

	want("a new flow", UDP("c1", 5000, web, "x"), "postrouting: 1 of 2", dataplane.NotDropped)
	l.Send("c1", UDP("c1", 5000, web, "x"))
	want("a flow there is", UDP("c1", 5000, web, "x"), "", dataplane.NotDropped)
	l.Send("c1", UDP("c1", 5001, web, "x"))
	want("beyond the quota", UDP("c1", 5002, web, "x"), "postrouting: 2 of 2", dataplane.DropQuota)
	l.Configure("c1", func(p *dataplane.PortConfig) { p.Quota = conntrack.Quota{Flows: 9, Rate: 10, Burst: 2} })
	want("faster than it may", UDP("c1", 5002, web, "x"), "postrouting: 2 of 9", dataplane.DropFlowRate)
	l.Advance(time.Second)
	want("after a rest", UDP("c1", 5002, web, "x"), "postrouting: 3 of 9", dataplane.NotDropped)
}

// When all ports are others', a new flow to another peer shares one, and an explanation says so,
// too; to the same peer it has none, in both.
func TestExplainOfSharedPorts(t *testing.T) {
	l := New(t)
	l.Config.MasqueradePorts = []conntrack.PortRange{{First: 61000, Last: 61001}}
	l.Install()
	for port := range uint16(2) {
		f := UDP("c2", 5000+port, web, "x")
		for range 2 { // assured: it ends for nobody's port
			l.Send("c2", f)
			for _, got := range l.Got("up") {
				l.Send("up", Inbound(header.ProtoUDP, web, See(t, got).From(), 0, "y"))
			}
			l.Advance(3 * time.Second)
		}
	}
	for to, want := range map[string]dataplane.DropReason{"203.0.113.10:80": dataplane.NotDropped, web: dataplane.DropPortsExhausted} {
		f := UDP("c1", 6000, to, "x")
		ex, err := l.Switch.Explain(l.Port("c1"), f)
		if err != nil || ex.Reason != want {
			t.Errorf("to %s: %s, %v, want %s", to, ex.Reason, err, want)
		}
		forgetSent(l)
		l.Send("c1", f)
		if got := len(l.Got("up")) == 1; got != (want == dataplane.NotDropped) {
			t.Errorf("to %s: sent %v; %s", to, got, l.Drops())
		}
	}
}
