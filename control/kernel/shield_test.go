package kernel

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vswitch/vswitch/control/host"
	"github.com/vswitch/vswitch/dataplane/header"
	"github.com/vswitch/vswitch/internal/netlab"
	"github.com/vswitch/vswitch/internal/netlab/labtest"
)

// uplink is a host with a shielded uplink and a tap on it, seen from outside.
type uplink struct {
	*netlab.World
	k       *Kernel
	ifindex int
	tap     int // AF_PACKET socket with the filter
}

func newUplink(t *testing.T) *uplink { return uplinkOf(t, open(t)) }

func uplinkOf(t *testing.T, k *Kernel) *uplink {
	u := &uplink{k: k, World: labtest.NewWorld(t)}
	var err error
	if u.ifindex, err = u.Host.Index("eth0"); err != nil {
		t.Fatal(err)
	}
	err = u.Host.Do(func() (err error) {
		u.tap, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(u.tap) })
	err = errors.Join(
		unix.SetsockoptInt(u.tap, unix.SOL_SOCKET, unix.SO_ATTACH_BPF, u.k.FilterFD()),
		unix.Bind(u.tap, &unix.SockaddrLinklayer{Protocol: 0x0300 /* ETH_P_ALL */, Ifindex: u.ifindex}),
		unix.SetsockoptTimeval(u.tap, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: 300_000}),
	)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// attachments are the two ways to attach the shield.
var attachments = []struct {
	name   string
	attach func(k *Kernel, ifindex int) (io.Closer, error)
}{
	{"tcx", func(k *Kernel, ifindex int) (io.Closer, error) {
		return tcxShield{k, ifindex}, k.ShieldUplink(ifindex)
	}},
	{"cls_bpf", func(k *Kernel, ifindex int) (io.Closer, error) {
		h, err := host.New()
		if err != nil {
			return nil, err
		}
		if err := h.AddShield(ifindex, k.ShieldFD(), "test"); err != nil {
			return nil, errors.Join(err, h.Close())
		}
		return filterShield{h}, nil
	}},
}

// tcxShield and filterShield are shields that a test removes.
type tcxShield struct {
	k       *Kernel
	ifindex int
}

func (s tcxShield) Close() error {
	_, err := RemoveShield(s.k.owner, s.ifindex)
	return err
}

type filterShield struct{ *host.Host }

func (s filterShield) Close() error {
	_, err := s.RemoveShields("test")
	return errors.Join(err, s.Host.Close())
}

// bothWays runs a test with the shield attached in either way.
func bothWays(t *testing.T, test func(t *testing.T, u *uplink, attach func() (io.Closer, error))) {
	for _, a := range attachments {
		t.Run(a.name, func(t *testing.T) {
			u := newUplink(t)
			attach := func() (c io.Closer, err error) {
				err = u.Host.Do(func() (err error) {
					c, err = a.attach(u.k, u.ifindex)
					return err
				})
				return c, err
			}
			c, err := attach()
			if errors.Is(err, ErrNoTCX) {
				labtest.SkipOldKernel(t, 6, 6, err.Error())
			}
			if err == nil {
				err = u.Host.Do(c.Close)
			}
			if err != nil {
				t.Fatal(err)
			}
			test(t, u, attach)
		})
	}
}

// next is the next frame the tap delivers, nil when none comes.
func (u *uplink) next(t *testing.T) []byte {
	t.Helper()
	b := make([]byte, 2048)
	n, err := unix.Read(u.tap, b)
	for err == unix.EINTR { // a timeout forbids the kernel to go on by itself (signal(7))
		n, err = unix.Read(u.tap, b)
	}
	if err == unix.EAGAIN {
		return nil
	}
	if err != nil {
		t.Fatal(err)
	}
	return b[:n]
}

// await is next for a frame that has to come, on a busy machine too.
func (u *uplink) await(t *testing.T) (frame []byte) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); frame == nil && time.Now().Before(deadline); {
		frame = u.next(t)
	}
	return frame
}

const (
	silence = 300 * time.Millisecond // after which nobody answers
	answer  = 20 * time.Second       // within which one comes on any machine
)

func (u *uplink) dial(network, addr string, port int, patience time.Duration) error {
	c, err := u.Outside.Dial(network, fmt.Sprintf("%s:%d", addr, port), patience)
	if err == nil {
		c.Close()
	}
	return err
}

func TestShieldedUplink(t *testing.T) { bothWays(t, testShieldedUplink) }

func testShieldedUplink(t *testing.T, u *uplink, attach func() (io.Closer, error)) {
	for _, f := range []struct{ addr, host string }{
		{netlab.HostAddr, netlab.HostAddr}, {netlab.HostAddr6, "[" + netlab.HostAddr6 + "]"},
	} {
		t.Run(f.addr, func(t *testing.T) {
			l, err := u.Host.Listen("tcp", f.host+":7000")
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			// IPv6 addresses are usable some time after a link has come up.
			for deadline := time.Now().Add(answer); ; {
				err := u.dial("tcp", f.host, 8080, silence)
				if errors.Is(err, unix.ECONNREFUSED) {
					break
				}
				if time.Now().After(deadline) {
					t.Fatalf("before the claim: got %v, want the host's %v", err, unix.ECONNREFUSED)
				}
			}
			slot := mustSlot(t, u.k, f.addr)
			u.k.Published().Set(slot, header.ProtoTCP, 8080)
			u.k.Published().Set(slot, header.ProtoUDP, 8053)
			shield, err := attach()
			if err != nil {
				t.Fatal(err)
			}

			if err := u.dial("tcp", f.host, 8080, silence); !os.IsTimeout(err) {
				t.Errorf("claimed: got %v, want silence of the host", err)
			}
			if b := u.await(t); !bytes.Contains(b, []byte{8080 >> 8, 8080 & 0xff}) {
				t.Errorf("claimed: the tap got % x, want the SYN", b)
			}
			for u.next(t) != nil { // retransmissions
			}
			if err := u.dial("tcp", f.host, 7000, answer); err != nil {
				t.Errorf("the host's own listener: %v", err)
			}
			if err := u.dial("tcp", f.host, 8081, answer); !errors.Is(err, unix.ECONNREFUSED) {
				t.Errorf("unclaimed: got %v, want %v", err, unix.ECONNREFUSED)
			}
			if b := u.next(t); b != nil {
				t.Errorf("the tap got a frame of the host: % x", b)
			}

			// The outside would hear of a closed UDP port by ICMP.
			c, err := u.Outside.Dial("udp", f.host+":8053", time.Second)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			c.Write([]byte("query"))
			c.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
			if _, err := c.Read(make([]byte, 9)); !os.IsTimeout(err) {
				t.Errorf("claimed UDP port: got %v, want silence", err)
			}
			if b := u.await(t); b == nil || string(b[len(b)-5:]) != "query" {
				t.Errorf("claimed UDP port: the tap got % x", b)
			}

			if err := u.Host.Do(shield.Close); err != nil {
				t.Fatal(err)
			}
			if err := u.dial("tcp", f.host, 8080, answer); !errors.Is(err, unix.ECONNREFUSED) {
				t.Errorf("shield closed: got %v, want the host's %v", err, unix.ECONNREFUSED)
			}
			for u.next(t) != nil {
			}
		})
	}
}

// TestTapIgnoresTheHost claims ports that the host itself uses: what it sends is
// not ours even so.
func TestTapIgnoresTheHost(t *testing.T) {
	u := newUplink(t)
	u.k.Opened().Set(mustSlot(t, u.k, netlab.OutsideAddr), header.ProtoUDP, 9)
	c, err := u.Host.Dial("udp", netlab.OutsideAddr+":9", time.Second)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.Write([]byte("out"))
	if b := u.next(t); b != nil {
		t.Errorf("the tap got what the host sent: % x", b)
	}
}

// TestShortFrames sends frames that end within the headers of IP, which a test
// run of a program refuses.
func TestShortFrames(t *testing.T) { bothWays(t, testShortFrames) }

func testShortFrames(t *testing.T, u *uplink, attach func() (io.Closer, error)) {
	if _, err := attach(); err != nil {
		t.Fatal(err)
	}
	mac, err := u.Host.MAC("eth0")
	if err != nil {
		t.Fatal(err)
	}
	for _, addr := range []string{netlab.HostAddr, netlab.HostAddr6} {
		u.k.Published().Set(mustSlot(t, u.k, addr), header.ProtoUDP, 8053)
	}
	index, err := u.Outside.Index("eth0")
	if err != nil {
		t.Fatal(err)
	}
	var out int
	err = u.Outside.Do(func() (err error) {
		out, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(out)
	for _, f := range []struct {
		frame  []byte
		enough int // bytes after which the port is known
	}{
		{eth(ip4(peer4, netlab.HostAddr, udp(53, 8053))), 14 + 20 + 4},
		{eth(ip6(peer6, netlab.HostAddr6, udp(53, 8053))), 14 + 40 + 4},
	} {
		f.frame = patch(f.frame, 0, mac...)
		// AF_PACKET itself wants a header and a byte.
		for n := 15; n <= len(f.frame); n++ {
			if err := unix.Sendto(out, f.frame[:n], 0, &unix.SockaddrLinklayer{Ifindex: index}); err != nil {
				t.Fatalf("%d bytes: %v", n, err)
			}
		}
		for n := f.enough; n <= len(f.frame); n++ {
			if b := u.await(t); len(b) != n {
				t.Errorf("the tap got %d bytes, want %d", len(b), n)
			}
		}
	}
	if b := u.next(t); b != nil {
		t.Errorf("the tap got one more: % x", b)
	}
}
