package port_test

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"golang.org/x/sys/unix"

	"github.com/vswitch/vswitch/dataplane/flowmap"
	"github.com/vswitch/vswitch/dataplane/port"
	"github.com/vswitch/vswitch/internal/netlab/labtest"
)

// TestRetake: a process dies wherever it is in the ring, with frames unread or the ring
// full, large ones among them. The next one takes the socket over: what came before it, or
// while nobody listened, is not for it, and what comes after is there once and in order.
func TestRetake(t *testing.T) {
	sw := labtest.New(t, "switch")
	for i, c := range []struct{ read, unread, first int }{
		{0, 0, 1}, {0, 5, 1}, {3, 5, 20}, {31, 0, 2}, {7, 31, 32}, {7, 32, 32}, {40, 70, 1}, {0, 0, 32},
	} {
		t.Run(fmt.Sprintf("%d read %d unread %d at once", c.read, c.unread, c.first), func(t *testing.T) {
			w := newWire(t, sw, fmt.Sprint("p", i), 9000)
			received := witness(t, w)
			far, number := newRaw(t, w.host, "eth0"), 0
			send := func(n int) (sent [][]byte) {
				for range n {
					number++
					f := testFrame(60+number%3*1500, number) // up to more than a slot holds
					far.send(f)
					sent = append(sent, f)
				}
				return sent
			}
			var k *port.Socket
			must(t, sw.Do(func() (err error) {
				k, err = port.OpenSocket(port.PacketConfig{Ifindex: w.index, Name: w.ifname, Slots: 32})
				return err
			}))
			was, err := port.Open(k.Descriptor())
			must(t, err)
			for range c.read {
				send(1)
				if len(collect(t, was, 1)) != 1 {
					t.Fatal("a frame is missing")
				}
			}
			send(c.unread)
			received(number)
			fd, as := k.Kept()
			kept, err := unix.Dup(fd)
			must(t, err)
			must(t, was.Close())
			must(t, k.Close())
			must(t, port.Deafen(kept))
			send(9)
			received(number)

			tally := &flowmap.Tally{In: 70, Taken: 11, Lost: 3}
			cfg := port.PacketConfig{Ifindex: w.index, Name: w.ifname, Tally: tally, FilterFD: acceptAll(t)}
			if _, err := port.Retake(port.PacketConfig{Ifindex: w.index + 1}, kept, as); err == nil {
				t.Error("the socket of another device is taken")
			}
			if _, err := port.Retake(cfg, kept, "0 32"); err == nil {
				t.Error("a socket of another layout is taken")
			}
			k, err = port.Retake(cfg, kept, as)
			must(t, err)
			p, err := port.Open(k.Descriptor())
			must(t, err)
			defer func() { must(t, p.Close()); must(t, k.Close()) }()
			if done := tally.Done(); done != 70 || p.KernelDrops() != 0 {
				t.Errorf("%d of 70 frames are no longer under way, %d were dropped", done, p.KernelDrops())
			}
			for round, n := range []int{c.first, 1, 7, 40} {
				for n > 0 {
					some := min(n, 32)
					n -= some
					want := send(some)
					got := collect(t, p, some)
					if len(got) != some {
						t.Fatalf("round %d: %d of %d frames", round, len(got), some)
					}
					for i := range got {
						if !bytes.Equal(got[i], want[i]) {
							t.Fatalf("round %d: frame %d is another one", round, i)
						}
					}
				}
			}
			if more := collect(t, p, 1); len(more) != 0 {
				t.Errorf("a frame of %d bytes too many", len(more[0]))
			}
		})
	}
}

// acceptAll is a filter that lets everything through.
func acceptAll(t *testing.T) int {
	prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Type: ebpf.SocketFilter, License: "Apache-2.0",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, -1), asm.Return()},
	})
	must(t, err)
	t.Cleanup(func() { prog.Close() })
	return prog.FD()
}
