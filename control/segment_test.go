package control

import (
	"bytes"
	"errors"
	"net"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/internal/netlab"
)

// TestUDPSegmentation sends as QUIC does, many datagrams with one system call,
// which leave a container as one frame where the kernel can describe that.
func TestUDPSegmentation(t *testing.T) {
	r := newRig(t)
	r.start()
	from, _ := r.attach("from", api.Attach{})
	to, ct := r.attach("to", api.Attach{})
	// A frame of this size does not wait for the next hop's MAC.
	serve(t, r.world.Outside, ":9000", "outside")
	wantFetch(t, from, netlab.FarAddr+":9000", "outside", netlab.HostAddr)
	for _, way := range []struct {
		name     string
		from, to *netlab.NS
		addr     string
	}{
		{"between containers", from, to, addr(ct) + ":5000"},
		{"to the host", from, r.world.Host, "10.88.0.1:5000"},
		{"from the host", r.world.Host, to, addr(ct) + ":5000"},
		{"to the outside", from, r.world.Outside, netlab.FarAddr + ":5000"},
	} {
		t.Run(way.name, func(t *testing.T) {
			const size, count = 1000, 40
			l, err := way.to.ListenPacket("udp", ":5000")
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			c, err := way.from.Dial("udp", way.addr, time.Second)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			raw, err := c.(*net.UDPConn).SyscallConn()
			if err == nil {
				err = errors.Join(raw.Control(func(fd uintptr) {
					err = unix.SetsockoptInt(int(fd), unix.IPPROTO_UDP, unix.UDP_SEGMENT, size)
				}), err)
			}
			if err != nil {
				t.Fatal(err)
			}
			want := make([]byte, size*count)
			for i := range want {
				want[i] = byte(i / size)
			}
			if _, err := c.Write(want); err != nil {
				t.Fatal(err)
			}
			l.SetReadDeadline(time.Now().Add(20 * time.Second))
			var got []byte
			for b := make([]byte, 2*size); len(got) < len(want); {
				n, _, err := l.ReadFrom(b)
				if err != nil {
					t.Fatalf("%d datagrams of %d have come: %v", len(got)/size, count, err)
				}
				if n != size {
					t.Fatalf("datagram of %d bytes, want %d", n, size)
				}
				got = append(got, b[:n]...)
			}
			if !bytes.Equal(got, want) {
				t.Error("the datagrams are not those that were sent, or not in their order")
			}
		})
	}
}
