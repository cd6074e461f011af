package control

import (
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/control/doctor"
	"github.com/vswitch/vswitch/internal/netlab/labtest"
)

// examine is vswitch doctor in the host of a rig.
func (r *rig) examine(withDaemon bool) (list []doctor.Check) {
	r.t.Helper()
	cfg := doctor.Config{StateDir: r.cfg.StateDir, Version: "test"}
	if withDaemon {
		d, err := doctor.Ask(r.t.Context(), r.Client)
		if err != nil {
			r.t.Fatal(err)
		}
		cfg.Daemon = d
	}
	err := r.world.Host.Do(func() (err error) { list, err = doctor.Examine(cfg); return err })
	if err != nil {
		r.t.Fatal(err)
	}
	return list
}

// wantCheck finds the one check with a status whose message has some words.
func wantCheck(t *testing.T, list []doctor.Check, name string, status doctor.Status, words string) (found doctor.Check) {
	t.Helper()
	for _, c := range list {
		if c.Name == name && c.Status == status && strings.Contains(c.Message, words) {
			if (c.Status == doctor.Fail || c.Status == doctor.Warn) && c.Fix == "" {
				t.Errorf("%s: %s: no way out", c.Name, c.Message)
			}
			return c
		}
	}
	t.Errorf("no check %s with status %s and %q in %+v", name, status, words, list)
	return found
}

// carryOut runs the command of a way out as it is printed.
func (r *rig) carryOut(fix string) {
	r.t.Helper()
	command := regexp.MustCompile(`\bip (link|addr) [^;,]*`).FindString(fix)
	if command == "" {
		r.t.Errorf("no command in %q", fix)
		return
	}
	words := strings.Fields(strings.ReplaceAll(command, "INTERFACE", "eth0"))
	r.run(words[0], words[1:]...)
}

// run carries out a command in the host.
func (r *rig) run(name string, arg ...string) {
	r.t.Helper()
	if out, err := r.world.Host.Command(name, arg...).CombinedOutput(); err != nil {
		r.t.Fatalf("%s %s: %v: %s", name, strings.Join(arg, " "), err, out)
	}
}

// attachProgram puts a program that lets everything pass in front of others.
func (r *rig) attachProgram(typ ebpf.ProgramType, name string, verdict int32, attach func(ifindex int, p *ebpf.Program) (link.Link, error)) func() {
	r.t.Helper()
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{Name: name, Type: typ, License: "MIT", Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, verdict), asm.Return()}})
	if err != nil {
		r.t.Fatal(err)
	}
	defer p.Close()
	index, err := r.world.Host.Index("eth0")
	if err != nil {
		r.t.Fatal(err)
	}
	var l link.Link
	if err := r.world.Host.Do(func() (err error) { l, err = attach(index, p); return err }); err != nil {
		r.t.Fatal(err)
	}
	return func() { l.Close() }
}

// Each thing is broken, doctor says so, and says nothing any more once it is
// mended.
func TestDoctorSeesWhatIsBroken(t *testing.T) {
	for _, tool := range []string{"ip", "tc"} {
		labtest.NeedProgram(t, tool)
	}
	r := newRig(t)
	r.start()
	h := r.world.Host
	web, ct := r.attach("web", api.Attach{Publish: []string{"8080:80", "20000-20100:20000-20100"}})
	r.attach("db", api.Attach{})
	veth := ct.Endpoints[0].HostInterface
	br, err := r.Network(t.Context(), "bridge")
	if err != nil {
		t.Fatal(err)
	}
	well := func(what string) {
		t.Helper()
		for _, c := range r.examine(true) {
			if c.Status == doctor.Fail || c.Status == doctor.Warn {
				t.Errorf("%s: %s %s: %s", what, c.Name, c.Status, c.Message)
			}
		}
	}
	well("a sound host")
	noError := func(fns ...func() error) func() {
		return func() {
			t.Helper()
			for _, fn := range fns {
				if err := fn(); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	ip := func(args string) func() { return func() { t.Helper(); r.run("ip", strings.Fields(args)...) } }
	tc := func(args string) func() { return func() { t.Helper(); r.run("tc", strings.Fields(args)...) } }
	var undo func()
	var found doctor.Check
	byFix := func() { t.Helper(); r.carryOut(found.Fix) } // by what doctor prints
	for _, c := range []struct {
		name   string
		breaks func()
		check  string
		status doctor.Status
		words  string
		mends  func() // nil: it stays broken
	}{
		{name: "container's interface down", breaks: noError(func() error { return web.SetDown("eth0") }), check: "container", status: doctor.Fail, words: "eth0 is set down", mends: func() {
			noError(func() error { return web.SetUp("eth0") })()
			if out, err := web.Command("ip", "route", "add", "default", "via", br.Gateway).CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
		}},
		{name: "MTU of the host's end", breaks: ip("link set " + veth + " mtu 1400"), check: "mtu", status: doctor.Warn, words: "has MTU 1400", mends: byFix},
		{name: "TAP down", breaks: ip("link set " + br.Interface + " down"), check: "network", status: doctor.Fail, words: "is down", mends: byFix},
		{name: "uplink's MTU", breaks: ip("link set eth0 mtu 1400"), check: "mtu", status: doctor.Warn, words: "uplink eth0 1400", mends: ip("link set eth0 mtu 1500")},
		{
			name: "a program's filter", breaks: func() {
				r.run("sh", "-c", "tc qdisc add dev "+veth+" clsact 2>/dev/null; tc filter add dev "+veth+" ingress prio 9 protocol all bpf bytecode '1,6 0 0 0'")
			},
			check: "programs", status: doctor.Warn, words: "another filter is at the ingress of " + veth, mends: tc("filter del dev " + veth + " ingress prio 9"),
		},
		{
			name: "a program in front of the guard", breaks: func() {
				undo = r.attachProgram(ebpf.SchedCLS, "other", -1, func(i int, p *ebpf.Program) (link.Link, error) {
					return link.AttachTCX(link.TCXOptions{Interface: i, Program: p, Attach: ebpf.AttachTCXIngress, Anchor: link.Head()})
				})
			}, check: "programs", status: doctor.Warn, words: "BPF program other is first", mends: func() { undo() },
		},
		{
			name: "XDP", breaks: func() {
				undo = r.attachProgram(ebpf.XDP, "xdp_other", 2, func(i int, p *ebpf.Program) (link.Link, error) {
					return link.AttachXDP(link.XDPOptions{Interface: i, Program: p, Flags: link.XDPGenericMode})
				})
			}, check: "programs", status: doctor.Warn, words: "XDP program on eth0", mends: func() { undo() },
		},
		{
			name: "a published port is bound", breaks: func() {
				l, err := h.Listen("tcp", ":20050")
				if err != nil {
					t.Fatal(err)
				}
				undo = func() { l.Close() }
			}, check: "ports", status: doctor.Fail, words: "20050/tcp is published to web and held by", mends: func() { undo() },
		},
		{
			name: "a link that nobody knows", breaks: func() {
				alias, err := h.Command("cat", "/sys/class/net/"+br.Interface+"/ifalias").Output()
				if err != nil { // sysfs shows the namespace it was mounted in
					out, err := h.Command("ip", "-d", "link", "show", br.Interface).Output()
					if err != nil {
						t.Fatal(err)
					}
					_, rest, _ := strings.Cut(string(out), "alias ")
					alias = []byte(strings.Fields(rest)[0])
				}
				r.run("ip", "link", "add", "vsleft0", "type", "veth", "peer", "name", "vsleft1")
				r.run("ip", "link", "set", "vsleft0", "alias", strings.TrimSpace(string(alias)))
			}, check: "leftovers", status: doctor.Warn, words: "vsleft0 was made by this daemon", mends: byFix,
		},
		{
			name: "policy routing", breaks: func() {
				ip("rule add fwmark 7 lookup 77")()
				ip("route add default via 198.51.100.9 dev eth0 table 77")()
			}, check: "routing", status: doctor.Note, words: "fwmark 0x7 lookup 77", mends: ip("rule del fwmark 7"),
		},
		{
			name: "a VPN", breaks: func() {
				ip("tuntap add vpn0 mode tun")()
				ip("link set vpn0 up")()
				ip("route add 0.0.0.0/1 dev vpn0")()
			}, check: "routing", status: doctor.Warn, words: "0.0.0.0/1 leads by vpn0", mends: ip("link del vpn0"),
		},
		{name: "MTU of the path", breaks: ip("route replace default via 198.51.100.9 dev eth0 mtu 1300"), check: "mtu", status: doctor.Warn, words: "has MTU 1300", mends: ip("route replace default via 198.51.100.9 dev eth0")},
		{
			name: "an address that is awaited", breaks: func() {
				ip("addr add 198.51.100.77/24 dev eth0")()
				eventually(t, "it can be published at", func() bool {
					_, err := r.Publish(t.Context(), "web", []string{"198.51.100.77:8088:80"})
					return err == nil
				})
				ip("addr del 198.51.100.77/24 dev eth0")()
			}, check: "addresses", status: doctor.Warn, words: "8088/tcp of web waits for 198.51.100.77", mends: byFix,
		},
		{name: "no seal", breaks: func() { t.Helper(); r.unseal(veth) }, check: "container", status: doctor.Fail, words: "lost its seal"},
		{name: "no default route", breaks: noError(func() error { return h.SetDown("eth0") }), check: "uplink", status: doctor.Fail, words: "no uplink"},
	} {
		c.breaks()
		// What the daemon hears from the kernel takes a moment.
		var list []doctor.Check
		for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
			if list = r.examine(true); hasCheck(list, c.check, c.status, c.words) {
				break
			}
		}
		t.Log(c.name)
		found = wantCheck(t, list, c.check, c.status, c.words)
		if c.mends == nil {
			continue
		}
		c.mends()
		for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
			if !hasCheck(r.examine(true), c.check, c.status, "") {
				break
			}
		}
		well(c.name + ", mended")
	}
}

func hasCheck(list []doctor.Check, name string, status doctor.Status, words string) bool {
	for _, c := range list {
		if c.Name == name && c.Status == status && strings.Contains(c.Message, words) {
			return true
		}
	}
	return false
}

// Without a daemon doctor sees what a killed one left.
func TestDoctorAfterKill(t *testing.T) {
	r := newRig(t)
	list := r.examine(false)
	wantCheck(t, list, "daemon", doctor.Warn, "no daemon")
	wantCheck(t, list, "uplink", doctor.OK, "eth0")
	wantCheck(t, list, "features", doctor.OK, "work")
	wantCheck(t, list, "leftovers", doctor.OK, "no link")
	wantCheck(t, list, "reserved", doctor.OK, "no state")
	if links := r.hostLinks(); strings.Join(links, " ") != strings.Join(r.links, " ") {
		t.Errorf("doctor changed the links from %v to %v", r.links, links)
	}
	r.start()
	_, ct := r.attach("web", api.Attach{Publish: []string{"20000-20100:20000-20100"}})
	r.kill()
	list = r.examine(false)
	wantCheck(t, list, "daemon", doctor.Fail, "1 interfaces of containers are left: what goes on is connections that the kernel carries")
	for _, c := range list {
		if strings.Contains(c.Fix, "--all") || strings.Contains(c.Fix, "link del") {
			t.Errorf("%s: removes what containers need: %s", c.Name, c.Fix)
		}
	}
	wantCheck(t, list, "leftovers", doctor.Warn, ct.Endpoints[0].HostInterface)
	wantCheck(t, list, "reserved", doctor.Warn, "20000-20100")
	r.start()
	for _, c := range r.examine(true) {
		if c.Status == doctor.Fail || c.Status == doctor.Warn {
			t.Errorf("started again: %s %s: %s", c.Name, c.Status, c.Message)
		}
	}
	r.stop()
	r.world.Host.SetDown("eth0")
	wantCheck(t, r.examine(false), "uplink", doctor.Warn, "default route")
}

// A process without rights hears what it lacks.
func TestDoctorWithoutRights(t *testing.T) {
	r := newRig(t)
	var list []doctor.Check
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread has lost its rights
		header, none := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}, [2]unix.CapUserData{}
		if err := unix.Capset(&header, &none[0]); err != nil {
			done <- err
			return
		}
		var err error
		list, err = doctor.Examine(doctor.Config{StateDir: r.cfg.StateDir})
		done <- err
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	wantCheck(t, list, "rights", doctor.Fail, "CAP_NET_ADMIN is missing")
	wantCheck(t, list, "features", doctor.Fail, "BPF programs cannot be loaded")
}
