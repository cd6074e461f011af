package relay_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/vswitch/vswitch/control/anyport"
	"github.com/vswitch/vswitch/control/kernel"
	"github.com/vswitch/vswitch/control/relay"
	"github.com/vswitch/vswitch/dataplane/flowmap"
	"github.com/vswitch/vswitch/internal/netlab"
	"github.com/vswitch/vswitch/internal/netlab/labtest"
)

func TestMain(m *testing.M) {
	labtest.Enter()
	goleak.VerifyTestMain(m)
}

const (
	container4, container6 = "10.1.0.2", "fd00:1::2"
	absent4                = "10.1.0.77" // nobody has it
)

// locals are addresses of the host by which a port published everywhere is
// reached from the host.
var locals = []string{"127.0.0.1", "127.9.9.9", netlab.HostAddr, "10.1.0.1", "::1", netlab.HostAddr6, "fd00:1::1"}

// lab is a host with a container behind a veth, and a relay.
type lab struct {
	*netlab.World
	t         testing.TB
	k         *kernel.Kernel
	container *netlab.NS
	relay     *relay.Relay

	mu      sync.Mutex
	resolve func(proto uint8, local netip.AddrPort) (netip.AddrPort, bool)
}

func newLab(t testing.TB, cfg relay.Config) *lab { return newLabWith(t, cfg, nil) }

// newHost is the lab without a relay.
func newHost(t testing.TB) *lab {
	labtest.NeedBPF(t)
	l := &lab{t: t, World: labtest.NewWorld(t), container: labtest.New(t, "container")}
	for _, err := range []error{
		netlab.Veth(l.Host, "c0", l.container, "eth0", 1500),
		l.Host.AddAddr("c0", "10.1.0.1/24"), l.Host.AddAddr("c0", "fd00:1::1/64"), l.Host.SetUp("c0"),
		l.container.AddAddr("eth0", container4+"/24"), l.container.AddAddr("eth0", container6+"/64"), l.container.SetUp("eth0"),
		l.container.AddRoute("default", "10.1.0.1", "eth0"),
		l.container.AddRoute("default", "fd00:1::1", "eth0"),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, addr := range append([]string{container4, container6}, locals...) {
		l.await(addr)
	}
	var err error
	if l.k, err = kernel.Open(kernel.Config{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.k.Close() })
	return l
}

// newLabWith is newLab; change, unless nil, is called in the host's namespace before the relay
// is made.
func newLabWith(t testing.TB, cfg relay.Config, change func(*relay.Config) error) *lab {
	l := newHost(t)
	cfg.Resolve = func(proto uint8, local netip.AddrPort) (netip.AddrPort, bool) {
		l.mu.Lock()
		defer l.mu.Unlock()
		return l.resolve(proto, local)
	}
	cfg.Dial = func(ctx context.Context, network, addr string) (c net.Conn, err error) {
		err = l.Host.Do(func() error {
			var d net.Dialer
			d.SetMultipathTCP(false)
			c, err = d.DialContext(ctx, network, addr)
			return err
		})
		return c, err
	}
	cfg.Failing = func(err error) { t.Error(err) }
	err := l.Host.Do(func() error {
		if change != nil {
			if err := change(&cfg); err != nil {
				return err
			}
		}
		r, steering, err := serve(l.k, cfg)
		if err != nil {
			return err
		}
		l.relay = r
		t.Cleanup(func() {
			if err := errors.Join(steering.Close(), r.Close()); err != nil {
				t.Error(err)
			}
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// serve has a relay serve what is published in the namespace of the calling thread.
func serve(k *kernel.Kernel, cfg relay.Config) (*relay.Relay, io.Closer, error) {
	sockets, err := anyport.Listen(1<<20, nil)
	if err != nil {
		return nil, nil, err
	}
	defer sockets.Close()
	tcp, udp := sockets.FDs()
	steering, err := k.Steer(-1, tcp[0], tcp[1], udp[0], udp[1])
	if err != nil {
		return nil, nil, err
	}
	families, err := anyport.Families(sockets.Files())
	if err != nil {
		return nil, nil, errors.Join(err, steering.Close())
	}
	r := relay.New(cfg, families)
	r.Serve()
	return r, steering, nil
}

// await returns when the host can reach addr. The kernel enters the routes of
// IPv6 addresses some time after a link has come up.
func (l *lab) await(addr string) {
	l.t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for {
		_, err := l.Host.Dial("tcp", join(addr, 1), 100*time.Millisecond)
		if errors.Is(err, unix.ECONNREFUSED) {
			return
		}
		if time.Now().After(deadline) {
			l.t.Fatalf("%s: got %v, want %v", addr, err, unix.ECONNREFUSED)
		}
	}
}

// publish leads a port on every address of the host to a port of the container.
func (l *lab) publish(proto uint8, port, target uint16) {
	l.leadTo(target)
	l.k.Published().Set(flowmap.WildcardSlot, proto, port)
	l.k.Published().Set(flowmap.WildcardSlot6, proto, port)
}

// leadTo leads every published port to one of the container, in the family of
// the client.
func (l *lab) leadTo(target uint16) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.resolve = func(_ uint8, local netip.AddrPort) (netip.AddrPort, bool) {
		addr := container4
		if local.Addr().Is6() {
			addr = container6
		}
		return netip.AddrPortFrom(netip.MustParseAddr(addr), target), true
	}
}

// leadToNobody leads every published port to an address whose neighbour is known and silent:
// the kernel would give up an unknown one after three seconds.
func (l *lab) leadToNobody() {
	l.t.Helper()
	if err := l.Host.AddNeighbor("c0", absent4, "02:00:00:00:00:77"); err != nil {
		l.t.Fatal(err)
	}
	l.resolveTo(absent4, 80)
}

// resolveTo leads every published port to one address.
func (l *lab) resolveTo(addr string, port uint16) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.resolve = func(uint8, netip.AddrPort) (netip.AddrPort, bool) {
		return netip.AddrPortFrom(netip.MustParseAddr(addr), port), true
	}
}

// serveTCP runs handle for each connection to a port of the container.
func (l *lab) serveTCP(handle func(*net.TCPConn)) (port uint16) {
	l.t.Helper()
	ln, err := l.container.Listen("tcp", ":0")
	if err != nil {
		l.t.Fatal(err)
	}
	var running sync.WaitGroup
	running.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			running.Go(func() {
				defer c.Close()
				handle(c.(*net.TCPConn))
			})
		}
	})
	l.t.Cleanup(func() {
		ln.Close()
		running.Wait()
	})
	return uint16(ln.Addr().(*net.TCPAddr).Port)
}

// echoUDP answers each datagram to a port of the container.
func (l *lab) echoUDP() (port uint16) {
	l.t.Helper()
	c, err := l.container.ListenPacket("udp", ":0")
	if err != nil {
		l.t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		b := make([]byte, 65535)
		for {
			n, from, err := c.ReadFrom(b)
			if err != nil {
				return
			}
			c.WriteTo(b[:n], from)
		}
	}()
	l.t.Cleanup(func() {
		c.Close()
		<-done
	})
	return uint16(c.LocalAddr().(*net.UDPAddr).Port)
}

// dial connects from the host; the connection ends with the test.
func (l *lab) dial(network, addr string, port uint16) net.Conn {
	l.t.Helper()
	c, err := l.Host.Dial(network, join(addr, port), 20*time.Second)
	if err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(20 * time.Second))
	return c
}

func join(addr string, port uint16) string {
	return netip.AddrPortFrom(netip.MustParseAddr(addr), port).String()
}

func echo(c *net.TCPConn) {
	io.Copy(c, c)
	c.CloseWrite()
}
