package relay_test

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/vswitch/vswitch/control/kernel"
	"github.com/vswitch/vswitch/control/relay"
	"github.com/vswitch/vswitch/dataplane/flowmap"
	"github.com/vswitch/vswitch/dataplane/header"
	"github.com/vswitch/vswitch/internal/netlab/labtest"
)

// TestWithoutIPv6 relays on a host that has no IPv6.
func TestWithoutIPv6(t *testing.T) {
	labtest.NeedBPF(t)
	host := labtest.New(t, "host")
	if err := host.Sysctl("ipv6.conf.all.disable_ipv6", "1"); err != nil {
		t.Fatal(err)
	}
	k, err := kernel.Open(kernel.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	k.Published().Set(flowmap.WildcardSlot, header.ProtoTCP, 8080)
	k.Published().Set(flowmap.WildcardSlot6, header.ProtoTCP, 8080)
	var asked netip.AddrPort
	var r *relay.Relay
	var steering io.Closer
	err = host.Do(func() (err error) {
		r, steering, err = serve(k, relay.Config{
			Resolve: func(_ uint8, local netip.AddrPort) (netip.AddrPort, bool) {
				asked = local
				return netip.AddrPort{}, false
			},
		})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	c, err := host.Dial("tcp", "127.0.0.1:8080", 10*time.Second)
	if err == nil {
		c.SetDeadline(time.Now().Add(20 * time.Second))
		io.ReadAll(c)
		c.Close()
	}
	if err := errors.Join(r.Close(), steering.Close()); err != nil {
		t.Fatal(err)
	}
	if want := netip.MustParseAddrPort("127.0.0.1:8080"); asked != want {
		t.Errorf("resolve was asked for %v, want %v", asked, want)
	}
}

// TestWithoutLoopback: a host whose lo was never up, and so has no address, is told the
// way out.
func TestWithoutLoopback(t *testing.T) {
	labtest.Need(t)
	host := labtest.New(t, "host")
	if err := host.DelAddr("lo", "127.0.0.1/8"); err != nil {
		t.Fatal(err)
	}
	err := host.Do(func() error {
		c, err := relay.Start(relay.ClientConfig{})
		if err == nil {
			c.Close(false)
		}
		return err
	})
	if want := "relay: 127.0.0.1 is not there: ip link set lo up"; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

func BenchmarkTCPBulk(b *testing.B) {
	l := newLab(b, relay.Config{})
	chunk := make([]byte, 1<<20)
	l.publish(header.ProtoTCP, 8080, l.serveTCP(func(c *net.TCPConn) {
		for {
			if _, err := c.Write(chunk); err != nil {
				return
			}
		}
	}))
	c, err := l.Host.Dial("tcp", "127.0.0.1:8080", 10*time.Second)
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	b.SetBytes(1 << 20)
	buf := make([]byte, 1<<20)
	for b.Loop() {
		if _, err := io.ReadFull(c, buf); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkTCPRequest connects, sends a byte, gets one and closes.
func BenchmarkTCPRequest(b *testing.B) {
	l := newLab(b, relay.Config{})
	l.publish(header.ProtoTCP, 8080, l.serveTCP(echo))
	buf := make([]byte, 1)
	for b.Loop() {
		c, err := l.Host.Dial("tcp", "127.0.0.1:8080", 10*time.Second)
		if err != nil {
			b.Fatal(err)
		}
		c.Write(buf)
		if _, err := io.ReadFull(c, buf); err != nil {
			b.Fatal(err)
		}
		c.(*net.TCPConn).SetLinger(0) // ports are finite
		c.Close()
	}
}

func BenchmarkUDPPingPong(b *testing.B) {
	l := newLab(b, relay.Config{})
	l.publish(header.ProtoUDP, 5353, l.echoUDP())
	c, err := l.Host.Dial("udp", "127.0.0.1:5353", time.Second)
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	buf := make([]byte, 64)
	for b.Loop() {
		c.Write(buf)
		c.SetReadDeadline(time.Now().Add(20 * time.Second))
		if _, err := c.Read(buf); err != nil {
			b.Fatal(err)
		}
	}
}
