package switchtest

import (
	"slices"
	"strings"
	"time"

	"github.com/vswitch/vswitch/dataplane/flowmap/flowtest"
	"github.com/vswitch/vswitch/dataplane/header"
)

// RunAlone sends frames until then while nobody is there to the first: no filter says anything
// of a frame, and the programs look flows up themselves (ADR 36). They carry flows of every
// kind, to the station and with the bytes that the stages of the second give them. A frame that
// they do not carry ends, unless it came by an uplink and is the host's.
func (w *Twins) RunAlone(until time.Time) {
	w.T.Helper()
	kinds := len(twinKinds) * len(Families) * 2
	for round := 0; round < 1 || time.Now().Before(until); round++ {
		w.begin(kinds)
		for _, f := range w.flows {
			w.untilCarried(f)
		}
		w.setNobody(true)
		ends := make(map[*TwinFlow]map[string]bool) // which sides have sent a FIN
		for sent := 0; sent < twinRound*twinRounds/4 && len(w.flows) > kinds/2; sent++ {
			n := w.Rand.IntN(len(w.flows))
			f := w.flows[n]
			w.ended = ended{}
			w.any(f)
			if ends[f] == nil {
				ends[f] = make(map[string]bool)
			}
			if w.ended.fin {
				ends[f][w.ended.from] = true
			}
			if w.ended.rst || len(ends[f]) > 1 { // it is over, and the stages know that
				w.flows = slices.Delete(w.flows, n, n+1)
			}
		}
		w.setNobody(false)
		for range 10 { // idle rows make room for the next round
			for _, b := range w.both {
				b.Advance(time.Second)
			}
		}
	}
	w.T.Logf("%d frames, carried %v", w.Frames, w.Carried)
	w.carriesAll(w.Frames / 100)
}

// untilCarried sends what is due until both ways of a flow are carried: its offer may have
// found no place in the queue, and comes again after many frames. Each way by itself, for
// the worker may count both in one place.
func (w *Twins) untilCarried(f *TwinFlow) {
	w.T.Helper()
	for side := range 2 {
		for n, before := 0, w.Carried[f.Kind]; w.Carried[f.Kind] == before; n++ {
			if w.Valid(f, side); n%16 == 0 {
				w.Rows()
			}
			if n > 600 {
				w.T.Fatalf("side %d of a flow is not carried: %s of %v, protocol %d, %s", side, f.Kind, f.addrs[0], f.proto, w.both[0].state(f))
			}
		}
	}
}

func (w *Twins) setNobody(is bool) {
	w.nobody = is
	w.both[0].side.SetNobody(is)
}

// compareAlone is Compare while nobody is there. The stages get what was carried: they know
// of flows what the programs know.
func (w *Twins) compareAlone(from string, frame []byte, kind string, met flowtest.Met, gso uint16) map[string][][]byte {
	w.T.Helper()
	plain, _ := w.Meet(1, from, frame, gso)
	if met.Out == 0 {
		if met.Switch || met.Host != plain.Host {
			w.T.Fatalf("%s\nwhile nobody is there %+v, by the stages the host %v", strings.Join(w.last, "\n"), met, plain.Host)
		}
		return nil
	}
	w.Carried[kind]++
	w.ended = endOf(from, frame)
	a, b := w.both[0].got(from, frame, met, gso), w.both[1].got(from, frame, plain, gso)
	if !same(a, b) {
		w.T.Fatalf("%s\nwhile nobody is there %+v:\n%s\nby the stages:\n%s", strings.Join(w.last, "\n"), met, tell(a), tell(b))
	}
	return b
}

// ended is who has ended what by a frame that was carried.
type ended struct {
	from     string
	fin, rst bool
}

func endOf(from string, frame []byte) ended {
	var l header.Layers
	if !header.Parse(frame, &l) || l.Kind != header.KindL4 || l.Tuple.Proto != header.ProtoTCP {
		return ended{}
	}
	return ended{from, l.TCPFlags&header.TCPFIN != 0, l.TCPFlags&header.TCPRST != 0}
}
