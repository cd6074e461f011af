package port_test

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vswitch/vswitch/dataplane/frame"
	"github.com/vswitch/vswitch/dataplane/header"
	"github.com/vswitch/vswitch/internal/netlab/labtest"
)

// TestBigTCP: containers that let their devices make super-packets of more than 64 KiB (BIG TCP),
// which have no length in their IP headers, lose none of them: they leave the port as
// super-frames of the size that every device takes.
func TestBigTCP(t *testing.T) {
	a, b, f := twoContainers(t, nil)
	for _, w := range []*wire{a, b} {
		if err := w.host.SetSuper("eth0", 185000); err != nil {
			labtest.SkipOldKernel(t, 6, 3, err.Error())
		}
	}
	bothWays(t, a, b, f, func(t *testing.T, from *wire) func() {
		big := labtest.LongestFrame(t, from.sw, from.ifname)
		return func() {
			if got := big(); got <= frame.MaxLen {
				t.Fatalf("the longest frame of the container has %d bytes, want more than 64 KiB", got)
			}
			if got := f.longest.Load(); got < 60000 || got > frame.MaxLen {
				t.Errorf("longest frame behind the port %d bytes, want some 64 KiB", got)
			}
		}
	})
}

// TestF32LongestFrames: the length of IPv6 leaves out its header, so that a super-frame may be
// 40 bytes longer than one of IPv4 and still have a length. It goes on as it came: with nothing of what
// other frames left in memory.
func TestF32LongestFrames(t *testing.T) {
	var mu sync.Mutex
	got := make(map[int][]byte)
	a, _, f := twoContainers(t, func(fr *frame.Frame) {
		if fr.Len() > 65000 {
			mu.Lock()
			defer mu.Unlock()
			got[fr.Len()] = bytes.Clone(fr.Data())
		}
	})
	if err := a.host.SetSuper("eth0", 185000); err != nil {
		labtest.SkipOldKernel(t, 6, 3, err.Error())
	}
	r := newRaw(t, a.host, "eth0")
	must(t, unix.SetsockoptInt(r.fd, unix.SOL_PACKET, unix.PACKET_VNET_HDR, 1))
	for i, n := range []int{65540, 65557, 65558, 65572, 65586, 65587, 65589} {
		b := make([]byte, frame.Headroom+n)
		for j := range b {
			b[j] = byte(j/251 + 7*i)
		}
		p := b[frame.Headroom:]
		copy(p, []byte{2, 0, 0, 0, 0, 9, 2, 0, 0, 0, 0, 8, 0x86, 0xdd, 0x60, 0, 0, 0})
		binary.BigEndian.PutUint16(p[18:], uint16(n-54))
		p[20], p[21] = header.ProtoTCP, 64
		copy(p[22:54], append(netip.MustParseAddr("fd00::1").AsSlice(), netip.MustParseAddr("fd00::2").AsSlice()...))
		copy(p[54:74], []byte{0x10, 0, 0x20, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0x50, header.TCPACK, 1, 0, 0, 0, 0, 0})
		frame.EncodeVnetHdr(b, frame.Offload{GSOType: frame.GSOTCPv6, GSOSize: 1448, HdrLen: 74, Csum: frame.CsumPartial, CsumStart: 54, CsumOffset: header.TCPChecksum})
		r.send(b)
		deadline := time.Now().Add(10 * time.Second)
		for {
			mu.Lock()
			was := got[n]
			mu.Unlock()
			if was != nil {
				if !bytes.Equal(was, p) {
					t.Errorf("%d bytes: another frame than was sent", n)
				}
				break
			}
			if time.Now().After(deadline) {
				t.Errorf("%d bytes: not seen; %d frames are refused", n, f.ports[0].InvalidDrops()+f.ports[1].InvalidDrops())
				break
			}
			time.Sleep(5 * time.Millisecond)
		}
	}
}
