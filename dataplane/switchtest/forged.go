package switchtest

import (
	"encoding/binary"
	"net/netip"
	"slices"

	"github.com/vswitch/vswitch/dataplane/conntrack"
	"github.com/vswitch/vswitch/dataplane/flowmap"
)

// Withstand sends n segments that a stranger forges to the carried connections of each
// kind of routed flow, both families, both ways. He knows addresses and ports, and has one
// of the numbers right at times, never both, and never that of a reset. No connection is
// lost, none of what is known of it moves, and nobody gets a segment twice.
func (w *Twins) Withstand(n int) {
	w.T.Helper()
	for k, kind := range twinKinds {
		for v := range Families {
			f := w.Open(k + v*len(twinKinds))
			w.Rows()
			for range 4 {
				w.Valid(f, 0)
				w.Valid(f, 1)
			}
			if kind.kind == "bridged" || kind.kind == "host" || kind.kind == "from the host" {
				continue // nobody keeps numbers of these
			}
			for side := range 2 {
				w.withstand(f, side, n/len(Families)/2)
			}
			w.goesOn(f)
		}
	}
	if w.Carried["masqueraded"] < n/8 {
		w.T.Errorf("%d segments were carried: the test has become weak", w.Carried["masqueraded"])
	}
}

func (w *Twins) withstand(f *TwinFlow, side, n int) {
	w.T.Helper()
	b := w.both[0]
	before, known := b.halves(), conns(b.Switch)
	for range n {
		seg := w.segment(f, side)
		from := f.At(side)
		met, ok := w.Meet(0, from, seg, 0)
		if !ok {
			w.T.Fatalf("% x cannot be tried", seg)
		}
		if met.Out != 0 {
			w.Carried[f.Kind]++
		}
		copies := 0
		for _, list := range b.got(from, seg, met, 0) {
			copies += len(list)
		}
		if copies > 1 || copies == 1 && seg[f.l4()+13]&RST != 0 || met.Host {
			w.T.Fatalf("%s: %d copies of % x, the host gets it: %v", f.Kind, copies, seg, met.Host)
		}
	}
	if after := b.halves(); !slices.Equal(before, after) {
		w.T.Fatalf("%s, side %d: forged segments moved %+v to %+v", f.Kind, side, before, after)
	}
	if after := conns(b.Switch); len(after) != len(known) {
		w.T.Fatalf("%s, side %d: %d flows of %d are left", f.Kind, side, len(after), len(known))
	}
}

// segment is one of a stranger.
func (w *Twins) segment(f *TwinFlow, side int) []byte {
	r := w.Rand
	far := func() uint32 { return 1<<20 + r.Uint32N(1<<32-1<<21) } // out of every window here
	seq, ack := far(), far()
	b := f.Frame(side, ACK, 0, 0, make([]byte, pick(r, 0, 1, 40)))
	flags := flagsOf(r)
	switch {
	case flags&RST != 0:
		if r.IntN(2) == 0 {
			seq = 1 + r.Uint32N(65535) // in the window, and not what is due
		}
	case r.IntN(3) == 0:
		seq = pick(r, 0, r.Uint32N(60000))
	case r.IntN(2) == 0:
		ack = 0
	}
	b[f.l4()+13] = flags
	at := f.l4() + 4
	for i, more := range []uint32{seq, ack} {
		binary.BigEndian.PutUint32(b[at+4*i:], binary.BigEndian.Uint32(b[at+4*i:])+more)
	}
	f.sum(b)
	return b
}

// goesOn shows that both ways of a connection are as they were: the numbers that are due
// count, the end of a side is noticed, and then the exact reset.
func (w *Twins) goesOn(f *TwinFlow) {
	w.T.Helper()
	b := w.both[0]
	pass := func(side int, flags uint8, state string) {
		w.T.Helper()
		frame := f.Frame(side, flags, 0, 0, nil)
		met, _ := w.Meet(0, f.At(side), frame, 0)
		got := b.got(f.At(side), frame, met, 0)
		if len(got[f.At(1-side)]) != 1 {
			w.T.Fatalf("%s: a segment of side %d does not arrive: %+v", f.Kind, side, got)
		}
		if got := b.state(f); got != state {
			w.T.Fatalf("%s: %s after flags %#x of side %d, want %s", f.Kind, got, flags, side, state)
		}
	}
	pass(0, ACK, "established")
	pass(1, ACK, "established")
	pass(0, FIN|ACK, "client-fin")
	f.seq[0]++
	pass(1, ACK, "client-fin")
	pass(1, RST|ACK, "transitory")
}

// halves are the halves of all rows.
func (b *twin) halves() (list []flowmap.Half) {
	for i := range b.entries {
		list = append(list, b.entries[i].Half)
	}
	return list
}

// state is that of a flow's connection.
func (b *twin) state(f *TwinFlow) string {
	port := netip.MustParseAddrPort(f.addrs[0][0]).Port()
	page := make([]conntrack.Info, 1024)
	n, _ := b.Switch.ReadConns(page, 0)
	for _, c := range page[:n] {
		if c.Orig.SrcPort == port && c.Orig.Proto == f.proto {
			return c.State
		}
	}
	return "none"
}
