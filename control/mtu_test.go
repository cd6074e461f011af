package control

import (
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/internal/netlab"
)

// TestF13UplinkMTU: the MTU of the uplink becomes less under traffic. A packet that may not be
// cut is refused with the new MTU, one that may arrives, and when it is back all pass as before.
//
// The last is asked by a socket that heeds no MTU that was heard before.
func TestF13UplinkMTU(t *testing.T) {
	r := newRig(t)
	r.start()
	all := r.ways("tcp", "udp")
	web, _ := r.attach("web", api.Attach{})
	dial := func(discover int) *net.UDPConn {
		t.Helper()
		c, err := web.Dial("udp", netlab.OutsideAddr+":7000", time.Second)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		raw, err := c.(*net.UDPConn).SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		var serr error
		err = raw.Control(func(fd uintptr) { serr = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, discover) })
		if err := errors.Join(err, serr); err != nil {
			t.Fatal(err)
		}
		return c.(*net.UDPConn)
	}
	whole, cut := dial(unix.IP_PMTUDISC_DO), dial(unix.IP_PMTUDISC_DONT)
	passes := func(c *net.UDPConn, size int) func() bool {
		return func() bool {
			if _, err := c.Write(make([]byte, size)); err != nil {
				return false
			}
			c.SetReadDeadline(time.Now().Add(time.Second))
			n, err := c.Read(make([]byte, 2000))
			return err == nil && n == size
		}
	}
	mtu := func(n string) {
		t.Helper()
		for _, ns := range []*netlab.NS{r.world.Host, r.world.Outside} {
			if out, err := ns.Command("ip", "link", "set", "eth0", "mtu", n).CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
		}
	}
	eventually(t, "1500 bytes pass", passes(whole, 1472))
	mtu("1400")
	eventually(t, "1500 bytes are refused", func() bool {
		passes(whole, 1472)()
		out, err := web.Command("ip", "route", "get", netlab.OutsideAddr).Output()
		return err == nil && strings.Contains(string(out), "mtu 1400")
	})
	eventually(t, "1400 bytes pass", passes(whole, 1372))
	eventually(t, "1500 bytes that may be cut pass", passes(cut, 1472))
	goOn(t, all)
	mtu("1500")
	eventually(t, "1500 bytes pass again", passes(dial(unix.IP_PMTUDISC_PROBE), 1472))
	goOn(t, all)
	endAll(t, all)
}
