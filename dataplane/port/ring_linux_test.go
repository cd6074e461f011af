package port_test

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"testing"

	"github.com/vswitch/vswitch/dataplane/frame"
	"github.com/vswitch/vswitch/dataplane/header"
	"github.com/vswitch/vswitch/dataplane/port"
	"github.com/vswitch/vswitch/internal/netlab/labtest"
)

// Small frames come from the ring and large ones from the receive queue; the
// order is that of the wire.
func TestPacketKeepsOrderAcrossSizes(t *testing.T) {
	w := newWire(t, labtest.New(t, "switch"), "p0", 9000)
	p := w.open(t, port.PacketConfig{})
	r := newRaw(t, w.host, "eth0")
	rng := rand.New(rand.NewPCG(1, 2))
	sizes := []int{14, 15, 60, 64, 1514, 1965, 1966, 1967, 1968, 2048, 9014}
	var want [][]byte
	for i := range 2000 {
		size := sizes[rng.IntN(len(sizes))]
		if i >= len(sizes) {
			size = max(16, size)
		} else {
			size = sizes[i]
		}
		want = append(want, testFrame(max(size, 16), i))
	}
	var got [][]byte
	for i := 0; i < len(want); i += 100 {
		for _, f := range want[i : i+100] {
			r.send(f)
		}
		got = append(got, collect(t, p, 100)...)
	}
	if len(got) != len(want) {
		t.Fatalf("got %d frames, want %d; kernel drops %d, invalid %d", len(got), len(want), p.KernelDrops(), p.InvalidDrops())
	}
	for i := range want {
		if !bytes.Equal(got[i], want[i]) {
			t.Fatalf("frame %d: got %d bytes % x..., want %d bytes % x...", i, len(got[i]), got[i][:18], len(want[i]), want[i][:18])
		}
	}
}

// The kernel takes the outer VLAN tag out of a received frame; the port puts it
// back, into small frames in the ring and into super-frames from the queue.
func TestVLANTagComesBack(t *testing.T) {
	w := newWire(t, labtest.New(t, "switch"), "p0", 1500)
	received := witness(t, w)
	p := w.open(t, port.PacketConfig{})
	sender := &wire{sw: w.host, ifname: "eth0"}
	var err error
	sender.index, err = w.host.Index("eth0")
	must(t, err)
	out := sender.open(t, port.PacketConfig{})

	tagged := func(size int, tags ...uint16) *frame.Frame {
		data := testFrame(size, 1)
		for i, tpid := range tags {
			binary.BigEndian.PutUint16(data[12+4*i:], tpid)
			binary.BigEndian.PutUint16(data[14+4*i:], 0xA007+uint16(i))
		}
		binary.BigEndian.PutUint16(data[12+4*len(tags):], 0x88B5)
		return &frame.Frame{Buf: append(make([]byte, frame.Headroom), data...)}
	}
	super := tagged(40000, header.TypeVLAN)
	tcpSegment(super.Data()[18:])
	binary.BigEndian.PutUint16(super.Data()[16:], header.TypeIPv4)
	super.Offload = frame.Offload{
		Csum: frame.CsumPartial, CsumStart: 18 + 20, CsumOffset: 16,
		GSOType: frame.GSOTCPv4, GSOSize: 1448, HdrLen: 18 + 20 + 20,
	}
	partial := tagged(200, header.TypeVLAN)
	partial.Offload = frame.Offload{Csum: frame.CsumPartial, CsumStart: 38, CsumOffset: 16}
	want := []*frame.Frame{
		tagged(60), tagged(60, header.TypeVLAN), tagged(64, header.TypeQinQ, header.TypeVLAN),
		tagged(1518, header.TypeVLAN), partial, super, tagged(60, header.TypeVLAN),
	}
	if got := out.Send(port.NewTx(), want); got != len(want) {
		t.Fatalf("sent %d, want %d", got, len(want))
	}
	received(len(want))
	b := new(frame.Batch)
	b.Begin(frame.Unlimited)
	must(t, p.Receive(b, port.NewArena()))
	defer p.Release()
	if b.N != len(want) {
		t.Fatalf("got %d frames, want %d; invalid %d", b.N, len(want), p.InvalidDrops())
	}
	for i, f := range want {
		got := &b.Frames[i]
		if !bytes.Equal(got.Data(), f.Data()) {
			t.Errorf("frame %d: got %d bytes % x..., want %d bytes % x...", i, got.Len(), got.Data()[:24], f.Len(), f.Data()[:24])
		}
		got.Offload.HdrLen, f.Offload.HdrLen = 0, 0 // a hint: the kernel says what is linear
		if got.Offload != f.Offload {
			t.Errorf("frame %d: got %+v, want %+v", i, got.Offload, f.Offload)
		}
	}
}

// tcpSegment makes b an IPv4 packet with TCP, as far as the kernel looks at one
// that it passes on unsegmented.
func tcpSegment(b []byte) {
	copy(b, []byte{0x45, 0, byte(len(b) >> 8), byte(len(b)), 0, 1, 0x40, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2})
	copy(b[20:], []byte{0, 80, 0, 81, 0, 0, 0, 1, 0, 0, 0, 1, 0x50, 0x10, 1, 0, 0, 0, 0, 0})
}

func TestF14RingOverflowIsCountedExactly(t *testing.T) {
	for _, c := range []struct {
		name        string
		slots, size int
	}{{"small", 32, 60}, {"large", 32, 5000}} {
		t.Run(c.name, func(t *testing.T) {
			w := newWire(t, labtest.New(t, "switch"), "p0", 9000)
			received := witness(t, w)
			p := w.open(t, port.PacketConfig{Slots: c.slots})
			r := newRaw(t, w.host, "eth0")
			const sent = 500
			for i := range sent {
				r.send(testFrame(c.size, i))
			}
			received(sent)
			got := collect(t, p, sent)
			if len(got) != c.slots {
				t.Errorf("delivered %d, want the %d of the ring", len(got), c.slots)
			}
			for range 2 { // the kernel's counter falls to zero when read
				if drops := p.KernelDrops(); int(drops)+len(got) != sent {
					t.Errorf("delivered %d, dropped %d, sent %d", len(got), drops, sent)
				}
			}
			r.send(testFrame(c.size, 7))
			if got := collect(t, p, 1); len(got) != 1 {
				t.Error("no frame after the overflow")
			}
		})
	}
}

// A large frame that found a slot but no room in the receive buffer is lost as
// well, and none after it is taken for it.
func TestFullReceiveBufferIsCounted(t *testing.T) {
	w := newWire(t, labtest.New(t, "switch"), "p0", 65535)
	received := witness(t, w)
	p := w.open(t, port.PacketConfig{Slots: 1024})
	r := newRaw(t, w.host, "eth0")
	const sent = 600
	for i := range sent {
		r.send(testFrame(60000, i))
	}
	received(sent)
	got := collect(t, p, sent)
	drops := p.KernelDrops()
	if len(got)+int(drops) != sent || drops == 0 {
		t.Errorf("delivered %d, dropped %d, sent %d, want some dropped", len(got), drops, sent)
	}
	for i, f := range got {
		number := int(binary.BigEndian.Uint16(f[14:]))
		if !bytes.Equal(f, testFrame(60000, number)) {
			t.Fatalf("frame %d is not frame %d as sent", i, number)
		}
	}
}
