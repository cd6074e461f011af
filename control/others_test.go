package control

import (
	"fmt"
	"net"
	"path/filepath"
	"testing"
	"time"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/control/client"
	"github.com/vswitch/vswitch/internal/netlab"
	"github.com/vswitch/vswitch/internal/netlab/labtest"
)

// TestOthersAtTheUplink: two daemons masquerade to one address. A container of each speaks to the same peer
// from the same port of its own; neither hears the other's answers, and what was there before the second came goes on.
func TestOthersAtTheUplink(t *testing.T) {
	r := newRig(t)
	if withoutTCX || !hasTCX(t) {
		labtest.SkipOldKernel(t, 6, 6, "no TCX: a daemon does not see another's shield")
	}
	r.start()
	echo(t, r.world.Outside, ":7000")
	tellsSource(t, r.world.Outside, ":7001")
	from := func(ns *netlab.NS, port int) net.Conn {
		t.Helper()
		c, err := ns.DialFrom("tcp", fmt.Sprint(":", port), netlab.OutsideAddr+":7000", 30*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c
	}
	// parted reports whether ports of two blocks one after the other do not both stay as they are.
	attempt := 0
	parted := func(ns *netlab.NS) bool {
		attempt++
		time.Sleep(50 * time.Millisecond) // there are few ports
		for _, block := range []int{20032, 20096} {
			c, err := ns.DialFrom("udp", fmt.Sprint(":", block+attempt%64), netlab.OutsideAddr+":7001", time.Second)
			if err != nil {
				t.Fatal(err)
			}
			got := ""
			if _, err = fmt.Fprint(c, "?"); err == nil {
				c.SetReadDeadline(time.Now().Add(10 * time.Second))
				b := make([]byte, 64)
				n, _ := c.Read(b)
				got = string(b[:n])
			}
			c.Close()
			if got != "" && got != fmt.Sprint(block+attempt%64) {
				return true
			}
		}
		return false
	}
	a, _ := r.attach("a", api.Attach{})
	first := from(a, 20000)
	say(t, first, "before")

	r2 := &rig{t: t, world: r.world, cfg: daemonSpec{RunDir: r.cfg.RunDir + "2", StateDir: r.cfg.StateDir + "2"}}
	r2.links, r2.before = r.hostLinks(), r.uplink()
	r2.Client = client.New(filepath.Join(r2.cfg.RunDir, socketName))
	r2.start()
	defer func() {
		r2.kill()
		r2.Client.Close()
	}()
	b, _ := r2.attach("b", api.Attach{})
	for _, ns := range []*netlab.NS{a, b} {
		attempt = 0
		eventually(t, "each has a part of the ports", func() bool { return parted(ns) })
	}
	var conns []net.Conn
	for _, port := range []int{20000, 20001, 20200, 20264, 61100} {
		one := from(b, port)
		say(t, one, "b")
		conns = append(conns, one)
		if port != 20000 {
			two := from(a, port)
			say(t, two, "a")
			conns = append(conns, two)
		}
	}
	for _, c := range append(conns, first) {
		say(t, c, "after")
	}
}

// tellsSource answers each datagram with the port it came from.
func tellsSource(t *testing.T, ns *netlab.NS, at string) {
	t.Helper()
	c, err := ns.ListenPacket("udp", at)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	go func() {
		for b := make([]byte, 64); ; {
			_, from, err := c.ReadFrom(b)
			if err != nil {
				return
			}
			c.WriteTo(fmt.Append(nil, from.(*net.UDPAddr).Port), from)
		}
	}()
}
