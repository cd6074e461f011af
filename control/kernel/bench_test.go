package kernel

import (
	"slices"
	"testing"

	"github.com/cilium/ebpf"

	"github.com/vswitch/vswitch/dataplane/flowmap"
	"github.com/vswitch/vswitch/dataplane/flowmap/flowtest"
)

// benchCase is a program with what it meets.
type benchCase struct {
	name string
	given
	verdict int32
}

// benchCases are frames that are carried by each kind of row, and some that are not.
func benchCases() (list []benchCase) {
	seg := tcp(5555, 8006)
	seg.bytes[13] = 0x10
	row := flowmap.Entry{State: flowmap.Active, Decision: flowmap.Decision{Out: testIfindex, MTU: 1500, In: testIfindex}}
	routed := row
	routed.Flags = flowmap.Rewrite
	v4, v6 := eth(ip4(peer4, host4, seg)), eth(ip6(peer6, host6, seg))
	v4[20] = 0x40 // DF
	mark := [5]uint32{testStamp[0], testStamp[1], 3, 0, uint32(flowtest.Carried)}
	add := func(name, program string, frame []byte, row *flowmap.Entry, cb [5]uint32, verdict int32) {
		c := benchCase{name, given{program: program, frame: frame, index: 3, tally: new(flowmap.Tally), cb: cb}, verdict}
		if row != nil {
			c.row, c.key = *row, keyOf(frame, program)
			c.row.Key, c.row.Match = *c.key, [12]byte(frame)
		}
		list = append(list, c)
	}
	const carried, dropped, accepted, redirect, shot, pass = 0, 0, -1, 7, tcShot, tcUnspec
	for _, f := range []struct {
		family string
		frame  []byte
	}{{"4", v4}, {"6", v6}} {
		add("decide/bridged"+f.family, programsProgVswDecide, f.frame, &row, mark, carried)
		add("decide/routed"+f.family, programsProgVswDecide, f.frame, &routed, mark, carried)
		add("decide/no flow"+f.family, programsProgVswDecide, f.frame, nil, mark, accepted)
		add("host/bridged"+f.family, programsProgVswHost, f.frame, &row, mark, redirect)
		add("filter/routed"+f.family, programsProgVswFilter, f.frame, &routed, mark, dropped)
		add("filter/ours"+f.family, programsProgVswFilter, f.frame, nil, mark, accepted)
		add("shield/routed"+f.family, programsProgVswShield, f.frame, &routed, mark, redirect)
		add("shield/ours"+f.family, programsProgVswShield, f.frame, nil, [5]uint32{}, shot)
		add("seal/bridged"+f.family, programsProgVswSeal, f.frame, &row, mark, redirect)
		add("seal/routed"+f.family, programsProgVswSeal, f.frame, &routed, mark, redirect)
		add("seal/alone"+f.family, programsProgVswSeal, f.frame, &row, [5]uint32{}, redirect)
	}
	theirs := eth(ip4(peer4, host4, tcp(80, 33000)))
	add("filter/theirs", programsProgVswFilter, theirs, nil, mark, dropped)
	add("shield/theirs", programsProgVswShield, theirs, nil, [5]uint32{}, pass)
	add("shield/no slot", programsProgVswShield, eth(ip4(peer4, other4, tcp(80, 33000))), nil, [5]uint32{}, pass)
	return list
}

// BenchmarkDecide is what the programs cost for a frame in a test run, the kernel's loop
// around them included.
func BenchmarkDecide(b *testing.B) {
	s := newInKernel(b)
	for _, c := range benchCases() {
		b.Run(c.name, func(b *testing.B) {
			s.measure(b, c, b.N)
		})
	}
}

// measure runs a program n times.
func (s *inKernel) measure(b *testing.B, c benchCase, n int) {
	b.Helper()
	f := s.k.flows
	f.rows[c.index] = c.row
	if c.key != nil {
		if err := f.insert(*c.key, c.index); err != nil {
			b.Fatal(err)
		}
		defer f.remove(*c.key)
	}
	if _, err := s.k.AddFlowPort(testIfindex, 1); err != nil {
		b.Fatal(err)
	}
	defer s.k.RemoveFlowPort(testIfindex)
	p, in := s.program(b, c.program, "verdict"), c.frame
	if p.Type() == ebpf.SocketFilter {
		in = slices.Concat(in[:14], in)
	}
	out := make([]byte, len(in)+64)
	r := &ebpf.RunOptions{Data: in, DataOut: out, Context: contextOf(c.given), Repeat: uint32(n)}
	b.ResetTimer()
	verdict, err := p.Run(r)
	b.StopTimer()
	if err != nil || int32(verdict) != c.verdict {
		b.Fatalf("%s: verdict %d, %v, want %d", c.name, int32(verdict), err, c.verdict)
	}
}
