package others

import (
	"context"
	"net"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vswitch/vswitch/internal/netlab/labtest"
)

func TestMain(m *testing.M) { labtest.Main(m) }

// asUser does what makes a socket as another user: the file is whose the thread is then.
func asUser(t *testing.T, uid int, fn func()) {
	t.Helper()
	be := func(uid int) error {
		_, _, e := syscall.RawSyscall(unix.SYS_SETRESUID, ^uintptr(0), uintptr(uid), ^uintptr(0)) // of this thread only
		if e != 0 {
			return e
		}
		return nil
	}
	if err := be(uid); err != nil {
		labtest.SkipRights(t, "not allowed to be another user: "+err.Error())
	}
	fn()
	if err := be(0); err != nil {
		t.Fatal(err)
	}
}

func TestSocketUsers(t *testing.T) {
	labtest.Need(t)
	host := labtest.New(t, "host")
	err := host.Do(func() error {
		users, err := OpenSocketUsers()
		if err != nil {
			t.Fatal(err)
		}
		defer users.Close()
		for _, tt := range []struct{ network, at, device string }{
			{"tcp4", "127.0.0.1:0", ""}, {"tcp4", "127.0.0.1:0", "lo"}, {"tcp6", "[::1]:0", ""}, {"tcp6", "[::1]:0", "lo"},
			{"udp4", "127.0.0.1:0", ""}, {"udp4", "127.0.0.1:0", "lo"}, {"udp6", "[::1]:0", ""},
		} {
			var client net.Conn
			var closer func()
			var at string
			if tt.network[:3] == "tcp" {
				l, err := net.Listen(tt.network, tt.at)
				if err != nil {
					t.Fatal(err)
				}
				closer, at = func() { l.Close() }, l.Addr().String()
			} else {
				l, err := net.ListenPacket(tt.network, tt.at)
				if err != nil {
					t.Fatal(err)
				}
				closer, at = func() { l.Close() }, l.LocalAddr().String()
			}
			asUser(t, 4242, func() {
				var d net.Dialer
				d.SetMultipathTCP(false)
				d.Control = func(_, _ string, c syscall.RawConn) error {
					if tt.device == "" {
						return nil
					}
					var err error
					c.Control(func(fd uintptr) { err = unix.BindToDevice(int(fd), tt.device) })
					return err
				}
				client, err = d.DialContext(context.Background(), tt.network, at)
			})
			if err != nil {
				t.Fatal(tt.network, err)
			}
			from, to := netip.MustParseAddrPort(client.LocalAddr().String()), netip.MustParseAddrPort(at)
			proto := uint8(unix.IPPROTO_TCP)
			if tt.network[:3] == "udp" {
				proto = unix.IPPROTO_UDP
			}
			if uid, ok := users.Of(proto, from, to); uid != 4242 || !ok {
				t.Errorf("%v: user %d, %v, want 4242", tt, uid, ok)
			}
			client.Close()
			// What a listener at the same port is called is not the answer.
			deadline := time.Now().Add(20 * time.Second)
			for {
				if _, ok := users.Of(proto, from, to); !ok {
					break
				}
				if time.Now().After(deadline) {
					t.Errorf("%v: the socket that was closed is still somebody's", tt)
					break
				}
				time.Sleep(10 * time.Millisecond)
			}
			if uid, ok := users.Of(proto, to, from); tt.network[:3] == "tcp" && ok {
				t.Errorf("%v: the end that nobody has accepted is user %d's", tt, uid)
			}
			closer()
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func BenchmarkSocketUser(b *testing.B) {
	labtest.Need(b)
	err := labtest.New(b, "host").Do(func() error {
		l, err := net.Listen("tcp4", "127.0.0.1:0")
		if err != nil {
			b.Fatal(err)
		}
		defer l.Close()
		c, err := net.Dial("tcp4", l.Addr().String())
		if err != nil {
			b.Fatal(err)
		}
		defer c.Close()
		users, err := OpenSocketUsers()
		if err != nil {
			b.Fatal(err)
		}
		defer users.Close()
		from, to := netip.MustParseAddrPort(c.LocalAddr().String()), netip.MustParseAddrPort(l.Addr().String())
		for b.Loop() {
			if _, ok := users.Of(unix.IPPROTO_TCP, from, to); !ok {
				b.Fatal("not found")
			}
		}
		return nil
	})
	if err != nil {
		b.Fatal(err)
	}
}
