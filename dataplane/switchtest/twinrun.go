package switchtest

import (
	"os"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/vswitch/vswitch/dataplane/conntrack"
	"github.com/vswitch/vswitch/dataplane/flowmap/flowtest"
	"github.com/vswitch/vswitch/dataplane/header"
)

// TwinsOf are the seed of a run, which it tells, and its length if VSWITCH_TWINS says no other. Such long
// runs look for what nobody has seen yet, each with a seed of its own; the others begin alike.
func TwinsOf(t testing.TB, lasts time.Duration) (seed uint64, _ time.Duration) {
	seed = 1
	if d, err := time.ParseDuration(os.Getenv("VSWITCH_TWINS")); err == nil {
		lasts, seed = d, uint64(time.Now().UnixNano())
	}
	if s, err := strconv.ParseUint(os.Getenv("VSWITCH_SEED"), 10, 64); err == nil {
		seed = s
	}
	t.Logf("VSWITCH_SEED=%d", seed)
	return seed, lasts
}

// Run sends frames until then, and wants carried ones of every kind. Threads run the
// programs at once, one for each of on, which puts it on a CPU; without, one does.
func (w *Twins) Run(until time.Time, on ...func()) {
	w.T.Helper()
	kinds := len(twinKinds) * len(Families) * 2
	// A slow machine goes on until chance has had every kind often enough.
	enough := func() bool { return len(w.weak(w.Frames/100)) == 0 }
	for round := 0; round < 2 || time.Now().Before(until) || round < twinRounds && !enough(); round++ {
		if round%twinRounds == 0 {
			w.begin(kinds)
		}
		if len(on) > 0 && round%2 == 1 {
			w.atOnce(on)
		} else {
			w.inTurn()
		}
		w.Count()
		// A flow that somebody has ended makes room for another.
		w.flows = slices.Delete(w.flows, 0, 1)
		w.Open(w.Rand.IntN(kinds))
		w.Rows()
	}
	w.T.Logf("%d frames, carried %v", w.Frames, w.Carried)
	w.carriesAll(w.Frames / 100)
}

// carriesAll wants so many carried frames of each kind.
func (w *Twins) carriesAll(least int) {
	w.T.Helper()
	for _, kind := range w.weak(least) {
		w.T.Errorf("%d frames of flows %s were carried, of %d in all: the test has become weak", w.Carried[kind], kind, w.Frames)
	}
}

// weak are the kinds of which fewer were carried.
func (w *Twins) weak(least int) (kinds []string) {
	for _, k := range twinKinds {
		if w.Carried[k.kind] < least {
			kinds = append(kinds, k.kind)
		}
	}
	return kinds
}

const (
	twinRound  = 200 // frames
	twinRounds = 40  // until all begins anew: flows that frames of strangers begin fill the tables
)

// begin forgets all flows and opens one of each kind.
func (w *Twins) begin(kinds int) {
	w.T.Helper()
	for _, b := range w.both {
		b.Switch.FlushConns(conntrack.Selector{})
	}
	w.flows = w.flows[:0]
	for n := range kinds {
		w.Open(n)
	}
	w.Rows()
}

func (w *Twins) inTurn() {
	for range twinRound {
		w.any(w.flows[w.Rand.IntN(len(w.flows))])
	}
}

// any sends some frame about a flow.
func (w *Twins) any(f *TwinFlow) {
	switch side, n := w.Rand.IntN(2), w.Rand.IntN(24); {
	case n < 7:
		w.Hostile(f, side)
	case n < 10:
		w.Variant(f, side)
	case n < 11:
		w.Error(f, side)
	case n < 12:
		w.Strange()
	case n < 14:
		w.Super(f, side)
	default:
		w.Valid(f, side)
	}
}

// met is a frame that has met the programs.
type met struct {
	from, kind string
	frame      []byte
	flowtest.Met
	ok bool
}

// atOnce lets threads run the programs, each on a CPU of its own; frames of a flow meet them
// on all. Of a connection one side speaks, for here all frames meet the programs before the
// switch has any, and nobody answers what he cannot have received. Two programs that move its
// half at once may lose a number; then both sides say where they are, as they do sooner or later.
func (w *Twins) atOnce(on []func()) {
	cpus := len(on)
	all, of, speaks := make([]*met, 0, twinRound), make([][]*met, cpus), w.Rand.IntN(2)
	for range twinRound {
		f, side := w.flows[w.Rand.IntN(len(w.flows))], w.Rand.IntN(2)
		if f.proto == header.ProtoTCP {
			side = speaks
		}
		m := &met{from: f.At(side), kind: f.Kind}
		cpu := w.Rand.IntN(cpus)
		switch {
		case f.proto == header.ProtoTCP:
			m.frame = f.Frame(side, ACK, 0, 0, []byte("at once"))
			f.seq[side] += uint32(len("at once"))
		case w.Rand.IntN(3) == 0:
			m.frame = f.hostile(w.Rand, side)
		default:
			m.frame = f.Frame(side, 0, 0, 0, []byte("at once"))
		}
		all, of[cpu] = append(all, m), append(of[cpu], m)
	}
	var threads sync.WaitGroup
	for cpu, list := range of {
		threads.Go(func() {
			runtime.LockOSThread() // and no unlock: the thread ends, and with it where it may run
			on[cpu]()
			for _, m := range list {
				m.Met, m.ok = w.Meet(0, m.from, m.frame, 0)
			}
		})
	}
	threads.Wait()
	for _, m := range all {
		if m.ok {
			w.Compare(m.from, m.frame, m.kind, m.Met, 0)
		}
	}
	for _, f := range w.flows {
		w.Valid(f, speaks)
		w.Valid(f, 1-speaks)
	}
}
