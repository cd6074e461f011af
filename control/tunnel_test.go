package control

import (
	"crypto/sha256"
	"errors"
	"io"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/internal/netlab"
)

// The two ends of the lab's tunnel.
const (
	tunnelHere, tunnelThere   = "10.9.0.1", "10.9.0.2"
	tunnelHere6, tunnelThere6 = "fd09::1", "fd09::2"
)

// tunnel joins two namespaces by a TUN device vpn0 in each, as a VPN in userspace does: the test
// carries the packets. With offload they are super-packets with unfinished checksums.
func tunnel(t *testing.T, a, b *netlab.NS, offload bool) {
	t.Helper()
	open := func(ns *netlab.NS, addr, addr6 string) *os.File {
		var f *os.File
		err := ns.Do(func() error {
			fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
			if err != nil {
				return err
			}
			ifr, err := unix.NewIfreq("vpn0")
			if err != nil {
				return errors.Join(err, unix.Close(fd))
			}
			flags := uint16(unix.IFF_TUN | unix.IFF_NO_PI)
			if offload {
				flags |= unix.IFF_VNET_HDR
			}
			ifr.SetUint16(flags)
			if err = unix.IoctlIfreq(fd, unix.TUNSETIFF, ifr); err == nil && offload {
				err = unix.IoctlSetInt(fd, unix.TUNSETOFFLOAD, unix.TUN_F_CSUM|unix.TUN_F_TSO4|unix.TUN_F_TSO6)
			}
			if err != nil {
				return errors.Join(err, unix.Close(fd))
			}
			f = os.NewFile(uintptr(fd), "vpn0")
			return nil
		})
		for _, err := range []error{err, ns.AddAddr("vpn0", addr+"/24"), ns.AddAddr("vpn0", addr6+"/64"), ns.SetUp("vpn0")} {
			if err != nil {
				t.Fatal(err)
			}
		}
		return f
	}
	x, y := open(a, tunnelHere, tunnelHere6), open(b, tunnelThere, tunnelThere6)
	var all sync.WaitGroup
	for _, way := range [][2]*os.File{{x, y}, {y, x}} {
		all.Go(func() {
			p := make([]byte, 1<<17)
			for {
				n, err := way[0].Read(p)
				if err != nil {
					return
				}
				_, _ = way[1].Write(p[:n])
			}
		})
	}
	t.Cleanup(func() { x.Close(); y.Close(); all.Wait() })
}

// TestTunnelAsUplink: an interface that speaks IP alone is a way out as any other, by auto too: masqueraded,
// published, of both families, with super-packets, and after a kill.
func TestTunnelAsUplink(t *testing.T) {
	for name, offload := range map[string]bool{"plain": false, "offload": true} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			tunnel(t, r.world.Host, r.world.Outside, offload)
			r.run("ip", "route", "replace", "default", "dev", "vpn0")
			r.run("ip", "-6", "route", "del", "default")
			r.run("ip", "-6", "route", "add", "default", "dev", "vpn0")
			r.start()
			serve(t, r.world.Outside, ":9000", "outside")
			serve(t, r.world.Host, ":7000", "host")
			r.createDual("dual")
			web, _ := r.attach("web", api.Attach{Networks: []api.Connect{{Network: "dual"}}, Publish: []string{"8080:80", "8081:81"}})
			serve(t, web, ":80", "web")
			for _, phase := range []string{"running", "after a kill"} {
				eventually(t, phase+": out by the tunnel", func() bool { return leavesFrom(web) == tunnelHere })
				wantFetch(t, web, join(netlab.FarAddr6, "9000"), "outside", tunnelHere6)
				wantFetch(t, r.world.Outside, tunnelHere+":8080", "web", tunnelThere)
				wantFetch(t, r.world.Outside, join(tunnelHere6, "8080"), "web", tunnelThere6)
				wantFetch(t, r.world.Outside, tunnelHere+":7000", "host", tunnelThere)
				bulk(t, web, r.world.Outside, tunnelThere+":9100")
				bulk(t, r.world.Outside, web, tunnelHere+":8081")
				if phase == "running" {
					r.restart("SIGKILL")
				}
			}
		})
	}
}

// bulk sends 4 MiB from one namespace to another, where at is a port of the other itself.
func bulk(t *testing.T, from, to *netlab.NS, at string) {
	t.Helper()
	_, port, _ := strings.Cut(at, ":")
	listen := ":" + port
	if port == "8081" { // published
		listen = ":81"
	}
	l, err := to.Listen("tcp", listen)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	sent := make([]byte, 4<<20)
	for i := range sent {
		sent[i] = byte(i * 7 >> 3)
	}
	got := make(chan [32]byte, 1)
	go func() {
		defer close(got)
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(20 * time.Second))
		h := sha256.New()
		_, _ = io.Copy(h, c)
		got <- [32]byte(h.Sum(nil))
	}()
	c, err := from.Dial("tcp", at, 5*time.Second)
	if err != nil {
		t.Errorf("%s to %s: %v", from.Name(), at, err)
		return
	}
	c.SetDeadline(time.Now().Add(20 * time.Second))
	_, err = c.Write(sent)
	c.Close()
	if sum := <-got; err != nil || sum != sha256.Sum256(sent) {
		t.Errorf("%s to %s: what arrives is not what was sent (%v)", from.Name(), at, err)
	}
}

// TestEgressByATunnel: one container leaves by a tunnel that is nobody else's way, and when that is gone
// nothing leaves by another.
func TestEgressByATunnel(t *testing.T) {
	r := newRig(t)
	tunnel(t, r.world.Host, r.world.Outside, false)
	r.start()
	serve(t, r.world.Outside, ":9000", "outside")
	plain, _ := r.attach("plain", api.Attach{})
	dev, _ := r.egress("dev", "dev=vpn0")
	eventually(t, "dev leaves by the tunnel", func() bool { return leavesFrom(dev) == tunnelHere })
	eventually(t, "plain leaves beside it", func() bool { return leavesFrom(plain) == netlab.HostAddr })
	r.run("ip", "link", "set", "vpn0", "down")
	eventually(t, "dev leaves no more", func() bool { return leavesFrom(dev) == "" })
	for range 3 {
		if got := leavesFrom(dev); got != "" {
			t.Errorf("dev leaves from %s, and its way is gone", got)
		}
	}
	r.run("ip", "link", "set", "vpn0", "up")
	eventually(t, "dev leaves by the tunnel again", func() bool { return leavesFrom(dev) == tunnelHere })
}

// TestVPNByRules: with the rules of wg-quick containers leave by the tunnel, to the LAN beside it, and by a mark
// that they do not have no other way; a way that is forbidden is none. It goes for flows of before as well.
func TestVPNByRules(t *testing.T) {
	r := newRig(t)
	tunnel(t, r.world.Host, r.world.Outside, false)
	r.start()
	serve(t, r.world.Outside, ":9000", "outside")
	web, _ := r.attach("web", api.Attach{Publish: []string{"8080:80"}})
	serve(t, web, ":80", "web")
	eventually(t, "out without a VPN", func() bool { return leavesFrom(web) == netlab.HostAddr })
	r.run("ip", "route", "add", "default", "dev", "vpn0", "table", "51820")
	r.run("ip", "rule", "add", "prio", "101", "not", "fwmark", "0xca6c", "lookup", "51820")
	r.run("ip", "rule", "add", "prio", "100", "lookup", "main", "suppress_prefixlength", "0")
	for _, phase := range []string{"running", "after a kill"} {
		eventually(t, phase+": out by the tunnel", func() bool { return leavesFrom(web) == tunnelHere })
		eventually(t, phase+": beside it on the link", func() bool { return seenFrom(web, netlab.OutsideAddr) == netlab.HostAddr })
		eventually(t, phase+": a published port answers", func() bool {
			got, err := fetchFast(r.world.Outside, netlab.HostAddr+":8080")
			return err == nil && strings.HasPrefix(got, "web ")
		})
		if phase == "running" {
			r.restart("SIGKILL")
		}
	}
	r.run("ip", "route", "add", "prohibit", "default", "table", "77")
	r.run("ip", "rule", "add", "prio", "50", "fwmark", "0x7", "lookup", "77")
	for range 3 {
		eventually(t, "a rule for another mark changes nothing", func() bool { return leavesFrom(web) == tunnelHere })
	}
	r.run("ip", "rule", "add", "prio", "51", "from", "10.88.0.0/16", "to", netlab.FarAddr, "lookup", "77")
	eventually(t, "what is prohibited has no way", func() bool { return leavesFrom(web) == "" })
	r.run("ip", "rule", "del", "prio", "51")
	eventually(t, "out by the tunnel again", func() bool { return leavesFrom(web) == tunnelHere })
}
