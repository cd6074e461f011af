package port_test

import (
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/vswitch/vswitch/dataplane/frame"
	"github.com/vswitch/vswitch/dataplane/port"
	"github.com/vswitch/vswitch/internal/netlab"
	"github.com/vswitch/vswitch/internal/netlab/labtest"
)

// mirror is two packet ports on the two ends of a veth pair, or a TAP and a
// packet socket on it: what one sends the other receives.
type mirror struct {
	near, far port.Port
	b         frame.Batch
	a         *port.Arena
	tx        *port.Tx
	frames    []*frame.Frame
}

func newMirror(near, far port.Port, n, size int) *mirror {
	m := &mirror{near: near, far: far, a: port.NewArena(), tx: port.NewTx()}
	for i := range n {
		m.frames = append(m.frames, &frame.Frame{Buf: append(make([]byte, frame.Headroom), testFrame(size, i)...)})
	}
	return m
}

// super makes the frames TCP super-frames.
func (m *mirror) super() *mirror {
	for _, f := range m.frames {
		copy(f.Data()[12:], []byte{8, 0})
		tcpSegment(f.Data()[14:])
		f.Offload = frame.Offload{
			Csum: frame.CsumPartial, CsumStart: 14 + 20, CsumOffset: 16,
			GSOType: frame.GSOTCPv4, GSOSize: 1448, HdrLen: 14 + 20 + 20,
		}
	}
	return m
}

// receive takes what was sent. It returns the number of frames.
func (m *mirror) receive(t testing.TB) int {
	for range 1000 {
		m.b.Begin(frame.Unlimited)
		m.a.Reset()
		if err := m.far.Receive(&m.b, m.a); err != nil {
			t.Fatal(err)
		}
		m.far.Release()
		if m.b.N > 0 {
			return m.b.N
		}
		time.Sleep(time.Microsecond)
	}
	return 0
}

func packetPair(t testing.TB, mtu int) (near, far *port.Packet) {
	w := newWire(t, labtest.New(t, "switch"), "p0", mtu)
	other := &wire{sw: w.host, ifname: "eth0"}
	var err error
	other.index, err = w.host.Index("eth0")
	must(t, err)
	return w.open(t, port.PacketConfig{}), other.open(t, port.PacketConfig{})
}

func tapPair(t testing.TB) (tap *port.TAP, far *port.Packet) {
	host := labtest.New(t, "host")
	tap = openTAP(t, host, port.TAPConfig{Name: "vsw0"})
	must(t, host.Sysctl("ipv6.conf.vsw0.disable_ipv6", "1"))
	must(t, host.SetUp("vsw0"))
	w := &wire{sw: host, ifname: "vsw0"}
	var err error
	w.index, err = host.Index("vsw0")
	must(t, err)
	return tap, w.open(t, port.PacketConfig{})
}

func TestNoAllocs(t *testing.T) {
	packets := func(t testing.TB) (port.Port, port.Port) { return packetPair(t, 9000) }
	for _, c := range []struct {
		name string
		pair func(testing.TB) (near, far port.Port)
		size int
	}{
		{"packet, small", packets, 60},
		{"packet, large", packets, 5000},
		{"tap, receive", func(t testing.TB) (port.Port, port.Port) {
			tap, far := tapPair(t)
			return far, tap
		}, 60},
		{"tap, send", func(t testing.TB) (port.Port, port.Port) { return tapPair(t) }, 60},
	} {
		t.Run(c.name, func(t *testing.T) {
			near, far := c.pair(t)
			m := newMirror(near, far, 8, c.size)
			got, runs := 0, 0
			turn := func() {
				runs++
				if n := near.Send(m.tx, m.frames); n != 8 {
					t.Fatalf("sent %d, want 8", n)
				}
				got += m.receive(t)
			}
			if n := testing.AllocsPerRun(100, turn); n != 0 {
				t.Errorf("%v allocations per turn, want 0", n)
			}
			if got < 8*(runs-1) {
				t.Errorf("received %d, sent %d: the turns were not whole", got, 8*runs)
			}
			// The last ones may be under way still.
			idle := func() {
				m.b.Begin(frame.Unlimited)
				m.a.Reset()
				must(t, far.Receive(&m.b, m.a))
				far.Release()
				must(t, far.Check())
			}
			if n := testing.AllocsPerRun(100, idle); n != 0 {
				t.Errorf("%v allocations per idle Receive and Check, want 0", n)
			}
		})
	}
}

// One operation is a batch of 64 frames sent on one end and received on the
// other.
func BenchmarkBatch(b *testing.B) {
	bench := func(b *testing.B, near, far port.Port, size int, super bool) {
		m := newMirror(near, far, 64, size)
		if super {
			m.super()
		}
		b.SetBytes(int64(64 * size))
		b.ReportAllocs()
		got, sent := 0, 0
		var sending time.Duration
		for b.Loop() {
			start := time.Now()
			n := near.Send(m.tx, m.frames)
			sending += time.Since(start)
			sent += n
			for end := got + n; got < end; {
				k := m.receive(b)
				if got += k; k == 0 {
					break
				}
			}
		}
		b.ReportMetric(float64(sending.Nanoseconds())/float64(max(sent, 1)), "send-ns/frame")
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(max(got, 1)), "ns/frame")
		b.ReportMetric(float64(sent-got)/float64(max(sent, 1)), "lost")
	}
	for _, c := range []struct {
		size  int
		super bool
	}{{60, false}, {1514, false}, {60000, true}} {
		b.Run(fmt.Sprintf("packet/%d", c.size), func(b *testing.B) {
			p, q := packetPair(b, 1500)
			bench(b, p, q, c.size, c.super)
		})
		b.Run(fmt.Sprintf("tap-send/%d", c.size), func(b *testing.B) {
			p, q := tapPair(b)
			bench(b, p, q, c.size, c.super)
		})
		b.Run(fmt.Sprintf("tap-receive/%d", c.size), func(b *testing.B) {
			p, q := tapPair(b)
			bench(b, q, p, c.size, c.super)
		})
	}
}

func BenchmarkIdle(b *testing.B) {
	p, _ := packetPair(b, 1500)
	tap, _ := tapPair(b)
	for _, c := range []struct {
		name string
		p    port.Port
	}{{"packet", p}, {"tap", tap}} {
		b.Run(c.name+"/check", func(b *testing.B) {
			for b.Loop() {
				must(b, c.p.Check())
			}
		})
		b.Run(c.name+"/receive", func(b *testing.B) {
			batch, a := new(frame.Batch), port.NewArena()
			batch.Begin(frame.Unlimited)
			for b.Loop() {
				must(b, c.p.Receive(batch, a))
			}
		})
	}
}

// Opening waits for an RCU grace period, a prepared socket does not; closing
// waits for two.
func BenchmarkOpen(b *testing.B) {
	labtest.Need(b)
	cfg := port.PacketConfig{Ifindex: 1, Name: "lo"}
	pool := port.NewPool(1, 0, nil)
	defer pool.Close()
	for _, c := range []struct {
		name string
		open func(port.PacketConfig) (*port.Socket, error)
	}{{"alone", port.OpenSocket}, {"pool", pool.Open}} {
		b.Run(c.name, func(b *testing.B) {
			var opening, closing time.Duration
			for b.Loop() {
				time.Sleep(30 * time.Millisecond) // attaches come one by one
				start := time.Now()
				p, err := c.open(cfg)
				must(b, err)
				opened := time.Now()
				must(b, p.Close())
				opening += opened.Sub(start)
				closing += time.Since(opened)
			}
			b.ReportMetric(float64(opening.Microseconds())/float64(b.N), "open-µs")
			b.ReportMetric(float64(closing.Microseconds())/float64(b.N), "close-µs")
		})
	}
}

// Resident memory of 100 ports.
func BenchmarkMemory(b *testing.B) {
	rss := func() int {
		text, err := os.ReadFile("/proc/self/statm")
		must(b, err)
		var size, pages int
		fmt.Sscan(string(text), &size, &pages)
		return pages * os.Getpagesize()
	}
	sw := labtest.New(b, "switch")
	must(b, netlab.Veth(sw, "p0", sw, "p1", 0))
	index, err := sw.Index("p0")
	must(b, err)
	for b.Loop() {
		before := rss()
		var ports []*port.Packet
		must(b, sw.Do(func() error {
			for range 100 {
				p, err := port.OpenPacket(port.PacketConfig{Ifindex: index, Name: "p0"})
				if err != nil {
					return err
				}
				ports = append(ports, p)
			}
			return nil
		}))
		b.ReportMetric(float64(rss()-before)/100/1024, "KiB/port")
		for _, p := range ports {
			must(b, p.Close())
		}
	}
}
