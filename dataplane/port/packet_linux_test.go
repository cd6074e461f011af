package port_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"golang.org/x/sys/unix"

	"github.com/vswitch/vswitch/dataplane/frame"
	"github.com/vswitch/vswitch/dataplane/header"
	"github.com/vswitch/vswitch/dataplane/port"
	"github.com/vswitch/vswitch/internal/netlab"
	"github.com/vswitch/vswitch/internal/netlab/labtest"
)

func TestPacketSendsWhatAnotherSocketReads(t *testing.T) {
	w := newWire(t, labtest.New(t, "switch"), "p0", 9000)
	p := w.open(t, port.PacketConfig{})
	r := newRaw(t, w.host, "eth0")
	var frames []*frame.Frame
	for i := range 150 {
		buf := append(make([]byte, frame.Headroom), testFrame(16+i*50, i)...)
		frames = append(frames, &frame.Frame{Buf: buf})
	}
	if got := p.Send(port.NewTx(), frames); got != len(frames) {
		t.Fatalf("sent %d, want %d", got, len(frames))
	}
	for i, f := range frames {
		if got := r.recv(); !bytes.Equal(got, f.Data()) {
			t.Fatalf("frame %d: got %d bytes, want the %d sent", i, len(got), f.Len())
		}
	}
	if readable(t, p, 50*time.Millisecond) {
		t.Error("the port sees what it sent itself")
	}
}

// twoContainers are joined by a forwarder; both have eth0 with .1 and .2.
func twoContainers(t testing.TB, seen func(*frame.Frame)) (a, b *wire, f *forwarder) {
	t.Helper()
	sw := labtest.New(t, "switch")
	a, b = newWire(t, sw, "p0", 1500), newWire(t, sw, "p1", 1500)
	for w, last := range map[*wire]string{a: "1", b: "2"} {
		must(t, w.host.AddAddr("eth0", "10.0.0."+last+"/24"))
		must(t, w.host.AddAddr("eth0", "fd00::"+last+"/64"))
	}
	return a, b, startForwarder(t, a.open(t, port.PacketConfig{}), b.open(t, port.PacketConfig{}), seen)
}

func TestTCPWithOffloads(t *testing.T) {
	a, b, f := twoContainers(t, nil)
	bothWays(t, a, b, f, func(t *testing.T, _ *wire) func() {
		return func() {
			if got := f.longest.Load(); got < 60000 {
				t.Errorf("longest frame %d bytes, want super-frames of some 64 KiB", got)
			}
		}
	})
}

// bothWays sends much from each container to the other, by IPv4 and by IPv6. Nothing is refused, and
// all checksums are right. around is called before, with who sends, and what it returns after.
func bothWays(t *testing.T, a, b *wire, f *forwarder, around func(t *testing.T, from *wire) (after func())) {
	t.Helper()
	for _, c := range []struct {
		name, addr string
		from, to   *wire
	}{
		{"IPv4", "10.0.0.2:5000", a, b},
		{"IPv6", "[fd00::1]:5000", b, a},
	} {
		t.Run(c.name, func(t *testing.T) {
			f.longest.Store(0)
			after := around(t, c.from)
			const size = 64 << 20
			s := transfer(t, c.from.host, c.to.host, c.addr, size)
			t.Logf("%.1f Gbit/s, longest frame %d", size*8/s/1e9, f.longest.Load())
			after()
			for _, ns := range []*netlab.NS{a.host, b.host} {
				if got := snmp(t, ns, "Tcp", "InCsumErrors"); got != 0 {
					t.Errorf("%s: %d wrong TCP checksums", ns.Name(), got)
				}
			}
		})
	}
	for i, p := range f.ports {
		if got := p.InvalidDrops(); got != 0 {
			t.Errorf("port %d: %d frames refused as invalid", i, got)
		}
	}
}

// Super-frames and partial checksums reach a device that can do neither, and
// come from one that never makes them.
func TestTCPWithoutOffloads(t *testing.T) {
	for _, c := range []struct {
		name  string
		plain func(w *wire) (*netlab.NS, string)
	}{
		{"of the containers", func(w *wire) (*netlab.NS, string) { return w.host, "eth0" }},
		{"of the switch's ends", func(w *wire) (*netlab.NS, string) { return w.sw, w.ifname }},
	} {
		t.Run(c.name, func(t *testing.T) {
			a, b, f := twoContainers(t, nil)
			for _, w := range []*wire{a, b} {
				ns, ifname := c.plain(w)
				must(t, ns.SetOffloads(ifname, false))
			}
			transfer(t, a.host, b.host, "10.0.0.2:5000", 8<<20)
			transfer(t, b.host, a.host, "[fd00::1]:5000", 8<<20)
			t.Logf("longest frame %d", f.longest.Load())
			for _, w := range []*wire{a, b} {
				if got := snmp(t, w.host, "Tcp", "InCsumErrors"); got != 0 {
					t.Errorf("%s: %d wrong TCP checksums", w.host.Name(), got)
				}
			}
		})
	}
}

func TestSendSkipsRefusedFrames(t *testing.T) {
	w := newWire(t, labtest.New(t, "switch"), "p0", 1500)
	p := w.open(t, port.PacketConfig{})
	r := newRaw(t, w.host, "eth0")
	mk := func(size, number int, off frame.Offload) *frame.Frame {
		return &frame.Frame{Buf: append(make([]byte, frame.Headroom), testFrame(size, number)...), Offload: off}
	}
	bad := frame.Offload{Csum: frame.CsumPartial, CsumStart: 4000, CsumOffset: 16}
	frames := []*frame.Frame{
		mk(60, 0, bad), mk(60, 1, frame.Offload{}), mk(60, 2, bad), mk(60, 3, bad),
		mk(4000, 4, frame.Offload{}), // longer than the MTU, and no GSO
		mk(60, 5, frame.Offload{}), mk(60, 6, frame.Offload{GSOType: 77, GSOSize: 100}), mk(60, 7, frame.Offload{}),
	}
	if got := p.Send(port.NewTx(), frames); got != 3 {
		t.Errorf("sent %d, want 3", got)
	}
	for _, want := range []int{1, 5, 7} {
		if got := r.recv(); !bytes.Equal(got, testFrame(60, want)) {
			t.Fatalf("got % x, want frame %d", got, want)
		}
	}
}

func TestSendIntoADownDevice(t *testing.T) {
	w := newWire(t, labtest.New(t, "switch"), "p0", 1500)
	p := w.open(t, port.PacketConfig{})
	frames := []*frame.Frame{{Buf: append(make([]byte, frame.Headroom), testFrame(60, 1)...)}}
	tx := port.NewTx()
	for _, down := range []struct {
		ns     *netlab.NS
		ifname string
	}{{w.host, "eth0"}, {w.sw, "p0"}} {
		must(t, down.ns.SetDown(down.ifname))
		if got := p.Send(tx, frames); got != 0 {
			t.Errorf("%s is down: sent %d, want 0", down.ifname, got)
		}
	}
	must(t, w.host.SetUp("eth0"))
	must(t, w.sw.SetUp("p0"))
	quiet(t, p) // as the owning worker does, woken by the error
	r := newRaw(t, w.host, "eth0")
	if got := p.Send(tx, frames); got != 1 || r.recv() == nil {
		t.Errorf("up again: sent %d, want 1", got)
	}
}

// quiet reports whether the port rests, after one Check has cleared errors.
func quiet(t *testing.T, p port.Port) {
	t.Helper()
	if err := p.Check(); err != nil && !errors.Is(err, port.ErrGone) {
		t.Errorf("Check: %v", err)
	}
	if readable(t, p, 50*time.Millisecond) {
		t.Error("the descriptor stays ready: a worker would spin")
	}
}

func TestDeviceDownAndUp(t *testing.T) {
	w := newWire(t, labtest.New(t, "switch"), "p0", 1500)
	p := w.open(t, port.PacketConfig{})
	for range 2 {
		must(t, w.sw.SetDown("p0"))
		if !readable(t, p, 20*time.Second) {
			t.Error("down wakes nobody")
		}
		quiet(t, p)
		must(t, w.sw.SetUp("p0"))
		if !w.arrives(t, p) {
			t.Error("no frame after the device is up again")
		}
	}
	must(t, w.sw.SetDown("p0"))
	late := w.open(t, port.PacketConfig{})
	quiet(t, late)
	must(t, w.sw.SetUp("p0"))
	if !w.arrives(t, late) {
		t.Error("no frame on a port that was opened while the device was down")
	}
}

func TestDeviceGone(t *testing.T) {
	for _, c := range []struct {
		name   string
		break_ func(t *testing.T, w *wire, p port.Port)
		wakes  bool
	}{
		{"deleted", func(t *testing.T, w *wire, p port.Port) { must(t, w.sw.DelLink("p0")) }, true},
		{"other end deleted", func(t *testing.T, w *wire, p port.Port) { must(t, w.host.DelLink("eth0")) }, true},
		{"other namespace closed", func(t *testing.T, w *wire, p port.Port) { must(t, w.host.Close()) }, true},
		{"moved away", func(t *testing.T, w *wire, p port.Port) {
			cmd := w.sw.Command("ip", "link", "set", "p0", "netns", w.host.Path())
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("ip link set netns: %v: %s", err, out)
			}
		}, true},
		{"deleted while down", func(t *testing.T, w *wire, p port.Port) {
			must(t, w.sw.SetDown("p0"))
			quiet(t, p)
			must(t, w.sw.DelLink("p0"))
		}, false},
		{"error taken by a sender", func(t *testing.T, w *wire, p port.Port) {
			must(t, w.sw.DelLink("p0"))
			f := &frame.Frame{Buf: append(make([]byte, frame.Headroom), testFrame(60, 1)...)}
			for range 2 {
				if got := p.Send(port.NewTx(), []*frame.Frame{f}); got != 0 {
					t.Errorf("sent %d into nothing", got)
				}
			}
		}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWire(t, labtest.New(t, "switch"), "p0", 1500)
			p := w.open(t, port.PacketConfig{})
			c.break_(t, w, p)
			if c.wakes && !readable(t, p, 20*time.Second) {
				t.Error("the end wakes nobody")
			}
			var err error
			for range 2000 { // the error comes some milliseconds before the end
				if err = p.Check(); err != nil {
					break
				}
				time.Sleep(10 * time.Millisecond)
			}
			if !errors.Is(err, port.ErrGone) {
				t.Errorf("got %v, want %v", err, port.ErrGone)
			}
			quiet(t, p)
		})
	}
}

func TestFilterIsOnBeforeTheFirstFrame(t *testing.T) {
	labtest.NeedBPF(t)
	w := newWire(t, labtest.New(t, "switch"), "p0", 1500)
	// Accepts frames whose EtherType is ARP.
	prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Type: ebpf.SocketFilter, License: "Apache-2.0",
		Instructions: asm.Instructions{
			asm.Mov.Reg(asm.R6, asm.R1),
			asm.LoadAbs(12, asm.Half),
			asm.JEq.Imm(asm.R0, int32(header.TypeARP), "accept"),
			asm.Mov.Imm(asm.R0, 0),
			asm.Return(),
			asm.Mov.Imm(asm.R0, -1).WithSymbol("accept"),
			asm.Return(),
		},
	})
	must(t, err)
	r := newRaw(t, w.host, "eth0")
	stop := make(chan struct{})
	var flood atomic.Int64
	go func() {
		for flood.Load() < 20000 {
			select {
			case <-stop:
				return
			default:
				r.send(testFrame(60, 1))
				flood.Add(1)
			}
		}
	}()
	p := w.open(t, port.PacketConfig{FilterFD: prog.FD()})
	must(t, prog.Close())
	arp := testFrame(60, 2)
	binary.BigEndian.PutUint16(arp[12:], header.TypeARP)
	newRaw(t, w.host, "eth0").send(arp)
	got := collect(t, p, 1)
	close(stop)
	if len(got) != 1 || !bytes.Equal(got[0], arp) {
		t.Errorf("got %d frames, want only the one that the filter accepts", len(got))
	}
	if n := collect(t, p, 1); len(n) != 0 {
		t.Errorf("got %d more frames", len(n))
	}
}

func TestOpenErrorsLeakNothing(t *testing.T) {
	labtest.Need(t)
	before := countFDs(t)
	_, err := port.OpenPacket(port.PacketConfig{Ifindex: 4711, Name: "web"})
	if !errors.Is(err, unix.ENODEV) || !strings.HasPrefix(err.Error(), "port web: ") {
		t.Errorf("got %v, want %v that names the port", err, unix.ENODEV)
	}
	if _, err := port.OpenPacket(port.PacketConfig{Ifindex: 1, Name: "web", FilterFD: 999}); err == nil {
		t.Error("a filter that does not exist is taken")
	}
	pool := port.NewPool(3, 0, nil)
	for range 5 {
		p, err := pool.Open(port.PacketConfig{Ifindex: 1, Name: "lo"})
		must(t, err)
		must(t, p.Close())
		must(t, p.Close()) // twice does nothing
	}
	if _, err := pool.Open(port.PacketConfig{Ifindex: 4711, Name: "web"}); !errors.Is(err, unix.ENODEV) {
		t.Errorf("got %v, want %v", err, unix.ENODEV)
	}
	must(t, pool.Close())
	if after := countFDs(t); after != before {
		t.Errorf("%d descriptors before, %d after", before, after)
	}
}

// TestPoolPreparesMany: who opens many gets those that were prepared for them, and the
// threads that waited in the kernel end.
func TestPoolPreparesMany(t *testing.T) {
	labtest.Need(t)
	const many = 40
	fds, tasks := countFDs(t), countTasks(t)
	pool := port.NewPool(1, 0, nil)
	pool.Prepare(many, 32)
	prepared := 0
	for range many + 1 {
		p, err := pool.Open(port.PacketConfig{Ifindex: 1, Name: "lo"})
		must(t, err)
		if p.Descriptor().Slots == 32 {
			prepared++
		}
		must(t, p.Close())
	}
	if prepared != many {
		t.Errorf("%d sockets are of the %d that were prepared", prepared, many)
	}
	must(t, pool.Close())
	if after := countFDs(t); after != fds {
		t.Errorf("%d descriptors before, %d after", fds, after)
	}
	deadline := time.Now().Add(30 * time.Second)
	for countTasks(t) > tasks+many/4 { // others come and go
		if time.Now().After(deadline) {
			t.Fatalf("%d threads before, %d after", tasks, countTasks(t))
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func countTasks(t *testing.T) int {
	t.Helper()
	list, err := os.ReadDir("/proc/self/task")
	must(t, err)
	return len(list)
}
