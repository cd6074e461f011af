package control

import (
	"errors"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/control/doctor"
	"github.com/vswitch/vswitch/control/host"
	"github.com/vswitch/vswitch/internal/netlab"
	"github.com/vswitch/vswitch/internal/netlab/labtest"
)

// TestS46ProgramsOnTheWayIn: what others have hung up on the way into a container sees all
// of its frames, also those that the kernel carries from another container and from an uplink,
// from the moment on when an event names it; so does the doctor.
func TestS46ProgramsOnTheWayIn(t *testing.T) {
	run := func(ns *netlab.NS, args ...string) error {
		out, err := ns.Command(args[0], args[1:]...).CombinedOutput()
		if err != nil {
			return errors.New(string(out))
		}
		return nil
	}
	for name, c := range map[string]struct {
		put  func(r *rig, in *netlab.NS, veth string) error
		says string
	}{
		"tc": {func(r *rig, _ *netlab.NS, veth string) error {
			labtest.NeedProgram(t, "tc")
			_ = run(r.world.Host, "tc", "qdisc", "add", "dev", veth, "clsact") // a seal may have brought it
			return run(r.world.Host, "tc", "filter", "add", "dev", veth, "egress", "bpf", "da", "bytecode", "1,6 0 0 2,")
		}, "tc filter bpf"},
		"tcx": {func(r *rig, _ *netlab.NS, veth string) error {
			p := dropAll(t, ebpf.SchedCLS, 2, 0)
			index, err := r.world.Host.Index(veth)
			if err != nil {
				return err
			}
			return r.world.Host.Do(func() error {
				return link.RawAttachProgram(link.RawAttachProgramOptions{Target: index, Program: p, Attach: ebpf.AttachTCXEgress})
			})
		}, "BPF program drop_all"},
		"nftables": {func(r *rig, _ *netlab.NS, veth string) error {
			labtest.NeedProgram(t, "nft")
			return run(r.world.Host, "nft", "table netdev keep { chain out { type filter hook egress device "+veth+" priority 0; policy drop; }; }")
		}, "nftables chain keep out"},
		"xdp": {func(_ *rig, in *netlab.NS, _ string) error {
			return attachXDP(t, in, dropAll(t, ebpf.XDP, 1, 0))
		}, "XDP program"},
		// With it the veth takes larger packets than without any.
		"xdp of packets in fragments": {func(_ *rig, in *netlab.NS, _ string) error {
			return attachXDP(t, in, dropAll(t, ebpf.XDP, 1, unix.BPF_F_XDP_HAS_FRAGS))
		}, "XDP program"},
		"tc filter of a block": {func(r *rig, _ *netlab.NS, veth string) error {
			labtest.NeedProgram(t, "tc")
			_ = run(r.world.Host, "tc", "qdisc", "del", "dev", veth, "clsact") // a seal may have brought it
			if err := run(r.world.Host, "tc", "qdisc", "add", "dev", veth, "egress_block", "77", "clsact"); err != nil {
				return err
			}
			return run(r.world.Host, "tc", "filter", "add", "block", "77", "bpf", "da", "bytecode", "1,6 0 0 2,")
		}, "tc filter bpf"},
	} {
		t.Run(name, func(t *testing.T) {
			labtest.NeedBPF(t)
			if name == "tcx" && !hasTCX(t) {
				labtest.SkipOldKernel(t, 6, 6, "no TCX")
			}
			r := newRig(t)
			r.start()
			in, ct := r.attach("web", api.Attach{Publish: []string{"5353:5353/udp"}})
			from, _ := r.attach("client", api.Attach{})
			socket := listen(t, in, ":5353")
			var streams []net.Conn
			for to, ns := range map[string]*netlab.NS{addr(ct): from, netlab.HostAddr: r.world.Outside} {
				out, err := ns.Dial("udp", to+":5353", time.Second)
				if err != nil {
					t.Fatal(err)
				}
				defer out.Close()
				streams = append(streams, out)
			}
			send := func() {
				for range 20 {
					for _, out := range streams {
						if _, err := out.Write([]byte("news")); err != nil {
							t.Fatal(err)
						}
					}
					time.Sleep(time.Millisecond)
				}
			}
			before := r.stats().Flows.Frames
			eventually(t, "the kernel carries both streams", func() bool {
				send()
				st := r.stats().Flows
				return st.Active >= len(streams) && st.Frames > before+400
			})
			if err := c.put(r, in, ct.Endpoints[0].HostInterface); err != nil {
				if name == "nftables" && strings.Contains(err.Error(), "not supported") {
					labtest.SkipOldKernel(t, 5, 16, "no chains of nftables at the egress")
				}
				t.Fatal(err)
			}
			eventually(t, "an event names it", func() bool {
				send()
				return slices.ContainsFunc(pastEvents(t, r), func(e api.Event) bool {
					return e.Type == api.EventCableProgram && e.Container == "web" && strings.Contains(e.Message, c.says)
				})
			})
			heard(socket) // from before
			before = r.stats().Flows.Frames
			if name == "nftables" { // it sees nothing of what programs redirect
				for range 20 {
					send()
				}
			} else {
				eventually(t, "the kernel carries the streams by way of it", func() bool {
					send()
					return r.stats().Flows.Frames > before+400
				})
			}
			if n := heard(socket); n != 0 {
				t.Errorf("%d datagrams passed by the program after the event", n)
			}
			wantCheck(t, r.examine(true), "programs", doctor.Note, c.says)
		})
	}
}

// attachXDP has the driver of a container's interface run a program.
func attachXDP(t testing.TB, in *netlab.NS, p *ebpf.Program) error {
	t.Helper()
	index, err := in.Index("eth0")
	if err != nil {
		return err
	}
	return in.Do(func() error {
		l, err := link.AttachXDP(link.XDPOptions{Interface: index, Program: p, Flags: link.XDPDriverMode})
		if err == nil {
			t.Cleanup(func() { l.Close() })
		}
		return err
	})
}

func dropAll(t testing.TB, typ ebpf.ProgramType, verdict int32, flags uint32) *ebpf.Program {
	t.Helper()
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: "drop_all", Type: typ, Flags: flags, License: "Dual BSD/GPL", Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, verdict), asm.Return()},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

// heard reads what has come, and what comes within a moment.
func heard(c net.PacketConn) (n int) {
	buf, at := make([]byte, 64), time.Now().Add(50*time.Millisecond)
	for {
		_ = c.SetReadDeadline(at)
		if _, _, err := c.ReadFrom(buf); errors.Is(err, os.ErrDeadlineExceeded) || err != nil {
			return n
		}
		n++
	}
}

// pastEvents are those that the daemon still holds.
func pastEvents(t *testing.T, r *rig) (list []api.Event) {
	t.Helper()
	var zero uint64
	err := r.Events(t.Context(), api.EventQuery{Since: &zero, Once: true}, func(e api.Event) error {
		list = append(list, e)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// TestProgramIsToldAfterTheChange: when an event names a program, the data path knows of it:
// no flow passes by it any more.
func TestProgramIsToldAfterTheChange(t *testing.T) {
	m := newMachine(t).start()
	ct := m.container("web")
	veth := ct.Endpoints[0].HostInterface
	told := func() bool {
		stream, err := m.Events(t.Context(), api.EventQuery{Since: new(uint64), Once: true})
		m.ok(err)
		defer stream.Close()
		list, err := stream.Next(t.Context())
		m.ok(err)
		return slices.ContainsFunc(list, func(e api.Event) bool { return e.Type == api.EventCableProgram })
	}
	for _, program := range []host.Program{{Name: "one"}, {Name: "one", Misses: true}, {}} {
		m.SetProgram(veth, program)
		m.builder.mu.Lock() // no snapshot is made
		done := make(chan error, 1)
		go func() {
			_, err := m.shaping.Programs()
			done <- err
		}()
		m.until("the program is seen", func() bool {
			m.Controller.mu.Lock()
			defer m.Controller.mu.Unlock()
			return m.inv.Containers["web"].Endpoints[0].Program == program
		})
		if program == (host.Program{Name: "one"}) && told() {
			t.Error("an event names it, and flows still pass by it")
		}
		m.builder.mu.Unlock()
		m.ok(<-done)
		if !told() {
			t.Error("no event names it")
		}
	}
}
