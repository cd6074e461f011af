package kernel

import (
	"encoding/binary"
	"errors"
	"net"
	"os"
	"slices"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/vswitch/vswitch/dataplane/flowmap"
	"github.com/vswitch/vswitch/dataplane/flowmap/flowtest"
	"github.com/vswitch/vswitch/dataplane/switchtest"
	"github.com/vswitch/vswitch/internal/netlab/labtest"
)

// programs are the programs in the kernel as a switchtest.Side: what the loader gives, on
// interfaces that bear nothing but a number and an address.
type programs struct {
	*Kernel
	t      testing.TB
	in     *inKernel
	nobody bool // is there
}

// Tally implements switchtest.Side.
func (p *programs) Tally(ifindex uint32) *flowmap.Tally { return p.flows.tally(ifindex) }

func newPrograms(t testing.TB) *programs {
	s := newUnclaimed(t)
	for name, ifindex := range switchtest.Ifindexes() {
		mac := switchtest.MAC(name)
		l := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Index: ifindex, Name: "twin-" + name, HardwareAddr: net.HardwareAddr(mac[:])}, PeerName: "twin+" + name}
		if err := netlink.LinkAdd(l); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = netlink.LinkDel(l) })
		if _, err := s.k.AddFlowPort(ifindex, switchtest.Number(ifindex)); err != nil {
			t.Fatal(err)
		}
	}
	for name, question := range meets {
		s.program(t, name, question)
	}
	return &programs{Kernel: s.k, t: t, in: s}
}

// meets are the programs that frames meet, and what is asked of them: where a frame goes
// is the verdict.
var meets = map[string]string{
	programsProgVswDecide: "verdict", programsProgVswSeal: "where", programsProgVswFilter: "verdict",
	programsProgVswShield: "where", programsProgVswHost: "where",
}

// SetNobody implements switchtest.Side.
func (p *programs) SetNobody(is bool) {
	p.in.setNobody(p.t, is)
	p.in.forget(p.t)
	p.nobody = is
}

// Meet implements switchtest.Side. The caller's thread stays on its processor: the kernel
// runs both programs of a frame on one, and there the second hears what the first has said.
func (p *programs) Meet(at flowtest.At, ifindex uint32, toHost bool, b []byte, gso uint32) (m flowtest.Met, ok bool) {
	first, second := programsProgVswDecide, programsProgVswSeal
	switch at {
	case flowtest.Device:
		first, second = "", programsProgVswHost
	case flowtest.Uplink:
		first, second = programsProgVswFilter, programsProgVswShield
	}
	ctx := make([]byte, contextSize)
	binary.NativeEndian.PutUint32(ctx[40:], ifindex)
	binary.NativeEndian.PutUint32(ctx[176:], gso)
	if first != "" && !p.nobody {
		after := make([]byte, 256)
		accepted, _, ok := p.run(first, slices.Concat(b[:14], b), ctx, after)
		if !ok {
			return m, false
		}
		m.Switch = accepted != 0
		copy(ctx[48:68], after[48:68])
	}
	where, sent, ok := p.run(second, b, ctx, make([]byte, 256))
	switch verdict := int32(where); {
	case !ok:
		return m, false
	case verdict >= 100:
		m.Out, m.Sent = where, sent
	case verdict == flowtest.Unspec && at == flowtest.Device:
		m.Switch = !p.nobody
	case verdict == flowtest.Unspec:
		m.Host = true
	}
	return m, true
}

func (p *programs) run(name string, in, ctx, after []byte) (verdict uint32, out []byte, ok bool) {
	opts := &ebpf.RunOptions{Data: in, DataOut: make([]byte, len(in)+64), Context: ctx, ContextOut: after}
	verdict, err := p.in.programs[name+" "+meets[name]].Run(opts)
	if errors.Is(err, unix.EINVAL) {
		return 0, nil, false // no test run begins with it
	}
	if err != nil {
		panic(name + ": " + err.Error())
	}
	return verdict, opts.DataOut, true
}

// TestTwins: a switch to which the programs carry flows does with random and hostile frames
// what one without does: verdict, bytes, counters, connections. Two CPUs run the programs
// at once. VSWITCH_TWINS is for how long (make twins), VSWITCH_SEED repeats a run.
func TestTwins(t *testing.T) {
	seed, lasts := switchtest.TwinsOf(t, 4*time.Second)
	defer labtest.OneCPU(t)()
	w := switchtest.NewTwins(t, seed, func(*atomic.Int64) switchtest.Side { return newPrograms(t) })
	w.Run(time.Now().Add(lasts), onCPU(0), onCPU(1))
}

// TestTwinsAlone: while nobody is there the programs do with the frames that they carry what
// the stages do. VSWITCH_TWINS and VSWITCH_SEED are as in TestTwins.
func TestTwinsAlone(t *testing.T) {
	seed, lasts := switchtest.TwinsOf(t, 4*time.Second)
	defer labtest.OneCPU(t)()
	w := switchtest.NewTwins(t, seed, func(*atomic.Int64) switchtest.Side { return newPrograms(t) })
	w.RunAlone(time.Now().Add(lasts))
}

// onCPU puts the calling thread on a CPU, where there is one of that number.
func onCPU(n int) func() {
	return func() {
		var one unix.CPUSet
		one.Set(n)
		_ = unix.SchedSetaffinity(0, &one)
	}
}

// TestC26ForgedSegments is that of package dataplane with the programs themselves.
func TestC26ForgedSegments(t *testing.T) {
	n := 1 << 12
	if m, err := strconv.Atoi(os.Getenv("VSWITCH_FORGED")); err == nil {
		n = m
	}
	defer labtest.OneCPU(t)()
	w := switchtest.NewTwins(t, uint64(time.Now().UnixNano()), func(*atomic.Int64) switchtest.Side { return newPrograms(t) })
	w.Withstand(n)
}
