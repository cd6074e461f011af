package porttest

import (
	"bytes"
	"errors"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/vswitch/vswitch/dataplane/frame"
	"github.com/vswitch/vswitch/dataplane/port"
)

func readable(t *testing.T, fd int) bool {
	t.Helper()
	fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	n, err := unix.Poll(fds, 0)
	if err != nil {
		t.Fatal(err)
	}
	return n > 0
}

func batch() *frame.Batch {
	b := new(frame.Batch)
	b.Begin(frame.Unlimited)
	return b
}

func TestFramesAreBorrowed(t *testing.T) {
	p, a, b := New("p"), port.NewArena(), batch()
	defer p.Close()
	small, large := bytes.Repeat([]byte{7}, 60), bytes.Repeat([]byte{9}, 40000)
	p.Inject(small, frame.Offload{})
	p.Inject(large, frame.Offload{})
	if !readable(t, p.FD()) {
		t.Error("not readable with frames waiting")
	}
	if err := p.Receive(b, a); err != nil || b.N != 2 {
		t.Fatalf("got %d frames, %v, want 2", b.N, err)
	}
	if readable(t, p.FD()) {
		t.Error("readable with no frames waiting")
	}
	for i, want := range [][]byte{small, large} {
		if got := b.Frames[i].Data(); !bytes.Equal(got, want) {
			t.Errorf("frame %d: got %d bytes of %d, want %d of %d", i, len(got), got[0], len(want), want[0])
		}
	}
	p.Release()
	if got := b.Frames[0].Data()[20]; got != poison {
		t.Errorf("byte of a released frame: got %#x, want %#x", got, poison)
	}
}

func TestSendRefusesLikeTheKernel(t *testing.T) {
	p := New("p")
	defer p.Close()
	mk := func(n int, off frame.Offload) *frame.Frame {
		return &frame.Frame{Buf: make([]byte, frame.Headroom+n), Offload: off}
	}
	frames := []*frame.Frame{
		mk(60, frame.Offload{}),
		mk(60, frame.Offload{Csum: frame.CsumPartial, CsumStart: 59, CsumOffset: 16}),
		mk(61, frame.Offload{}),
		mk(62, frame.Offload{}),
	}
	p.SetRoom(2)
	if got := p.Send(nil, frames); got != 2 {
		t.Errorf("sent %d, want 2", got)
	}
	sent := p.Sent()
	if len(sent) != 2 || len(sent[1]) != 61 {
		t.Errorf("got %d frames, want those of 60 and 61 bytes", len(sent))
	}
	if got := len(p.Sent()); got != 0 {
		t.Errorf("second Sent: got %d frames, want none", got)
	}
}

func TestVanish(t *testing.T) {
	p, a, b := New("p"), port.NewArena(), batch()
	defer p.Close()
	p.Inject(make([]byte, 60), frame.Offload{})
	p.Vanish()
	if err := p.Receive(b, a); err != nil || b.N != 1 {
		t.Errorf("got %d frames, %v, want the last one", b.N, err)
	}
	p.Release()
	b.N = 0
	if !readable(t, p.FD()) {
		t.Error("not readable after the end")
	}
	if err := p.Receive(b, a); !errors.Is(err, port.ErrGone) {
		t.Errorf("got %v, want %v", err, port.ErrGone)
	}
}

func TestNoAllocs(t *testing.T) {
	p, a, b, tx := New("p"), port.NewArena(), batch(), port.NewTx()
	defer p.Close()
	p.SetSink(func([]byte, frame.Offload) {})
	data := make([]byte, 60)
	out := make([]*frame.Frame, 0, 8)
	turn := func() {
		for range 8 {
			p.Inject(data, frame.Offload{})
		}
		b.N = 0
		a.Reset()
		if err := p.Receive(b, a); err != nil || b.N != 8 {
			t.Fatalf("got %d frames, %v, want 8", b.N, err)
		}
		out = out[:0]
		for i := range b.N {
			out = append(out, &b.Frames[i])
		}
		p.Send(tx, out)
		p.Release()
	}
	turn()
	if n := testing.AllocsPerRun(100, turn); n != 0 {
		t.Errorf("%v allocations per turn, want 0", n)
	}
}
