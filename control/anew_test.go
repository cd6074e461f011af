package control

import (
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/internal/netlab"
)

// TestF40UplinkIsMadeAnew: the device of an uplink is removed, and made again with its addresses and routes.
// Connections go on; what begins then passes.
func TestF40UplinkIsMadeAnew(t *testing.T) {
	r := newRig(t)
	r.cfg.Uplinks = []string{"eth0"}
	r.start()
	dial := echoes(t, r)
	var conns []net.Conn
	for range 5 {
		conns = append(conns, dial()...)
	}
	host, outside := r.world.Host, r.world.Outside
	index, err := host.Index("eth0")
	if err != nil {
		t.Fatal(err)
	}
	out, err := outside.Command("ip", "-br", "link").CombinedOutput()
	far := ""
	for line := range strings.Lines(string(out)) {
		if name, _, ok := strings.Cut(strings.Fields(line)[0], "@"); ok {
			far = name
		}
	}
	if err != nil || far == "" {
		t.Fatalf("%v: %s", err, out)
	}
	ip := func(ns *netlab.NS, args string) {
		t.Helper()
		if out, err := ns.Command("ip", strings.Fields(args)...).CombinedOutput(); err != nil {
			t.Fatalf("ip %s: %v: %s", args, err, out)
		}
	}
	ip(host, "link del eth0")
	for _, c := range conns {
		if _, err := fmt.Fprintln(c, "meanwhile"); err != nil {
			t.Fatal(err)
		}
	}
	time.Sleep(500 * time.Millisecond)
	if err := netlab.Veth(host, "eth0", outside, far, 1500); err != nil {
		t.Fatal(err)
	}
	ip(host, "addr add "+netlab.HostAddr+"/24 dev eth0")
	ip(outside, "addr add "+netlab.OutsideAddr+"/24 dev "+far)
	ip(host, "link set eth0 up")
	ip(outside, "link set "+far+" up")
	ip(host, "route replace default via "+netlab.OutsideAddr)
	if now, err := host.Index("eth0"); err != nil || now == index {
		t.Fatalf("interface %d is as before: %v", now, err)
	}
	for i, c := range conns {
		if got := hear(t, c); got != "meanwhile" {
			t.Errorf("connection %d: heard %q", i, got)
		}
		say(t, c, "after")
	}
	dial()
}

// TestF37RestartsLeaveNothing: a daemon that is killed or stopped over and over leaves no descriptor, program, link,
// route or rule more than there was.
func TestF37RestartsLeaveNothing(t *testing.T) {
	r := newRig(t)
	r.start()
	web, _ := r.attach("web", api.Attach{Publish: []string{"8080:80", "9000-9010:9000-9010/udp"}})
	r.attach("db", api.Attach{})
	serve(t, web, ":80", "web")
	holder := func() (fds []string) {
		t.Helper()
		pids, err := os.ReadDir("/proc")
		if err != nil {
			t.Fatal(err)
		}
		home, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/net", r.cmd.Process.Pid))
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range pids {
			args, _ := os.ReadFile("/proc/" + p.Name() + "/cmdline")
			if ns, _ := os.Readlink("/proc/" + p.Name() + "/ns/net"); ns != home || string(args) != "vswitch\x00hold\x00" {
				continue
			}
			list, _ := os.ReadDir("/proc/" + p.Name() + "/fd")
			for _, fd := range list {
				at, _ := os.Readlink("/proc/" + p.Name() + "/fd/" + fd.Name())
				kind, _, _ := strings.Cut(at, "[")
				fds = append(fds, kind)
			}
		}
		slices.Sort(fds)
		return fds
	}
	host := func(args string) string {
		t.Helper()
		out, err := r.world.Host.Command("ip", strings.Fields(args)...).CombinedOutput()
		if err != nil {
			t.Fatalf("ip %s: %v: %s", args, err, out)
		}
		return string(out)
	}
	kept := func() (lines []string) {
		t.Helper()
		wantFetch(t, r.world.Outside, netlab.HostAddr+":8080", "web", netlab.OutsideAddr)
		for _, fd := range holder() {
			lines = append(lines, "the holder has "+fd)
		}
		lines = append(lines, fmt.Sprint("descriptors of the daemon: ", r.openFiles()))
		for _, args := range []string{"-br link", "-br addr", "rule", "-6 rule", "route show table all"} {
			lines = append(lines, slices.Sorted(strings.Lines(host(args)))...)
		}
		return lines
	}
	restart := func(i int) {
		if i%2 == 0 {
			r.kill()
		} else {
			r.stop()
		}
		r.start()
	}
	restart(0) // the first daemon had the sockets of an attach ready
	restart(1)
	// Or there are routes more once the kernel knows that an address is nobody else's.
	eventually(t, "no address is tentative", func() bool { return host("-6 addr show tentative") == "" })
	want := kept()
	for i := range 50 {
		restart(i)
	}
	got := kept()
	for begin := time.Now(); !slices.Equal(got, want) && time.Since(begin) < 5*time.Second; got = kept() {
		time.Sleep(50 * time.Millisecond)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-before +after):\n%s", d)
	}
}
