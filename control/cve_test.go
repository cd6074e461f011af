package control

import (
	"errors"
	"net/http"
	"net/netip"
	"os"

	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/control/client"
	"github.com/vswitch/vswitch/dataplane/header"
	"github.com/vswitch/vswitch/dataplane/switchtest"
	"github.com/vswitch/vswitch/internal/netlab"
	"github.com/vswitch/vswitch/internal/netlab/labtest"
)

// inject sends frames on an interface of a namespace.
func inject(t testing.TB, ns *netlab.NS, ifname string, frames ...[]byte) {
	t.Helper()
	index, err := ns.Index(ifname)
	if err != nil {
		t.Fatal(err)
	}
	err = ns.Do(func() error {
		fd, err := syscall.Socket(syscall.AF_PACKET, syscall.SOCK_RAW|syscall.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer syscall.Close(fd)
		for _, f := range frames {
			if err := syscall.Sendto(fd, f, 0, &syscall.SockaddrLinklayer{Ifindex: index}); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// macs are those of an interface and of its gateway, for frames made by hand.
func macs(t testing.TB, from *netlab.NS, ifname string, gateway string) (src, dst header.MAC) {
	t.Helper()
	m, err := from.MAC(ifname)
	if err != nil {
		t.Fatal(err)
	}
	gw, err := header.ParseMAC(gateway)
	if err != nil {
		t.Fatal(err)
	}
	return header.MAC(m), gw
}

func hostMAC(t testing.TB, r *rig, ifname string) string {
	t.Helper()
	m, err := r.world.Host.MAC(ifname)
	if err != nil {
		t.Fatal(err)
	}
	return m.String()
}

// datagrams counts what a UDP socket receives until the end of the test.
type datagrams struct {
	mu  sync.Mutex
	n   int
	odd int // that askUDP has not sent
}

func (d *datagrams) count() int { d.mu.Lock(); defer d.mu.Unlock(); return d.n }

// strange is count without what askUDP has sent, which asks again on a busy machine.
func (d *datagrams) strange() int { d.mu.Lock(); defer d.mu.Unlock(); return d.odd }

// listenUDP counts and answers datagrams with a name.
func listenUDP(t testing.TB, ns *netlab.NS, at, name string) *datagrams {
	t.Helper()
	c, err := ns.ListenPacket("udp", at)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	d := &datagrams{}
	go func() {
		buf := make([]byte, 2048)
		for {
			n, peer, err := c.ReadFrom(buf)
			if err != nil {
				return
			}
			d.mu.Lock()
			d.n++
			if string(buf[:n]) != "?" {
				d.odd++
			}
			d.mu.Unlock()
			c.WriteTo([]byte(name), peer)
		}
	}()
	return d
}

// askUDP sends a datagram and returns the answer, "" for none.
func askUDP(ns *netlab.NS, at string) string {
	c, err := ns.Dial("udp", at, time.Second)
	if err != nil {
		return ""
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(300 * time.Millisecond))
	c.Write([]byte("?"))
	buf := make([]byte, 2048)
	n, _ := c.Read(buf)
	return string(buf[:n])
}

// wantUDP expects an answer; a datagram may be lost, or late on a busy machine.
func wantUDP(t testing.TB, ns *netlab.NS, at, name string) {
	t.Helper()
	got := ""
	for deadline := time.Now().Add(20 * time.Second); got == "" && time.Now().Before(deadline); {
		got = askUDP(ns, at)
	}
	if got != name {
		t.Errorf("%s asks %s: answered by %q, want %q", ns.Name(), at, got, name)
	}
}

// isInvalid reports whether the daemon found fault with the request itself.
func isInvalid(err error) bool {
	var e *client.Error
	return errors.As(err, &e) && e.Status == http.StatusBadRequest
}

func sysctl(t testing.TB, ns *netlab.NS, key, value string) {
	t.Helper()
	if err := ns.Sysctl(key, value); err != nil {
		t.Fatal(err)
	}
}

func command(t testing.TB, ns *netlab.NS, arg ...string) string {
	t.Helper()
	out, err := ns.Command(arg[0], arg[1:]...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v: %s", strings.Join(arg, " "), err, out)
	}
	return string(out)
}

// The host takes neither address nor route from a container's router
// advertisement, on networks of either family.
func TestC01HostTakesNoRouterAdvertisement(t *testing.T) {
	r := newRig(t)
	r.start()
	if _, err := r.CreateNetwork(t.Context(), api.NetworkCreate{Name: "six", Subnet: "fd00:7::/64"}); err != nil {
		t.Fatal(err)
	}
	four, _ := r.attach("four", api.Attach{})
	six, _ := r.attach("six", api.Attach{Networks: []api.Connect{{Network: "six"}}})
	// No guard stands before this one: the host's device takes none by itself.
	open, _ := r.attach("open", api.Attach{Networks: []api.Connect{{Network: "six", Guard: api.GuardOff}}})
	state := func() string {
		return command(t, r.world.Host, "ip", "-6", "-o", "addr") + command(t, r.world.Host, "ip", "-6", "route", "show", "table", "all")
	}
	before := state()
	eventually(t, "the host's own addresses settle", func() bool {
		was := before
		time.Sleep(500 * time.Millisecond)
		before = state()
		// With the end of duplicate detection an address gets its local route.
		return was == before && !strings.Contains(before, "tentative")
	})
	for _, ns := range []*netlab.NS{four, six, open} {
		mac, err := ns.MAC("eth0")
		if err != nil {
			t.Fatal(err)
		}
		ra := routerAdvertisement(header.MAC(mac))
		inject(t, ns, "eth0", ra, ra, ra)
	}
	time.Sleep(300 * time.Millisecond)
	if after := state(); after != before {
		t.Errorf("the host's IPv6 was\n%s\nand is\n%s", before, after)
	}
}

// routerAdvertisement offers a default router and 2001:db8:bad::/64.
func routerAdvertisement(src header.MAC) []byte {
	ll := netip.AddrFrom16([16]byte{0: 0xfe, 1: 0x80, 8: src[0] ^ 2, 9: src[1], 10: src[2], 11: 0xff, 12: 0xfe, 13: src[3], 14: src[4], 15: src[5]})
	prefix := append([]byte{3, 4, 64, 0xc0, 0, 0, 14, 16, 0, 0, 14, 16, 0, 0, 0, 0}, netip.MustParseAddr("2001:db8:bad::").AsSlice()...)
	body := append([]byte{134, 0, 0, 0, 64, 0, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1}, append(src[:], prefix...)...)
	return switchtest.Packet6(header.MAC{0x33, 0x33, 0, 0, 0, 1}, src, ll, netip.MustParseAddr("ff02::1"), header.ProtoICMPv6, body)
}

// A neighbour of the host that routes the containers' subnet to it, and a host
// that forwards, do not lead to a container: not to its published port and not to
// another (moby#45610).
func TestC03DirectRouting(t *testing.T) {
	r := newRig(t)
	r.start()
	web, ct := r.attach("web", api.Attach{Publish: []string{"8080:80", "5000:5000/udp"}, Expose: []string{"90"}})
	serve(t, web, ":80", "web")
	serve(t, web, ":90", "web")
	d := listenUDP(t, web, ":5000", "web")
	sysctl(t, r.world.Host, "ipv4/ip_forward", "1")
	if err := r.world.Outside.AddRoute("10.88.0.0/24", netlab.HostAddr, "eth0"); err != nil {
		t.Fatal(err)
	}
	wantFetch(t, r.world.Outside, netlab.HostAddr+":8080", "web", netlab.OutsideAddr)
	unreachable(t, r, addr(ct), d)
	if pings(r.world.Outside, addr(ct)) {
		t.Error("ping from outside is answered")
	}
}

// unreachable checks that the outside does not reach a container by its own
// address.
func unreachable(t *testing.T, r *rig, at string, d *datagrams) {
	t.Helper()
	for _, port := range []string{":80", ":90"} {
		if got, err := fetchFast(r.world.Outside, at+port); err == nil {
			t.Errorf("direct to %s%s: %s", at, port, got)
		}
	}
	before := d.count()
	if got := askUDP(r.world.Outside, at+":5000"); got != "" || d.count() != before {
		t.Errorf("direct to %s:5000/udp: %q, %d received", at, got, d.count()-before)
	}
}

// A port published on a loopback address is reached from the host alone, and two
// of them at one port are two ports (moby#41872, moby#52783). No sysctl is opened
// for it (CVE-2020-8558).
func TestC04C05Loopback(t *testing.T) {
	r := newRig(t)
	r.start()
	web, _ := r.attach("web", api.Attach{Publish: []string{"127.0.0.1:5000:5000/udp", "127.0.0.1:8600:80"}})
	db, _ := r.attach("db", api.Attach{Publish: []string{"127.0.0.2:5000:5000/udp", "127.0.0.2:8600:80"}})
	dw, dd := listenUDP(t, web, ":5000", "web"), listenUDP(t, db, ":5000", "db")
	serve(t, web, ":80", "web")
	serve(t, db, ":80", "db")
	own := listenUDP(t, r.world.Host, "127.0.0.1:7777", "host")

	wantFetch(t, r.world.Host, "127.0.0.1:8600", "web", "")
	wantFetch(t, r.world.Host, "127.0.0.2:8600", "db", "")
	wantUDP(t, r.world.Host, "127.0.0.1:5000", "web")
	wantUDP(t, r.world.Host, "127.0.0.2:5000", "db")
	w, d, o := dw.count(), dd.count(), own.count()
	frames := func(from *netlab.NS, ifname, gateway string, sources ...string) {
		src, dst := macs(t, from, ifname, gateway)
		for _, s := range sources {
			for _, to := range []string{"127.0.0.1:5000", "127.0.0.2:5000", "127.0.0.1:7777"} {
				f := switchtest.Bytes(switchtest.Packet{EthSrc: src, EthDst: dst, Src: s, Dst: to, Proto: header.ProtoUDP, Payload: []byte("x")})
				inject(t, from, ifname, f, f, f, f, f, f, f, f, f, f)
			}
		}
	}
	frames(r.world.Outside, "eth0", hostMAC(t, r, "eth0"), netlab.OutsideAddr+":4000", "127.0.0.1:4000", netlab.HostAddr+":4000")
	sw := "02:76:0a:58:00:01" // of the gateway 10.88.0.1
	frames(web, "eth0", sw, "10.88.0.2:4000", "127.0.0.1:4000")
	time.Sleep(200 * time.Millisecond)
	if dw.count() != w || dd.count() != d || own.count() != o {
		t.Errorf("loopback was reached by wire: web %d, db %d, host %d times", dw.count()-w, dd.count()-d, own.count()-o)
	}
	err := r.world.Host.Do(func() error {
		names, err := os.ReadDir("/proc/sys/net/ipv4/conf")
		for _, n := range names {
			b, err := os.ReadFile("/proc/sys/net/ipv4/conf/" + n.Name() + "/route_localnet")
			if err != nil || strings.TrimSpace(string(b)) != "0" {
				t.Errorf("route_localnet of %s is %q, %v", n.Name(), b, err)
			}
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

// Isolation and published ports do not depend on nft: a flush of all its rules,
// during traffic, opens nothing and closes nothing (CVE-2025-54388).
func TestC06FlushRuleset(t *testing.T) {
	labtest.NeedProgram(t, "nft")
	r := newRig(t)
	r.start()
	if _, err := r.CreateNetwork(t.Context(), api.NetworkCreate{Name: "blue", Subnet: "10.7.0.0/24"}); err != nil {
		t.Fatal(err)
	}
	web, ct := r.attach("web", api.Attach{Publish: []string{"8080:80", "127.0.0.1:8600:80"}})
	blue, _ := r.attach("blue", api.Attach{Networks: []api.Connect{{Network: "blue"}}})
	serve(t, web, ":80", "web")
	serve(t, web, ":90", "web")
	serve(t, r.world.Outside, ":9000", "outside")
	d := listenUDP(t, web, ":5000", "web")
	sysctl(t, r.world.Host, "ipv4/ip_forward", "1")
	if err := r.world.Outside.AddRoute("10.88.0.0/24", netlab.HostAddr, "eth0"); err != nil {
		t.Fatal(err)
	}
	for range 10 {
		command(t, r.world.Host, "nft", "add table inet firewalld; add chain inet firewalld filter_FORWARD { type filter hook forward priority 10; policy drop; }")
		wantFetch(t, r.world.Outside, netlab.HostAddr+":8080", "web", netlab.OutsideAddr)
		command(t, r.world.Host, "nft", "flush ruleset")
		wantFetch(t, r.world.Outside, netlab.HostAddr+":8080", "web", netlab.OutsideAddr)
		wantFetch(t, web, netlab.OutsideAddr+":9000", "outside", netlab.HostAddr)
	}
	unreachable(t, r, addr(ct), d)
	if got, err := fetchFast(r.world.Outside, netlab.HostAddr+":8600"); err == nil {
		t.Errorf("a port of loopback is reached from outside: %s", got)
	}
	if got, err := fetchFast(blue, addr(ct)+":80"); err == nil {
		t.Errorf("another network is reached: %s", got)
	}
	if out := command(t, r.world.Host, "nft", "list", "ruleset"); out != "" {
		t.Errorf("the daemon has rules in nft: %s", out)
	}
}
