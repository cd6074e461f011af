package control

import (
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/internal/netlab"
	"github.com/vswitch/vswitch/internal/netlab/labtest"
)

// localhostRig is a daemon with hooks, and a container of both families whose port 80 is published
// at 8080 of TCP and UDP.
type localhostRig struct {
	*rig
	gateway map[bool]string // by whether it is of IPv6
}

func newLocalhostRig(t *testing.T, change ...func(*api.NetworkCreate)) *localhostRig {
	cgroup := labtest.Cgroup(t) // it goes after the daemon
	r := &localhostRig{newRig(t), make(map[bool]string)}
	r.cfg.Cgroup = cgroup
	r.start()
	for _, s := range r.createDual("dual", change...).Subnets {
		r.gateway[strings.Contains(s.Gateway, ":")] = s.Gateway
	}
	r.web("web")
	return r
}

// web attaches a container that serves.
func (r *localhostRig) web(name string, publish ...string) *netlab.NS {
	in := onNetwork("dual")
	in.Publish = publish
	if len(publish) == 0 {
		in.Publish = []string{"8080:80", "8080:80/udp"}
	}
	ns, _ := r.attach(name, in)
	l, err := ns.Listen("tcp", ":80")
	if err != nil {
		r.t.Fatal(err)
	}
	labtest.Serve(r.t, l, func(c net.Conn) {
		fmt.Fprintf(c, "%s %s\n", name, ipOf(c.RemoteAddr()))
		io.Copy(c, c)
	})
	answersWithPeer(r.t, ns, name)
	return ns
}

// answersWithPeer answers datagrams to port 80 as web does connections.
func answersWithPeer(t testing.TB, ns *netlab.NS, name string) {
	c, err := ns.ListenPacket("udp", ":80")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	go func() {
		for b := make([]byte, 2048); ; {
			_, from, err := c.ReadFrom(b)
			if err != nil {
				return
			}
			fmt.Fprintf(writerTo{c, from}, "%s %s\n", name, ipOf(from))
		}
	}()
}

type writerTo struct {
	net.PacketConn
	to net.Addr
}

func (w writerTo) Write(b []byte) (int, error) { return w.WriteTo(b, w.to) }

func ipOf(a net.Addr) string {
	host, _, _ := net.SplitHostPort(a.String())
	return host
}

// open connects from the host and hears who answers, and to whom. led is whether it did so without the
// relay.
func (r *localhostRig) open(network, from, to string) (c net.Conn, answer string, led bool) {
	r.t.Helper()
	d := net.Dialer{Timeout: 20 * time.Second}
	d.SetMultipathTCP(false)
	if from != "" {
		d.LocalAddr = net.Addr(&net.TCPAddr{IP: net.ParseIP(from)})
		if network == "udp" {
			d.LocalAddr = &net.UDPAddr{IP: net.ParseIP(from)}
		}
	}
	err := r.world.Host.Do(func() (err error) {
		c, err = d.Dial(network, to)
		return err
	})
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { c.Close() })
	if got := c.RemoteAddr().String(); got != to {
		r.t.Errorf("%s to %s: the peer is %s", network, to, got)
	}
	answer = r.hear(c)
	for _, g := range r.gateway {
		led = led || ipOf(c.LocalAddr()) == g
	}
	return c, answer, led || from != "" && !strings.HasPrefix(from, "127.") && from != "::1"
}

// hear is what a new connection, or each datagram, is answered.
func (r *localhostRig) hear(c net.Conn) string {
	r.t.Helper()
	b := make([]byte, 100)
	for range 20 {
		c.SetDeadline(time.Now().Add(20 * time.Second))
		if _, ok := c.(*net.UDPConn); ok {
			c.SetDeadline(time.Now().Add(2 * time.Second))
			if _, err := c.Write([]byte("?")); err != nil {
				r.t.Fatal(err)
			}
		}
		n, err := c.Read(b)
		if err == nil {
			return strings.TrimSpace(string(b[:n]))
		}
		if !errors.Is(err, unix.EAGAIN) && !isTimeout(err) {
			r.t.Fatal(err)
		}
	}
	return ""
}

func isTimeout(err error) bool {
	var e net.Error
	return errors.As(err, &e) && e.Timeout()
}

// TestLocalhostIsLed: connections of the host to its published ports arrive at the container without the
// relay, from the gateway or from the address that they are bound to; those for which that cannot be
// go by the relay.
func TestLocalhostIsLed(t *testing.T) {
	for name, change := range map[string]func(*api.NetworkCreate){
		"as it is": func(*api.NetworkCreate) {},
		"without access to the host": func(n *api.NetworkCreate) {
			no := false
			n.HostAccess = &no
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := newLocalhostRig(t, change)
			if info, err := r.Info(t.Context()); err != nil || info.NoConnectHooks != "" {
				t.Fatalf("no hooks: %s, %v", info.NoConnectHooks, err)
			}
			gw4, gw6 := r.gateway[false], r.gateway[true]
			for _, tc := range []struct {
				from, to, asker string
				led             bool
			}{
				{"", "127.0.0.1", gw4, true}, {"", netlab.HostAddr, gw4, true}, {"", "::1", gw6, true}, {"", netlab.HostAddr6, gw6, true},
				{netlab.HostAddr, "127.0.0.1", netlab.HostAddr, true}, {netlab.HostAddr6, "::1", netlab.HostAddr6, true},
				{"127.0.0.1", "127.0.0.1", gw4, false}, {"::1", "::1", gw6, false},
			} {
				for _, network := range []string{"tcp", "udp"} {
					_, answer, led := r.open(network, tc.from, net.JoinHostPort(tc.to, "8080"))
					if want := "web " + tc.asker; answer != want || led != tc.led {
						t.Errorf("%s from %q to %s: %q, led %v, want %q, %v", network, tc.from, tc.to, answer, led, want, tc.led)
					}
				}
			}
			// A container of IPv4 alone.
			r.attach("four", api.Attach{})
			if _, err := r.Publish(t.Context(), "four", []string{"8081:80"}); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// TestN86SocketsOfTheHost: a connected UDP socket of the host is told that its port leads nowhere or elsewhere,
// as is a connection; who asks again reaches the container that has the port now. What went to the container
// itself goes on.
func TestN86SocketsOfTheHost(t *testing.T) {
	r := newLocalhostRig(t)
	ctx := t.Context()
	for _, how := range []string{"unpublish", "detach"} {
		udp, _, led := r.open("udp", "", "127.0.0.1:8080")
		tcp, answer, led6 := r.open("tcp", "", "[::1]:8080")
		if !led || !led6 {
			t.Fatal("they are relayed")
		}
		was, _, _ := strings.Cut(answer, " ")
		ct, err := r.Container(ctx, was)
		if err != nil {
			t.Fatal(err)
		}
		direct, _, _ := r.open("udp", "", net.JoinHostPort(addr(ct), "80"))
		if how == "unpublish" {
			err = r.Unpublish(ctx, was, []string{"8080:80", "8080:80/udp"})
		} else {
			err = r.Detach(ctx, was)
		}
		if err != nil {
			t.Fatal(err)
		}
		next := was + "2"
		r.web(next)
		for what, c := range map[string]net.Conn{"udp": udp, "tcp": tcp} {
			c.SetDeadline(time.Now().Add(10 * time.Second))
			_, err := c.Read(make([]byte, 1))
			if !errors.Is(err, unix.ECONNABORTED) {
				t.Errorf("%s, a socket by %s: %v, want %v", how, what, err, unix.ECONNABORTED)
			}
		}
		if how == "unpublish" {
			if got, _, _ := strings.Cut(r.hear(direct), " "); got != was {
				t.Errorf("the container itself: %q", got)
			}
		}
		for _, network := range []string{"udp", "tcp"} {
			if _, answer, _ := r.open(network, "", "127.0.0.1:8080"); answer != next+" "+r.gateway[false] {
				t.Errorf("%s, asked again by %s: %q", how, network, answer)
			}
		}
	}
}

// TestLocalhostGoesOn: while nobody is there what was led goes on, and who connects waits for the next daemon,
// by the relay; that leads again. A port that moved meanwhile is told.
func TestLocalhostGoesOn(t *testing.T) {
	for _, how := range []string{"SIGKILL", "SIGTERM"} {
		t.Run(how, func(t *testing.T) {
			r := newLocalhostRig(t)
			tcp, _, led := r.open("tcp", "", "127.0.0.1:8080")
			udp, _, ledUDP := r.open("udp", "", "127.0.0.1:8080")
			if !led || !ledUDP {
				t.Fatal("they are relayed")
			}
			free, err := r.world.Host.ListenPacket("udp4", ":0")
			if err != nil {
				t.Fatal(err)
			}
			defer free.Close()
			goOn := func(when string, round int) {
				t.Helper()
				tcp.SetDeadline(time.Now().Add(10 * time.Second))
				b := make([]byte, 100)
				if _, err := tcp.Write([]byte("x")); err != nil {
					t.Fatalf("%s, %d: %v", when, round, err)
				}
				if _, err := io.ReadFull(tcp, b[:1]); err != nil {
					t.Fatalf("%s, %d: %v", when, round, err)
				}
				if got := r.hear(udp); got != "web "+r.gateway[false] {
					t.Fatalf("%s, %d: %q", when, round, got)
				}
				free.WriteTo([]byte("?"), &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 8080})
				free.SetReadDeadline(time.Now().Add(10 * time.Second))
				n, from, err := free.ReadFrom(b)
				if err != nil || from.String() != "127.0.0.1:8080" || !strings.HasPrefix(string(b[:n]), "web ") {
					t.Fatalf("%s, %d: %v answers %q, %v", when, round, from, b[:n], err)
				}
			}
			for i := range 40 { // until the kernel carries them
				goOn("the daemon is there", i)
			}
			if how == "SIGTERM" {
				r.stop()
			} else {
				r.kill()
			}
			for i := range 3 {
				goOn("nobody is there", i)
			}
			waits, err := r.world.Host.Dial("tcp", "127.0.0.1:8080", 5*time.Second)
			if err != nil {
				t.Fatalf("who connects while nobody is there: %v", err)
			}
			defer waits.Close()
			r.start()
			goOn("the next daemon is there", 0)
			if got := r.hear(waits); got != "web "+r.gateway[false] {
				t.Errorf("who connected while nobody was there: %q", got)
			}
			if _, answer, led := r.open("tcp", "", "127.0.0.1:8080"); answer != "web "+r.gateway[false] || !led {
				t.Errorf("afterwards: %q, led %v", answer, led)
			}
			if err := r.Detach(t.Context(), "web"); err != nil {
				t.Fatal(err)
			}
			udp.SetDeadline(time.Now().Add(10 * time.Second))
			if _, err := udp.Read(make([]byte, 100)); !errors.Is(err, unix.ECONNABORTED) {
				t.Errorf("a socket that a daemon before has led: %v, want %v", err, unix.ECONNABORTED)
			}
			r.stop()
			wantNoHooks(t, r.cfg.Cgroup)
		})
	}
}

// wantNoHooks expects a cgroup as if there had been no daemon.
func wantNoHooks(t *testing.T, cgroup string) {
	t.Helper()
	dir, err := unix.Open(cgroup, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(dir)
	for _, at := range []ebpf.AttachType{
		ebpf.AttachCGroupInet4Connect, ebpf.AttachCGroupInet6Connect, ebpf.AttachCGroupUDP4Sendmsg, ebpf.AttachCGroupUDP6Sendmsg,
		ebpf.AttachCGroupUDP4Recvmsg, ebpf.AttachCGroupUDP6Recvmsg, ebpf.AttachCgroupInet4GetPeername, ebpf.AttachCgroupInet6GetPeername,
	} {
		q, err := link.QueryPrograms(link.QueryOptions{Target: dir, Attach: at})
		if err != nil {
			t.Fatal(err)
		}
		if len(q.Programs) > 0 {
			t.Errorf("%v: %d programs are left", at, len(q.Programs))
		}
	}
}

// TestLocalhostWithoutHooks: with --cgroup off everything is relayed, and the daemon says why.
func TestLocalhostWithoutHooks(t *testing.T) {
	r := &localhostRig{newRig(t), make(map[bool]string)}
	r.start()
	for _, s := range r.createDual("dual").Subnets {
		r.gateway[strings.Contains(s.Gateway, ":")] = s.Gateway
	}
	r.web("web")
	info, err := r.Info(t.Context())
	if want := "the daemon was told to use no cgroup"; err != nil || info.NoConnectHooks != want {
		t.Errorf("%q, %v, want %q", info.NoConnectHooks, err, want)
	}
	for _, network := range []string{"tcp", "udp"} {
		if _, answer, led := r.open(network, "", "127.0.0.1:8080"); answer != "web "+r.gateway[false] || led {
			t.Errorf("%s: %q, led %v", network, answer, led)
		}
	}
}
