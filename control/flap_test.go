package control

import (
	"bufio"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/internal/netlab"
	"github.com/vswitch/vswitch/internal/netlab/labtest"
)

// echoes has a container and the world echo lines, and returns what dials a connection each way, on
// which something was said.
func echoes(t *testing.T, r *rig) (bothWays func() []net.Conn) {
	t.Helper()
	web, _ := r.attach("web", api.Attach{Publish: []string{"8080:80"}})
	echo(t, web, ":80")
	echo(t, r.world.Outside, ":7000")
	return func() (conns []net.Conn) {
		t.Helper()
		for _, c := range []struct {
			from *netlab.NS
			to   string
		}{{web, netlab.OutsideAddr + ":7000"}, {r.world.Outside, netlab.HostAddr + ":8080"}} {
			conn, err := c.from.Dial("tcp", c.to, 30*time.Second)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { conn.Close() })
			say(t, conn, "before")
			conns = append(conns, conn)
		}
		return conns
	}
}

// TestF40UplinkFlaps: an uplink is down for a moment and loses its routes, which come back
// after it. Connections out and to a published port go on, those that the kernel carries and
// those that it does not, also where somebody speaks meanwhile.
func TestF40UplinkFlaps(t *testing.T) {
	for _, named := range []bool{false, true} {
		t.Run(fmt.Sprint("named ", named), func(t *testing.T) {
			r := newRig(t)
			if named {
				r.cfg.Uplinks = []string{"eth0"}
			}
			r.start()
			bothWays := echoes(t, r)
			var conns []net.Conn
			for range 10 {
				conns = append(conns, bothWays()...)
			}
			host := r.world.Host
			if err := host.SetDown("eth0"); err != nil {
				t.Fatal(err)
			}
			for _, c := range conns {
				if _, err := fmt.Fprintln(c, "meanwhile"); err != nil {
					t.Fatal(err)
				}
			}
			time.Sleep(time.Second)
			if err := host.SetUp("eth0"); err != nil {
				t.Fatal(err)
			}
			time.Sleep(300 * time.Millisecond) // the host's network manager
			if out, err := host.Command("ip", "route", "replace", "default", "via", netlab.OutsideAddr).CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			for i, c := range conns {
				if got := hear(t, c); got != "meanwhile" {
					t.Errorf("connection %d: heard %q", i, got)
				}
				say(t, c, "after")
			}
		})
	}
}

// An uplink that is down for a moment loses its IPv6 addresses, which the kernel takes; who manages
// it gives them back. Masqueraded connections go on, while the world speaks all the time.
func TestF40UplinkLosesItsIPv6Addresses(t *testing.T) {
	r := newRig(t)
	r.start()
	ctx := t.Context()
	if _, err := r.CreateNetwork(ctx, api.NetworkCreate{Name: "six", IPv6: yes()}); err != nil {
		t.Fatal(err)
	}
	web, _ := r.attach("web", api.Attach{Networks: []api.Connect{{Network: "six"}}})
	in, err := r.world.Outside.Listen("tcp", net.JoinHostPort(netlab.OutsideAddr6, "7000"))
	if err != nil {
		t.Fatal(err)
	}
	labtest.Serve(t, in, func(c net.Conn) {
		for {
			if _, err := c.Write([]byte("x")); err != nil {
				return
			}
			time.Sleep(2 * time.Millisecond)
		}
	})
	var conns []net.Conn
	for range 10 {
		c, err := web.Dial("tcp", net.JoinHostPort(netlab.OutsideAddr6, "7000"), 30*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		conns = append(conns, c)
	}
	hears := func(during time.Duration) {
		t.Helper()
		end := time.Now().Add(during)
		for i, c := range conns {
			c.SetReadDeadline(time.Now().Add(30 * time.Second))
			for n := 0; n == 0 || time.Now().Before(end); n++ {
				if _, err := c.Read(make([]byte, 4096)); err != nil {
					t.Fatalf("connection %d: %v", i, err)
				}
			}
		}
	}
	hears(100 * time.Millisecond)
	host := r.world.Host
	for range 3 {
		if err := host.SetDown("eth0"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(500 * time.Millisecond)
		if err := host.SetUp("eth0"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(300 * time.Millisecond) // the host's network manager
		for _, args := range [][]string{
			{"-6", "addr", "replace", netlab.HostAddr6 + "/64", "dev", "eth0", "nodad"},
			{"-6", "route", "replace", "default", "via", netlab.OutsideAddr6},
		} {
			if out, err := host.Command("ip", args...).CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
		}
		hears(time.Second)
		hears(0)
	}
}

// An address that goes and comes back, with its routes, as a script or a DHCP client does it, takes
// no connection with it.
func TestF40AddressFlips(t *testing.T) {
	for _, named := range []bool{false, true} {
		t.Run(fmt.Sprint("named ", named), func(t *testing.T) {
			r := newRig(t)
			if named {
				r.cfg.Uplinks = []string{"eth0"}
			}
			r.start()
			conns := echoes(t, r)()
			out, in := conns[0], conns[1]
			for i := range 3 {
				say(t, out, "before")
				say(t, in, "before")
				for _, args := range []string{
					"addr del " + netlab.HostAddr + "/24 dev eth0", "",
					"addr add " + netlab.HostAddr + "/24 dev eth0", "route replace default via " + netlab.OutsideAddr,
				} {
					if args == "" {
						fmt.Fprintln(out, "meanwhile") // nobody hears it now
						time.Sleep(200 * time.Millisecond)
						continue
					}
					if text, err := r.world.Host.Command("ip", strings.Fields(args)...).CombinedOutput(); err != nil {
						t.Fatalf("ip %s: %v: %s", args, err, text)
					}
				}
				if got := hear(t, out); got != "meanwhile" {
					t.Errorf("%d: heard %q", i, got)
				}
				say(t, out, "after")
				say(t, in, "after")
			}
		})
	}
}

// echo answers each line with itself.
func echo(t *testing.T, ns *netlab.NS, addr string) {
	t.Helper()
	l, err := ns.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	labtest.Serve(t, l, func(c net.Conn) {
		for lines := bufio.NewReader(c); ; {
			line, err := lines.ReadString('\n')
			if err != nil {
				return
			}
			fmt.Fprint(c, line)
		}
	})
}

func say(t *testing.T, c net.Conn, text string) {
	t.Helper()
	if _, err := fmt.Fprintln(c, text); err != nil {
		t.Fatal(err)
	}
	if got := hear(t, c); got != text {
		t.Errorf("said %q, heard %q", text, got)
	}
}

// hear returns a line, byte by byte: what comes after it is for the next.
func hear(t *testing.T, c net.Conn) string {
	t.Helper()
	c.SetReadDeadline(time.Now().Add(30 * time.Second))
	var line strings.Builder
	for b := make([]byte, 1); ; {
		if _, err := c.Read(b); err != nil {
			t.Fatalf("%s: %v", c.LocalAddr(), err)
		}
		if b[0] == '\n' {
			return line.String()
		}
		line.WriteByte(b[0])
	}
}
