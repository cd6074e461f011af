package nattest

import (
	"bytes"
	"errors"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vswitch/vswitch/dataplane/header"
	"github.com/vswitch/vswitch/dataplane/switchtest"
	"github.com/vswitch/vswitch/internal/netlab"
	"github.com/vswitch/vswitch/internal/netlab/labtest"
)

func TestMain(m *testing.M) { labtest.Main(m) }

// rules are what Docker has for a network, with one published port. Nothing is
// delivered to the host itself: its own services are no part of the NAT.
const rules = `
table ip nat {
	chain prerouting {
		type nat hook prerouting priority dstnat
		ip daddr 198.51.100.1 tcp dport 8080 dnat to 10.1.0.11:80
		ip daddr 198.51.100.1 udp dport 8080 dnat to 10.1.0.11:80
	}
	chain postrouting {
		type nat hook postrouting priority srcnat
		oifname "eth0" ip saddr 10.1.0.0/24 masquerade
		oifname "br0" ip saddr 10.1.0.0/24 ct status dnat masquerade
	}
}
table ip filter {
	chain forward {
		type filter hook forward priority filter; policy drop
		ct state established,related accept
		ct state invalid drop
		ct status dnat accept
		iifname "br0" oifname "eth0" accept
	}
	chain input {
		type filter hook input priority filter; policy drop
	}
}
`

// linux is a router of the kernel's between three cables, whose other ends are
// packet sockets of the test.
type linux struct {
	t     testing.TB
	index map[string]int
	fds   map[string]int
}

var portNames = map[string]string{"c1": "vc1", "c2": "vc2", "up": "eth0"}

func newLinux(t testing.TB) *linux {
	t.Helper()
	labtest.NeedProgram(t, "nft")
	router, ends := labtest.New(t, "router"), labtest.New(t, "ends")
	must := func(errs ...error) {
		t.Helper()
		if err := errors.Join(errs...); err != nil {
			t.Fatal(err)
		}
	}
	for _, s := range stations {
		must(netlab.Veth(router, portNames[s], ends, s, 1500))
	}
	for _, ns := range []*netlab.NS{router, ends} {
		must(ns.Sysctl("ipv6/conf/all/disable_ipv6", "1"), ns.Sysctl("ipv6/conf/default/disable_ipv6", "1"))
	}
	must(
		router.SetMAC("eth0", switchtest.MAC("up").String()),
		router.Bridge("br0", "vc1", "vc2"),
		router.SetMAC("br0", switchtest.MAC("host1").String()),
		router.AddAddr("br0", switchtest.Stations["host1"]+"/24"),
		router.AddAddr("eth0", switchtest.HostAddr+"/24"),
		router.SetUp("eth0"),
		router.AddRoute("default", switchtest.NextHop, "eth0"),
		router.AddNeighbor("eth0", switchtest.NextHop, switchtest.NextHopMAC.String()),
		router.AddNeighbor("br0", switchtest.Stations["c1"], switchtest.MAC("c1").String()),
		router.AddNeighbor("br0", switchtest.Stations["c2"], switchtest.MAC("c2").String()),
		router.Sysctl("ipv4/ip_forward", "1"),
		router.Sysctl("ipv4/icmp_ratelimit", "0"), // their rates are compared elsewhere
		router.Sysctl("ipv4/conf/br0/send_redirects", "0"),
		router.Sysctl("ipv4/conf/all/send_redirects", "0"),
	)
	for _, f := range []string{"ip", "ip6", "arp"} {
		// Where the kernel has br_netfilter it would take routed packets for bridged ones.
		if err := router.Sysctl("bridge/bridge-nf-call-"+f+"tables", "0"); err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
	}
	out, err := router.Command("ip", "link", "set", "eth0", "mtu", "1400").CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	cmd := router.Command("nft", "-f", "-")
	cmd.Stdin = strings.NewReader(rules)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("nft: %v: %s", err, out)
	}
	w := &linux{t: t, index: map[string]int{}, fds: map[string]int{}}
	for _, s := range stations {
		must(ends.SetUp(s))
		index, err := ends.Index(s)
		must(err, ends.Do(func() error {
			fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
			if err != nil {
				return err
			}
			t.Cleanup(func() { unix.Close(fd) })
			w.fds[s] = fd
			if err := unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1); err != nil {
				return err
			}
			return unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: unix.ETH_P_ALL<<8&0xff00 | unix.ETH_P_ALL>>8, Ifindex: index})
		}))
		w.index[s] = index
	}
	// Frames of one thread on one core go through the kernel in order, so that a
	// frame sent behind others says when those are through.
	runtime.LockOSThread()
	var was, one unix.CPUSet
	must(unix.SchedGetaffinity(0, &was))
	for cpu := range 1024 {
		if was.IsSet(cpu) {
			one.Set(cpu)
			break
		}
	}
	must(unix.SchedSetaffinity(0, &one))
	t.Cleanup(func() { unix.SchedSetaffinity(0, &was); runtime.UnlockOSThread() })
	w.settle()
	return w
}

var marker = []byte("everything before this has arrived")

// settle waits until the cables carry.
func (w *linux) settle() {
	deadline := time.Now().Add(30 * time.Second)
	for time.Now().Before(deadline) {
		if err := errors.Join(w.send("c1", switchtest.WhoHas("c1", switchtest.Stations["host1"])), w.send("c2", w.mark())); err == nil {
			time.Sleep(5 * time.Millisecond)
			if _, ok := w.receive("up"); ok {
				w.drain(map[string][][]byte{}, 50*time.Millisecond)
				return
			}
		}
	}
	w.t.Fatal("nothing passes the router after 30 s")
}

func (w *linux) mark() []byte {
	return switchtest.UDP("c2", 9, switchtest.World+":9", string(marker))
}

func (w *linux) send(from string, f []byte) error {
	return unix.Sendto(w.fds[from], f, 0, &unix.SockaddrLinklayer{Ifindex: w.index[from]})
}

func (w *linux) receive(at string) ([]byte, bool) {
	buf := make([]byte, 65536)
	n, err := unix.Read(w.fds[at], buf)
	for err == unix.EINTR { // a timeout forbids the kernel to go on by itself (signal(7))
		n, err = unix.Read(w.fds[at], buf)
	}
	return buf[:max(n, 0)], err == nil
}

// drain collects what is there, until the marker has come, for a time at most.
func (w *linux) drain(out map[string][][]byte, limit time.Duration) (marked bool) {
	for deadline := time.Now().Add(limit); time.Now().Before(deadline) && !marked; {
		marked = w.look(out)
	}
	return marked
}

// look collects what is there now, and reports whether the marker is among it.
func (w *linux) look(out map[string][][]byte) (marked bool) {
	for _, s := range stations {
		for {
			f, ok := w.receive(s)
			if !ok {
				break
			}
			switch {
			case bytes.Contains(f, marker):
				marked = true
			case len(f) > header.EthernetLen+20 && f[12] == 8 && f[13] == 0 && f[header.EthernetLen+9] != header.ProtoIGMP:
				out[s] = append(out[s], f)
			}
		}
	}
	return marked
}

func (w *linux) exchange(from string, frames [][]byte) map[string][][]byte {
	out := map[string][][]byte{}
	send := func(at string, f []byte) {
		if err := w.send(at, f); err != nil {
			w.t.Fatalf("send at %s: %v", at, err)
		}
	}
	for _, f := range frames {
		send(from, f)
	}
	for range 2 { // what the router answers comes behind the first
		send("c2", w.mark())
		if !w.drain(out, 20*time.Second) {
			w.t.Fatal("the kernel's router swallowed the marker")
		}
	}
	w.look(out) // of cables that were looked at before the marker came
	return out
}
