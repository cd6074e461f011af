package kernel

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"golang.org/x/sys/unix"

	"github.com/vswitch/vswitch/dataplane/flowmap"
	"github.com/vswitch/vswitch/dataplane/flowmap/flowtest"
)

// given is all that a program looks at: a frame, a row and a tally.
type given struct {
	program string // as the kernel calls it
	nobody  bool   // is there, as host knows it; the others know it by their frame
	frame   []byte
	gso     uint32
	cb      [5]uint32
	iif     uint32 // the interface that received the frame before

	index uint32
	row   flowmap.Entry
	other flowmap.Entry  // of the other direction
	key   *flowmap.Key   // nil: no frame has the row
	tally *flowmap.Tally // nil: nobody counts
	asker *flowmap.Asker // nil: nobody is told
}

// outcome is all that a program does.
type outcome struct {
	refused bool // no test run begins with such a frame
	result  flowtest.Result
	frame   string
	cb      [5]uint32
	row     flowmap.Entry
	other   flowmap.Entry
	tally   flowmap.Tally
	rung    bool // it was noted that the connection may have ended
}

// side is one telling of what the programs do. The claims are those of claim.
type side interface {
	run(t testing.TB, g given) outcome
}

// Everything of a test run comes in by the loopback device.
const testIfindex = 1

// testJiffies is the time of every run.
const testJiffies = 1 << 30

var testStamp = [2]uint32{0x5eed1234, 0x9abc5678}

// inKernel runs the programs in the kernel.
type inKernel struct {
	k        *Kernel
	programs map[string]*ebpf.Program
}

// newInKernel has maps of its own, with the claims.
func newInKernel(t testing.TB) *inKernel {
	s := newUnclaimed(t)
	claim(t, s.k)
	for at, station := range stations {
		if err := s.k.flows.stations.Put(at, station); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

// newUnclaimed has maps of its own, and no claims.
func newUnclaimed(t testing.TB) *inKernel {
	k := open(t)
	if err := k.spec.Variables[programsVarStamp].Set(testStamp); err != nil {
		t.Fatal(err)
	}
	if _, err := k.flows.chunks.Grow(); err != nil || k.flows.chunks.Made() != testEntries {
		t.Fatalf("%d entries: %v", k.flows.chunks.Made(), err)
	}
	s := &inKernel{k: k, programs: make(map[string]*ebpf.Program)}
	t.Cleanup(func() {
		for _, p := range s.programs {
			p.Close()
		}
	})
	return s
}

// load loads a program of the object, altered.
func (s *inKernel) load(name string, ask func(asm.Instructions)) (*ebpf.Program, error) {
	altered := *s.k.spec
	p := altered.Programs[name].Copy()
	ask(p.Instructions)
	replace(p.Instructions, asm.FnJiffies64, asm.Mov.Imm(asm.R0, testJiffies))
	replace(p.Instructions, asm.FnKtimeGetNs, asm.Mov.Imm(asm.R0, testNow)) // fragments are remembered for ever, as in the model
	altered.Programs = map[string]*ebpf.ProgramSpec{name: p}
	return newProgram(&altered, name, s.k.flows.all(), s.k.planes.all(), s.k.living.maps())
}

// questions are what a test run does not tell by itself, as alterations of a program:
// where to a redirection goes, and how.
var questions = map[string]func(asm.Instructions){
	"verdict": func(asm.Instructions) {},
	"where": func(list asm.Instructions) {
		replace(list, asm.FnRedirect, asm.Mov.Reg(asm.R0, asm.R1))
		replace(list, asm.FnRedirectPeer, asm.Mov.Reg(asm.R0, asm.R1))
	},
	"how": func(list asm.Instructions) {
		replace(list, asm.FnRedirect, asm.Mov.Reg(asm.R0, asm.R2))
		replace(list, asm.FnRedirectPeer, asm.Mov.Imm(asm.R0, byPeer))
	},
}

const byPeer = 0x100

const testNow = 2

func replace(list asm.Instructions, call asm.BuiltinFunc, by asm.Instruction) {
	for i, ins := range list {
		if ins.IsBuiltinCall() && ins.Constant == int64(call) {
			list[i] = by.WithMetadata(ins.Metadata)
		}
	}
}

func (s *inKernel) run(t testing.TB, g given) outcome {
	o, verdict := s.ask(t, g, "verdict")
	o.result.Verdict = int32(verdict)
	if o.result.Verdict == flowtest.Shot {
		o.frame = "" // nobody has it
	}
	if o.refused || verdict != flowtest.Redirect {
		return o
	}
	where, out := s.ask(t, g, "where")
	o.result.Out = out
	how, by := s.ask(t, g, "how")
	o.result.Peer, o.result.Ingress = by == byPeer, by == unix.BPF_F_INGRESS
	for _, again := range []outcome{where, how} {
		again.result = o.result
		if again != o {
			t.Fatalf("%s: two runs of the same program: %+v and %+v", g.program, o, again)
		}
	}
	return o
}

// program is one that is loaded with the first use.
func (s *inKernel) program(t testing.TB, name, question string) *ebpf.Program {
	t.Helper()
	as := name + " " + question
	p := s.programs[as]
	if p == nil {
		var err error
		if p, err = s.load(name, questions[question]); err != nil {
			t.Fatalf("%s: %+v", as, err)
		}
		s.programs[as] = p
	}
	return p
}

// ask runs a program once, as a question alters it.
func (s *inKernel) ask(t testing.TB, g given, question string) (o outcome, verdict uint32) {
	t.Helper()
	p := s.program(t, g.program, question)
	s.setNobody(t, g.nobody)
	f := s.k.flows
	if g.asker != nil {
		if err := f.askers.Put(uint32(testIfindex), *g.asker); err != nil {
			t.Fatal(err)
		}
		defer func() { _ = f.askers.Delete(uint32(testIfindex)) }()
	}
	f.rows[g.index], f.rows[g.index^1] = g.row, g.other
	defer func() { f.rows[g.index], f.rows[g.index^1] = flowmap.Entry{}, flowmap.Entry{} }()
	s.forget(t)
	if g.key != nil {
		if err := f.insert(*g.key, g.index); err != nil {
			t.Fatal(err)
		}
		defer f.remove(*g.key)
	}
	var tally flowmap.Tally
	if g.tally != nil {
		a, err := s.k.AddFlowPort(testIfindex, 1)
		if err != nil {
			t.Fatal(err)
		}
		defer s.k.RemoveFlowPort(testIfindex)
		*a = *g.tally
		defer func() { o.tally = *a }()
	}
	o.tally = tally
	in := g.frame
	if p.Type() == ebpf.SocketFilter {
		// A test run of a socket filter starts at the network header, the tap at the
		// Ethernet header: the frame goes in with its header doubled.
		in = slices.Concat(g.frame[:14], g.frame)
	}
	ctx, after := contextOf(g), make([]byte, 256)
	out := make([]byte, len(in)+64)
	opts := &ebpf.RunOptions{Data: in, DataOut: out, Context: ctx, ContextOut: after}
	verdict, err := p.Run(opts)
	if errors.Is(err, unix.EINVAL) {
		return outcome{refused: true, row: f.rows[g.index]}, 0
	}
	if err != nil {
		t.Fatalf("%s: %v", g.program, err)
	}
	o.frame = string(opts.DataOut[len(in)-len(g.frame):])
	for i := range o.cb {
		o.cb[i] = binary.NativeEndian.Uint32(after[48+4*i:])
	}
	o.row, o.other, o.rung = f.rows[g.index], f.rows[g.index^1], rung(t, &f.ended[0], g.index)
	return o, verdict
}

// setNobody says whether the process is there, to programs that are told so by the kernel.
func (s *inKernel) setNobody(t testing.TB, nobody bool) {
	t.Helper()
	err := s.k.living.fill()
	if nobody {
		err = s.k.living.empty()
	}
	if err != nil {
		t.Fatal(err)
	}
}

// empty says that it is not.
func (l *living) empty() error {
	for i := range uint32(2) {
		if err := l.array.Delete(i); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return fmt.Errorf("map %s: %w", programsMapVswLiving, err)
		}
	}
	return nil
}

// forget empties the places where filters have said something. A frame of a later run may
// have the same address.
func (s *inKernel) forget(t testing.TB) {
	t.Helper()
	if err := s.k.flows.said.Put(uint32(0), make([]place, ebpf.MustPossibleCPU())); err != nil {
		t.Fatal(err)
	}
}

// place is struct said of mark.h.
type place struct {
	Frame                            uint64
	Whose, Index, Generation, Unused uint32
}

// contextSize is how far struct __sk_buff reached in Linux 5.10.
const contextSize = 184

// contextOf is the struct __sk_buff that a test run begins with.
func contextOf(g given) []byte {
	ctx := make([]byte, contextSize)
	for i, w := range g.cb {
		binary.NativeEndian.PutUint32(ctx[48+4*i:], w)
	}
	binary.NativeEndian.PutUint32(ctx[36:], g.iif)
	binary.NativeEndian.PutUint32(ctx[176:], g.gso)
	return ctx
}

// inModel runs the model.
type inModel struct{ m flowtest.Kernel }

func newInModel(t testing.TB) *inModel {
	k := open(t)
	claim(t, k)
	s := &inModel{flowtest.Kernel{
		Stamp: testStamp, Opened: k.Opened(), Published: k.Published(), Addrs: k.slots,
		Bound: [2]map[uint16]bool{{}, {40017: true}}, Peers: make(map[flowmap.PeerKey]bool), Subnets: make(map[netip.Prefix]flowmap.Subnet), Rows: make([]flowmap.Entry, testEntries), Ends: new(flowmap.Ends),
		Jiffies: func() uint64 { return testJiffies },
	}}
	var peer flowmap.PeerKey
	var subnet flowmap.SubnetKey
	var one uint8
	var is flowmap.Subnet
	for list := k.planes.peers.Iterate(); list.Next(&peer, &one); {
		s.m.Peers[peer] = true
	}
	for list := k.planes.subnets.Iterate(); list.Next(&subnet, &is); {
		addr, bits := subnet.Addr.NetIP(), int(subnet.Bits)
		if addr.Is4() {
			bits -= 96
		}
		s.m.Subnets[netip.PrefixFrom(addr, bits)] = is
	}
	for _, port := range claimedBound {
		s.m.Bound[0][port], s.m.Bound[1][port] = true, true
	}
	if len(s.m.Peers) == 0 || len(s.m.Subnets) == 0 {
		t.Fatalf("%d peers and %d subnets are claimed", len(s.m.Peers), len(s.m.Subnets))
	}
	return s
}

func (s *inModel) run(t testing.TB, g given) outcome {
	m := &s.m
	m.Nobody = g.nobody
	m.Told = flowmap.Stations{At: stations}
	if g.asker != nil {
		m.Told.Askers = map[uint32]flowmap.Asker{testIfindex: *g.asker}
	}
	m.Rows[g.index], m.Rows[g.index^1] = g.row, g.other
	defer func() { m.Rows[g.index], m.Rows[g.index^1] = flowmap.Entry{}, flowmap.Entry{} }()
	m.Keys = map[flowmap.Key]uint32{}
	if g.key != nil {
		m.Keys[*g.key] = g.index
	}
	m.Tallies = map[uint32]*flowmap.Tally{}
	tally := new(flowmap.Tally)
	if g.tally != nil {
		*tally = *g.tally
		m.Tallies[testIfindex] = tally
	}
	f := &flowtest.Frame{Data: slices.Clone(g.frame), Ifindex: testIfindex, GSOSize: g.gso, CB: g.cb, ToHost: [6]byte(g.frame) == [6]byte{}, ToGroup: g.frame[0]&1 != 0, Forwarded: g.iif != 0 && g.iif != testIfindex}
	var r flowtest.Result
	switch g.program {
	case programsProgVswDecide:
		r = m.Decide(f)
	case programsProgVswSeal:
		r = m.Seal(f)
	case programsProgVswForwarded:
		r = m.Forwarded(f)
	case programsProgVswHost:
		r = m.Host(f)
	case programsProgVswFilter:
		r = m.Filter(f)
	case programsProgVswShield:
		r = m.Shield(f)
	default:
		t.Fatalf("no program %s", g.program)
	}
	if r.Verdict == flowtest.Shot {
		f.Data = nil
	}
	return outcome{result: r, frame: string(f.Data), cb: f.CB, row: m.Rows[g.index], other: m.Rows[g.index^1], tally: *tally, rung: rung(t, m.Ends, g.index)}
}

// rung says whether the bell has rung for a pair, and for no other, and silences it.
func rung(t testing.TB, e *flowmap.Ends, index uint32) bool {
	t.Helper()
	is := e.Pairs[index/2] == 1
	e.Pairs[index/2] = 0
	if n := e.Rung; n > 1 || (n == 1) != is {
		t.Fatalf("the bell has rung %d times, for this pair: %v", n, is)
	}
	e.Rung = 0
	return is
}
