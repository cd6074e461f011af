package nattest

import (
	"math/rand"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vswitch/vswitch/dataplane/switchtest"
)

// lab is the switch in memory.
type lab struct{ *switchtest.Lab }

func newLab(t testing.TB) lab {
	l := switchtest.New(t)
	l.Config.Uplinks[0].MTU = uplinkMTU
	l.Publish(8080, "c1", 80)
	return lab{l}
}

func (l lab) exchange(from string, frames [][]byte) map[string][][]byte {
	for _, f := range frames {
		l.Send(from, f)
	}
	out := map[string][][]byte{}
	for _, s := range stations {
		out[s] = l.Got(s)
	}
	for _, s := range []string{"host1", "host2", "host3", "c3", "c4", "c5"} {
		l.Got(s) // the host itself is no part of either world
	}
	l.Advance(200 * time.Millisecond)
	return out
}

// diff is a step after which the two worlds differ.
type diff struct {
	label       string
	ours, linux []string // what only one of them saw
}

// explained are the kinds of difference and the row that demands ours.
var explained = []struct {
	row, why string
	is       func(diff) bool
}{{
	"N-01", "Linux keeps the source port while it can, so the mapping of an endpoint depends on the destination once another has that port",
	func(d diff) bool { return d.equalBut(" by another port", "") },
}, {
	"N-03", "Linux gives one outside port to two endpoints whose destinations differ",
	func(d diff) bool {
		return d.equalBut(" by the port of another", "") || d.equalBut(" by another port by the port of another", "")
	},
}, {
	"N-10", "Linux, told as Docker tells it, shows the gateway's address to the target of a hairpin, not the one that was asked",
	func(d diff) bool {
		return strings.HasPrefix(d.label, "hairpin") &&
			(d.equalBut("gateway's", "host's", " by another port", "") || d.equalBut("gateway's", "host's", " by the port of another", ""))
	},
}, {
	"N-30", "Linux passes a RST that lies in the window but is not the next byte; RFC 5961 3.2 takes it for a guess",
	func(d diff) bool { return d.label == "RST within the window" && len(d.ours) == 0 && len(d.linux) == 1 },
}, {
	"N-15", "Linux puts fragments together and waits for all; here each is translated by itself, and the receiver waits",
	func(d diff) bool { return strings.HasSuffix(d.label, "the last is missing") && len(d.linux) == 0 },
}, {
	"N-51", "errors of the switch's own are rare and their rate is not to be guessed; that of Linux is switched off for this test",
	func(d diff) bool {
		own := map[string]string{"ttl 1": "type 11 code 0", "published, ttl 1": "type 11 code 0", "too big, not to be cut": "type 3 code 4"}[d.label]
		return own != "" && len(d.ours) == 0 && len(d.linux) == 1 && strings.Contains(d.linux[0], own)
	},
}, {
	"N-60", "a connection older than the conntrack table is picked up by its FIN as by its data, so that it can end; Linux takes data only",
	func(d diff) bool {
		return strings.HasPrefix(d.label, "first segment with flags 0x11 ") && len(d.linux) == 0
	},
}}

// equalBut reports whether Linux saw the same once texts are replaced.
func (d diff) equalBut(oldnew ...string) bool {
	if len(d.linux) == 0 {
		return false
	}
	var list []string
	for _, s := range d.linux {
		list = append(list, strings.NewReplacer(oldnew...).Replace(s))
	}
	slices.Sort(list)
	return slices.Equal(list, d.ours)
}

// TestDifferential drives a few hundred flows through both NATs.
func TestDifferential(t *testing.T) {
	random := time.Now().UnixNano()
	for _, seed := range []int64{1, 2, random} {
		t.Logf("seed %d", seed)
		compare(t, seed, 120)
	}
}

func compare(t *testing.T, seed int64, flows int) {
	t.Helper()
	g := &traffic{rng: rand.New(rand.NewSource(seed))}
	for range flows {
		g.flow()
	}
	ours, kernel := newSide(t, newLab(t)), newSide(t, newLinux(t))
	counts := map[string]int{}
	same, start := 0, time.Now()
	for i, st := range g.steps {
		a, b := ours.run(st), kernel.run(st)
		d := diff{st.label, less(a, b), less(b, a)}
		if len(d.ours)+len(d.linux) == 0 {
			same++
			continue
		}
		name := ""
		for _, e := range explained {
			if e.is(d) {
				name = e.row
				break
			}
		}
		if name == "" {
			t.Errorf("seed %d, step %d, %s (%s at %s): unexplained\nours:\n\t%s\nLinux:\n\t%s", seed, i, st.label, st.inside, st.from,
				strings.Join(d.ours, "\n\t"), strings.Join(d.linux, "\n\t"))
		}
		counts[name]++
	}
	for _, e := range explained {
		if counts[e.row] > 0 {
			t.Logf("%s, %d times: %s", e.row, counts[e.row], e.why)
		}
	}
	t.Logf("%d steps in %v: %d alike; differences: %v", len(g.steps), time.Since(start), same, counts)
}

// less is what a has and b has not.
func less(a, b []string) (left []string) {
	b = slices.Clone(b)
	for _, s := range a {
		if i := slices.Index(b, s); i >= 0 {
			b = slices.Delete(b, i, i+1)
			continue
		}
		left = append(left, s)
	}
	return left
}
