package kernel

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/vswitch/vswitch/dataplane/flowmap"
)

// reached are what each program that looks at a frame does, in the words of said: frames
// and rows that lead there must be among those of a run.
var reached = map[string][]string{
	programsProgVswDecide: {
		"-1 counted", "-1 state 4 counted", "0", "0 tracked", "0 state 4", "0 drained", "FIN", "RST", "rung", "shown",
	},
	programsProgVswForwarded: {"-1", "-1 rewritten 0800", "-1 rewritten 86dd"},
	programsProgVswSeal: {
		"2", "2 refused", "7 carried", "7 ingress carried", "7 peer carried", "7 rewritten 0800 carried", "7 rewritten 86dd carried",
		"7 ingress rewritten 0800 carried", "7 ingress rewritten 86dd carried", "7 peer rewritten 0800 carried", "7 peer rewritten 86dd carried",
		"7 rewritten 0800 carried tracked", "7 rewritten 86dd carried tracked", "FIN", "RST", "rung", "shown",
		"7 rewritten 0806", "7 rewritten 86dd",
	},
	programsProgVswHost:   {"7 nobody ingress rewritten 0806 counted", "7 nobody ingress rewritten 86dd counted", "-1", "7 nobody carried", "-1 nobody counted", "-1 counted", "2 drained", "7 carried", "7 carried tracked", "7 carried state 4"},
	programsProgVswFilter: {"-1 counted", "0", "0 state 4", "0 drained", "FIN", "RST", "rung", "shown"},
	programsProgVswShield: {"-1", "2", "7 carried", "7 rewritten 0800 carried", "7 ingress rewritten 86dd carried", "7 peer rewritten 86dd carried", "7 rewritten 0800 carried tracked", "FIN"},
}

// TestSides: two tellings of each program do the same with the same frame, row and
// tally: verdict, bytes, mark, counters.
func TestSides(t *testing.T) {
	rounds := 4000
	if testing.Short() {
		rounds = 400
	}
	kernel, model := newInKernel(t), newInModel(t)
	for _, program := range slices.Sorted(maps.Keys(reached)) {
		t.Run(program, func(t *testing.T) {
			seen := make(map[string]int)
			seed := rand.Uint64()
			s := source{rand.New(rand.NewPCG(seed, 0))}
			missing := func() []string {
				return slices.DeleteFunc(slices.Clone(reached[program]), func(what string) bool { return seen[what] > 0 })
			}
			// Some of it happens once in a thousand rounds.
			for i := 0; i < rounds || !testing.Short() && i < 10*rounds && len(missing()) > 0; i++ {
				g := s.given(program)
				compare(t, fmt.Sprintf("seed %d, round %d", seed, i), g, kernel, model, seen)
			}
			if never := missing(); len(never) > 0 && !testing.Short() {
				t.Errorf("nothing was %q: %v", never, seen)
			}
		})
	}
}

// compare notes what came of it.
func compare(t *testing.T, name string, g given, one, other side, seen map[string]int) {
	t.Helper()
	a := one.run(t, g)
	if a.refused {
		seen["refused"]++
		return
	}
	if b := other.run(t, g); a != b {
		t.Errorf("%s: %s nobody %v gso %d cb %x\n% x\nrow %+v\nkey %+v\ntally %+v", name, g.program, g.nobody, g.gso, g.cb, g.frame, g.row, g.key, g.tally)
		t.Fatalf("%T %+v % x\n%T %+v % x", one, a, a.frame, other, b, b.frame)
	}
	seen[said(g, a)]++
	if a.row.Half.Ended != g.row.Half.Ended {
		seen[map[uint32]string{flowmap.HalfFIN: "FIN", flowmap.HalfRST: "RST"}[a.row.Half.Ended]]++
	}
	if a.row.Half.Doubt != g.row.Half.Doubt {
		seen["shown"]++
	}
	if a.rung {
		seen["rung"]++
	}
}

// said puts an outcome in a word.
func said(g given, o outcome) string {
	word := fmt.Sprint(o.result.Verdict)
	if g.nobody {
		word += " nobody"
	}
	switch {
	case o.result.Peer:
		word += " peer"
	case o.result.Ingress:
		word += " ingress"
	}
	if o.frame != string(g.frame) && o.frame != "" {
		word += fmt.Sprintf(" rewritten %x", o.frame[12:14])
	}
	if o.row.Packets != g.row.Packets {
		word += " carried"
	}
	if g.row.State != o.row.State {
		word += fmt.Sprintf(" state %d", o.row.State)
	}
	if g.tally != nil && o.tally.Drained != g.tally.Drained {
		word += " drained"
	}
	if g.tally != nil && o.tally.Refused != g.tally.Refused {
		word += " refused"
	}
	if g.tally != nil && o.tally.In != g.tally.In {
		word += " counted"
	}
	if o.row.Half != g.row.Half {
		word += " tracked"
	}
	return word
}
