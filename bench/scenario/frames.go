package scenario

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"github.com/vswitch/vswitch/bench/gen"
	"github.com/vswitch/vswitch/bench/report"
	"github.com/vswitch/vswitch/internal/netlab"
)

// framePort is the first source port of raw frames.
const framePort = 20009

// settle is how long frames may still be under way when the sender has stopped.
// Every queue between two veth ends is emptied in a fraction of it.
const settle = 50 * time.Millisecond

// frameEnds are the ends of a path for raw frames: who sends them with which
// header, and the interface they are counted at.
type frameEnds struct {
	sender         *netlab.NS
	senderIfname   string
	src, dst       net.HardwareAddr
	from, to       netip.AddrPort
	receiver       *netlab.NS
	receiverIfname string
}

// frameRate sends frames of size bytes as fast as one thread can and counts
// those that arrive.
func frameRate(size int, g goal) Load {
	name := fmt.Sprintf("%d-byte frames", size)
	return Load{
		Name: name,
		Measures: []report.Measure{
			{Name: name, Unit: report.FramesPerSec, Bound: g.docker},
			{Name: name + ": CPU, whole machine", Unit: report.SecondsPerMillion, LowerIsBetter: true, Detail: true},
		},
		Quick: size == 64, plain: g.plain,
		run: func(ctx context.Context, e ends, window time.Duration) ([]float64, error) {
			if e.frames == nil {
				return nil, errNoFrames
			}
			t, err := e.frames.send(ctx, gen.FrameSpec{Size: size}, window)
			if err != nil {
				return nil, err
			}
			return []float64{t.delivered(), t.sent.CPU.Seconds() / (float64(t.arrived) / 1e6)}, nil
		},
	}
}

var errNoFrames = errors.New("raw frames do not take this path")

// trial is the outcome of a stream of frames.
type trial struct {
	sent    gen.Sent
	arrived uint64
}

func (t trial) delivered() float64 { return float64(t.arrived) / t.sent.Elapsed.Seconds() }

// loss is the part of the frames that did not arrive. The kernels' own frames,
// neighbours and groups, are counted at the receiver too.
func (t trial) loss() float64 {
	return max(0, 1-float64(t.arrived)/float64(t.sent.Frames))
}

// send fills in the ends of spec and sends it.
func (f *frameEnds) send(ctx context.Context, spec gen.FrameSpec, window time.Duration) (t trial, err error) {
	spec.Ifname, spec.Src, spec.Dst, spec.From, spec.To = f.senderIfname, f.src, f.dst, f.from, f.to
	sink, err := openSink(f.receiver, f.receiverIfname)
	if err != nil {
		return t, err
	}
	defer sink.Close()
	before, err := f.receiver.Statistics(f.receiverIfname)
	if err != nil {
		return t, err
	}
	if t.sent, err = gen.Frames(ctx, f.sender, spec, window); err != nil {
		return t, err
	}
	time.Sleep(settle)
	after, err := f.receiver.Statistics(f.receiverIfname)
	if err != nil {
		return t, err
	}
	t.arrived = after.RxPackets - before.RxPackets
	if t.arrived == 0 {
		return t, fmt.Errorf("%d-byte frames: none of %d arrived", spec.Size, t.sent.Frames)
	}
	return t, nil
}

// sink drops the IPv4 packets that an interface receives before any protocol
// sees them, so that the receiver's own stack costs as little as it can. A
// device's counters have been advanced by then. ARP goes by: without it the
// sender's way here would end.
type sink struct {
	prog *ebpf.Program
	link link.Link
}

func openSink(ns *netlab.NS, ifname string) (*sink, error) {
	const (
		next, drop = -1, 2 // TCX_NEXT, TCX_DROP
		protocol   = 16    // of struct __sk_buff, in network byte order
	)
	var ipv4 [4]byte
	binary.BigEndian.PutUint16(ipv4[:], unix.ETH_P_IP)
	prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: "bench_sink",
		Type: ebpf.SchedCLS,
		Instructions: asm.Instructions{
			asm.LoadMem(asm.R1, asm.R1, protocol, asm.Word),
			asm.Mov.Imm(asm.R0, drop),
			asm.JEq.Imm(asm.R1, int32(binary.NativeEndian.Uint32(ipv4[:])), "end"),
			asm.Mov.Imm(asm.R0, next),
			asm.Return().WithSymbol("end"),
		},
		License: "Apache-2.0",
	})
	if err != nil {
		return nil, fmt.Errorf("sink on %s: %w", ifname, err)
	}
	s := &sink{prog: prog}
	index, err := ns.Index(ifname)
	if err == nil {
		// The kernel looks the index up in the namespace of the calling thread.
		err = ns.Do(func() error {
			s.link, err = link.AttachTCX(link.TCXOptions{Interface: index, Program: prog, Attach: ebpf.AttachTCXIngress})
			return err
		})
	}
	if err != nil {
		prog.Close()
		return nil, fmt.Errorf("sink on %s: TCX, Linux 6.6 and later: %w", ifname, err)
	}
	return s, nil
}

func (s *sink) Close() error { return errors.Join(s.link.Close(), s.prog.Close()) }
