package port_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/vswitch/vswitch/dataplane/frame"
	"github.com/vswitch/vswitch/dataplane/port"
	"github.com/vswitch/vswitch/internal/netlab"
	"github.com/vswitch/vswitch/internal/netlab/labtest"
)

func TestMain(m *testing.M) {
	labtest.Enter()
	goleak.VerifyTestMain(m)
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// wire is a veth pair: ifname in the switch's namespace, eth0 in host's.
type wire struct {
	sw, host *netlab.NS
	ifname   string
	index    int
}

// newWire makes a wire on which nobody but the test speaks.
func newWire(t testing.TB, sw *netlab.NS, ifname string, mtu int) *wire {
	t.Helper()
	w := &wire{sw: sw, host: labtest.New(t, "host-"+ifname), ifname: ifname}
	must(t, netlab.Veth(sw, ifname, w.host, "eth0", mtu))
	must(t, sw.Sysctl("ipv6.conf."+ifname+".disable_ipv6", "1"))
	must(t, w.host.Sysctl("ipv6.conf.eth0.accept_dad", "0"))
	must(t, w.host.Sysctl("ipv6.conf.eth0.router_solicitations", "0"))
	must(t, w.host.Sysctl("ipv6.conf.eth0.addr_gen_mode", "1"))
	must(t, sw.SetUp(ifname))
	must(t, w.host.SetUp("eth0"))
	var err error
	w.index, err = sw.Index(ifname)
	must(t, err)
	return w
}

func (w *wire) open(t testing.TB, cfg port.PacketConfig) *port.Packet {
	t.Helper()
	cfg.Ifindex, cfg.Name = w.index, w.ifname
	var p *port.Packet
	must(t, w.sw.Do(func() (err error) {
		p, err = port.OpenPacket(cfg)
		return err
	}))
	t.Cleanup(func() { must(t, p.Close()) })
	return p
}

// raw is a plain packet socket on a device: the independent observer.
type raw struct {
	t  testing.TB
	fd int
}

func newRaw(t testing.TB, ns *netlab.NS, ifname string) *raw {
	t.Helper()
	r := &raw{t: t}
	index, err := ns.Index(ifname)
	must(t, err)
	must(t, ns.Do(func() error {
		r.fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
		return err
	}))
	t.Cleanup(func() { unix.Close(r.fd) })
	must(t, unix.SetsockoptInt(r.fd, unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1))
	if unix.SetsockoptInt(r.fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 64<<20) != nil {
		must(t, unix.SetsockoptInt(r.fd, unix.SOL_SOCKET, unix.SO_RCVBUF, 64<<20))
	}
	must(t, unix.SetsockoptTimeval(r.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 2}))
	must(t, unix.Bind(r.fd, &unix.SockaddrLinklayer{Protocol: 0x0300, Ifindex: index}))
	return r
}

func (r *raw) send(data []byte) {
	r.t.Helper()
	if _, err := unix.Write(r.fd, data); err != nil {
		r.t.Fatalf("send %d bytes: %v", len(data), err)
	}
}

// recv returns the next frame, nil after two seconds without one.
func (r *raw) recv() []byte {
	r.t.Helper()
	buf := make([]byte, 1<<17)
	n, err := unix.Read(r.fd, buf)
	for err == unix.EINTR { // a timeout forbids the kernel to go on by itself (signal(7))
		n, err = unix.Read(r.fd, buf)
	}
	if errors.Is(err, unix.EAGAIN) {
		return nil
	}
	must(r.t, err)
	return buf[:n]
}

// testFrame is a frame of an EtherType for experiments (IEEE 802), so that no
// stack answers: number in the first payload bytes, the rest follows from it.
func testFrame(size, number int) []byte {
	b := make([]byte, size)
	copy(b, []byte{2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x88, 0xB5, byte(number >> 8), byte(number)})
	for i := 16; i < size; i++ {
		b[i] = byte(i*7 + number)
	}
	return b
}

// collect receives until n frames came or nothing more does for a second, and
// returns copies.
func collect(t testing.TB, p port.Port, n int) [][]byte {
	t.Helper()
	var got [][]byte
	b, a := new(frame.Batch), port.NewArena()
	for len(got) < n {
		b.Begin(frame.Unlimited)
		a.Reset()
		must(t, p.Receive(b, a))
		for i := range b.N {
			got = append(got, bytes.Clone(b.Frames[i].Data()))
		}
		p.Release()
		if b.N == 0 && !readable(t, p, time.Second) {
			break
		}
	}
	return got
}

// witness hears each frame that a device receives after a port that is opened later: the result
// waits until all ports have had so many. The device itself counts a frame before it is in any
// socket, which a busy machine may leave to ksoftirqd.
func witness(t testing.TB, w *wire) func(frames int) {
	t.Helper()
	r, heard := newRaw(t, w.sw, w.ifname), 0
	return func(frames int) {
		t.Helper()
		for deadline := time.Now().Add(20 * time.Second); heard < frames; {
			if r.recv() != nil {
				heard++
			} else if time.Now().After(deadline) {
				t.Fatalf("the device received %d frames, want %d", heard, frames)
			}
		}
	}
}

// arrives sends frames from the other end until one arrives: the kernel takes its time to use a
// link that has come up.
func (w *wire) arrives(t testing.TB, p port.Port) bool {
	t.Helper()
	r := newRaw(t, w.host, "eth0")
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); {
		_, _ = unix.Write(r.fd, testFrame(60, 1))
		if readable(t, p, 100*time.Millisecond) {
			got := len(collect(t, p, 1))
			for readable(t, p, 50*time.Millisecond) { // those that were sent again
				collect(t, p, 1)
			}
			return got == 1
		}
	}
	return false
}

func readable(t testing.TB, p port.Port, d time.Duration) bool {
	t.Helper()
	fds := []unix.PollFd{{Fd: int32(p.FD()), Events: unix.POLLIN}}
	for {
		n, err := unix.Poll(fds, int(d.Milliseconds()))
		if err == unix.EINTR {
			continue
		}
		must(t, err)
		return n > 0
	}
}

// forwarder is the least switch there is: what one port receives the other
// sends, in batches.
type forwarder struct {
	poller  *port.Poller
	ports   [2]port.Port
	longest atomic.Int64
	seen    func(f *frame.Frame) // when not nil
	stop    atomic.Bool
	done    sync.WaitGroup
}

func startForwarder(t testing.TB, x, y port.Port, seen func(*frame.Frame)) *forwarder {
	t.Helper()
	poller, err := port.NewPoller()
	must(t, err)
	f := &forwarder{poller: poller, ports: [2]port.Port{x, y}, seen: seen}
	for i, p := range f.ports {
		must(t, poller.Add(uint32(i), p.FD()))
	}
	f.done.Go(f.loop)
	t.Cleanup(func() {
		f.stop.Store(true)
		poller.Wake()
		f.done.Wait()
		poller.Close()
	})
	return f
}

func (f *forwarder) loop() {
	b, a, tx := new(frame.Batch), port.NewArena(), port.NewTx()
	out := make([]*frame.Frame, 0, frame.BatchSize)
	for !f.stop.Load() {
		keys, _ := f.poller.Wait(true, false)
		for _, k := range keys {
			b.Begin(frame.Unlimited)
			a.Reset()
			err := f.ports[k].Receive(b, a)
			if err == nil && b.N == 0 {
				err = f.ports[k].Check()
			}
			if err != nil {
				f.poller.Remove(f.ports[k].FD())
			}
			out = out[:0]
			for i := range b.N {
				fr := &b.Frames[i]
				f.longest.Store(max(f.longest.Load(), int64(fr.Len())))
				if f.seen != nil {
					f.seen(fr)
				}
				out = append(out, fr)
			}
			f.ports[1-k].Send(tx, out)
			f.ports[k].Release()
		}
	}
}

// transfer sends size bytes by TCP from one namespace to the other and compares
// them. It returns the seconds it took.
func transfer(t testing.TB, from, to *netlab.NS, addr string, size int) float64 {
	t.Helper()
	l, err := to.Listen("tcp", addr)
	must(t, err)
	defer l.Close()
	want := make([]byte, 1<<20)
	for i := range want {
		want[i] = byte(i ^ i>>8 ^ i>>16*13)
	}
	sent := make(chan error, 1)
	start := time.Now()
	go func() {
		c, err := from.Dial("tcp", l.Addr().String(), 20*time.Second)
		if err != nil {
			l.Close()
			sent <- err
			return
		}
		defer c.Close()
		for n := 0; n < size && err == nil; n += len(want) {
			_, err = c.Write(want)
		}
		sent <- err
	}()
	c, err := l.Accept()
	if err != nil {
		t.Fatal(errors.Join(err, <-sent))
	}
	defer c.Close()
	must(t, c.SetDeadline(time.Now().Add(60*time.Second)))
	got := make([]byte, len(want))
	for n := 0; n < size; n += len(want) {
		if _, err := io.ReadFull(c, got); err != nil {
			t.Fatalf("after %d bytes: %v", n, err)
		}
		if !bytes.Equal(got, want) {
			t.Fatalf("the MiB at %d differs", n)
		}
	}
	must(t, <-sent)
	return time.Since(start).Seconds()
}

// snmp returns a counter of /proc/net/snmp, as "Tcp", "InCsumErrors".
func snmp(t testing.TB, ns *netlab.NS, proto, name string) (value int) {
	t.Helper()
	must(t, ns.Do(func() error {
		text, err := os.ReadFile("/proc/thread-self/net/snmp")
		if err != nil {
			return err
		}
		var names [][]byte
		for line := range bytes.Lines(text) {
			cols := bytes.Fields(line)
			if string(cols[0]) != proto+":" {
				continue
			}
			if names == nil {
				names = cols
				continue
			}
			for i, n := range names {
				if string(n) == name {
					_, err = fmt.Sscan(string(cols[i]), &value)
					return err
				}
			}
		}
		return fmt.Errorf("no counter %s %s", proto, name)
	}))
	return value
}

func countFDs(t testing.TB) int {
	t.Helper()
	d, err := os.ReadDir("/proc/self/fd")
	must(t, err)
	return len(d)
}
