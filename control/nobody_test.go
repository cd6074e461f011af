package control

import (
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/internal/netlab"
	"github.com/vswitch/vswitch/internal/netlab/labtest"
	"github.com/vswitch/vswitch/internal/talk"
)

// holdTAPs keeps the carrier of the networks' devices by a queue of their own.
func (r *rig) holdTAPs() (release func()) {
	r.t.Helper()
	var held []int
	release = sync.OnceFunc(func() {
		for _, fd := range held {
			unix.Close(fd)
		}
	})
	err := r.world.Host.Do(func() error {
		for _, name := range r.hostLinks() {
			if !strings.HasPrefix(name, "vs-") {
				continue
			}
			fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
			if err != nil {
				return err
			}
			held = append(held, fd)
			ifr, err := unix.NewIfreq(name)
			if err != nil {
				return err
			}
			ifr.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI | unix.IFF_VNET_HDR | unix.IFF_MULTI_QUEUE)
			if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, ifr); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil || len(held) == 0 {
		release()
		r.t.Fatalf("%d devices are held: %v", len(held), err)
	}
	return release
}

// impatient has the kernel of a namespace ask for its neighbours every few seconds, and give up
// soon.
func impatient(t testing.TB, ns *netlab.NS) {
	t.Helper()
	links, err := ns.Links()
	if err != nil {
		t.Fatal(err)
	}
	for _, link := range links {
		for _, family := range []string{"ipv4", "ipv6"} {
			for key, value := range map[string]string{
				"base_reachable_time_ms": "1000", "delay_first_probe_time": "1", "retrans_time_ms": "300", "mcast_solicit": "3", "ucast_solicit": "3",
			} {
				if err := ns.Sysctl(family+"/neigh/"+link+"/"+key, value); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
}

// forget empties the tables of neighbours of a namespace.
func forget(t testing.TB, ns *netlab.NS) {
	t.Helper()
	for _, family := range []string{"-4", "-6"} {
		if out, err := ns.Command("ip", family, "neigh", "flush", "all").CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
}

// TestNobodyThere kills the daemon. For as long as nobody is there every flow that the kernel
// carried goes on without one tick lost, connections between containers begin, no other frame
// passes, and nothing of ours reaches the host's stack. Neighbours are forgotten at once, and asked for every few seconds. VSWITCH_NOBODY
// is how long (10 s).
func TestNobodyThere(t *testing.T) {
	lasts := 10 * time.Second
	if d, err := time.ParseDuration(os.Getenv("VSWITCH_NOBODY")); err == nil {
		lasts = d
	}
	r := newRig(t)
	r.cfg.IPv6 = true
	worldIsUp(t, r)
	r.start()
	l := talk.New(t, r.world, r.Client)
	d := l.Attach(t, r.Client, api.Attach{Name: "d"}) // nobody has ever asked for it
	all := r.talks(l, func(talk.Kind, string) bool { return true })
	reached := func(int) int { return 0 }
	if hasTCX(t) && !withoutTCX {
		reached = labtest.CountFrames(t, r.world.Host, "eth0")
	}
	release := r.holdTAPs()
	defer release()
	for _, ns := range []*netlab.NS{l.A, l.B, l.C, l.Host} {
		impatient(t, ns)
	}
	r.kill()
	for _, ns := range []*netlab.NS{l.A, l.B, l.C, l.Host} {
		forget(t, ns)
	}
	before := make([]int64, len(all))
	for i, k := range all {
		before[i] = k.Heard()
	}
	until := time.Now().Add(lasts)
	begins := func(err error) bool { return err == nil }
	for _, unknown := range []struct {
		what string
		from *netlab.NS
		to   string
		want func(error) bool
	}{
		{"a new connection between containers", l.A, join(l.Addrs(l.B)[0], talk.Port), begins},
		{"one to a neighbour that is not known", l.A, join(l.Addrs(d)[0], talk.Port), begins},
		{"one to that by IPv6", l.A, join(l.Addrs(d)[1], talk.Port), begins},
		{"one of the host to that", l.Host, join(l.Addrs(d)[0], talk.Port), begins},
		{"one to the host", l.A, join(l.Gateways()[0], talk.Port), os.IsTimeout},
		{"one to the world", l.A, join(netlab.OutsideAddr6, talk.Port), os.IsTimeout},
		{"one to a published port", l.Outside, join(netlab.HostAddr6, talk.Published), os.IsTimeout},
	} {
		c, err := unknown.from.Dial("tcp", unknown.to, time.Second)
		if !unknown.want(err) {
			t.Errorf("%s: %v", unknown.what, err)
		}
		if err == nil {
			c.Close()
		}
	}
	if _, err := fetch(r.world.Outside, join(netlab.HostAddr, "7081")); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("a port of nobody: %v, want connection refused by the host", err)
	}
	time.Sleep(time.Until(until)) // what is lost in this time is the test
	for i, k := range all {
		eventually(t, "it goes on: "+k.What, func() bool { return k.Ended() || k.Heard() > before[i]+int64(lasts/time.Second) })
		if err := k.End(); err != nil {
			t.Errorf("%s: %v", k.What, err)
		}
	}
	for _, l4 := range []int{8, 20, 32} { // UDP, TCP without and with timestamps
		for _, ip := range []int{20, 40} {
			if n := reached(14 + ip + l4 + talk.Size); n > 0 {
				t.Errorf("%d frames of %d bytes reached the host's stack by the uplink", n, 14+ip+l4+talk.Size)
			}
		}
	}
	// Connections end while nobody is there.
	for _, k := range all {
		if c, ok := k.Conn.(*net.TCPConn); ok {
			c.CloseWrite()
			c.SetReadDeadline(time.Now().Add(20 * time.Second))
			if n, err := c.Read(make([]byte, 1)); n != 0 || err != io.EOF {
				t.Errorf("%s: the end: %d, %v, want EOF", k.What, n, err)
			}
		}
	}
	release()
	r.start()
	eventually(t, "new connections are made", func() bool {
		c, err := r.world.Outside.Dial("tcp", join(netlab.HostAddr, talk.Published), 2*time.Second)
		if err == nil {
			c.Close()
		}
		return err == nil
	})
}
