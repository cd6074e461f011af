package control

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/control/edge/edgetest"
	"github.com/vswitch/vswitch/control/edge/linux"
	"github.com/vswitch/vswitch/control/holder"
	"github.com/vswitch/vswitch/control/host"
	"github.com/vswitch/vswitch/control/reserve"
	"github.com/vswitch/vswitch/control/state"
	"github.com/vswitch/vswitch/dataplane/header"
	"github.com/vswitch/vswitch/internal/netlab/labtest"
)

// inProcess is a controller in the test binary's own namespace.
func inProcess(t *testing.T) *Controller {
	t.Helper()
	return inProcessIn(t, t.TempDir(), slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError})))
}

func inProcessIn(t *testing.T, stateDir string, log *slog.Logger) *Controller {
	t.Helper()
	endHolder(t, stateDir)
	c := startIn(t, stateDir, log)
	t.Cleanup(func() { endIn(t, c) })
	return c
}

// endHolder ends the holder of a directory when all controllers there have ended: while one
// is there the holder hears nobody else.
func endHolder(t *testing.T, dir string) {
	t.Helper()
	t.Cleanup(func() {
		if _, err := holder.End(dir); err != nil {
			t.Error(err)
		}
	})
}

// endIn ends a controller of startIn.
func endIn(t *testing.T, c *Controller) {
	t.Helper()
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	noLeaks(t)
}

// noLeaks wants all goroutines to end, for which a busy machine takes longer than goleak does.
func noLeaks(t testing.TB) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; {
		err := goleak.Find()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Error(err)
			return
		}
	}
}

// startIn is inProcessIn for who ends it.
func startIn(t *testing.T, stateDir string, log *slog.Logger) *Controller {
	t.Helper()
	labtest.NeedBPF(t)
	self, err := host.OpenNetns("/proc/thread-self/ns/net") // of the first thread another test may have made use
	if err != nil {
		t.Fatal(err)
	}
	defer self.Close()
	h, err := host.New()
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	if err := h.SetLoopbackUp(self); err != nil {
		t.Fatal(err)
	}
	held, err := holder.Open(holder.Config{Dir: stateDir, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	e, err := linux.Open(linux.Config{Holder: held, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	c, err := New(Config{Edge: e, StateDir: stateDir, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// site is a controller, the namespaces of its containers and what is there.
type site struct {
	c         *Controller
	netns     func(name string) (path string)
	hostNetns string // path of the host's own
	facts     func(t *testing.T) map[string]string
}

// onEveryEdge runs a test on the model of the kernel, and on the kernel.
func onEveryEdge(t *testing.T, test func(t *testing.T, s site)) {
	t.Run("model", func(t *testing.T) {
		m := newMachine(t).start()
		m.Run(os.Getpid(), "")
		test(t, site{
			c: m.Controller, hostNetns: edgetest.HostNetns,
			netns: func(name string) string { m.AddNetns(netnsOf(name)); return netnsOf(name) },
			facts: func(*testing.T) map[string]string {
				f := tables(m.Controller)
				f["kernel"] = strings.Join(m.Facts(), "\n")
				return f
			},
		})
	})
	t.Run("kernel", func(t *testing.T) {
		c := inProcess(t)
		// /proc/self is the first thread, which may be about something elsewhere.
		own, err := os.Open("/proc/thread-self/ns/net")
		if err != nil {
			t.Fatal(err)
		}
		defer own.Close()
		test(t, site{
			c: c, hostNetns: fmt.Sprintf("/proc/self/fd/%d", own.Fd()),
			netns: func(name string) string { return labtest.New(t, name).Path() },
			facts: func(t *testing.T) map[string]string { return facts(t, c) },
		})
	})
}

// facts is everything that an operation which failed must leave as it was.
func facts(t *testing.T, c *Controller) map[string]string {
	t.Helper()
	f := tables(c)
	links, err := c.edge.Links()
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range links {
		f["link "+l.Name] = fmt.Sprint(l.Index, l.Alias)
	}
	sockets, err := c.edge.BusyPorts()
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range sockets {
		if s.Addr.IsLoopback() && s.Port >= 32768 { // a resolver's, whose process ends in its own time
			continue
		}
		f[fmt.Sprintf("socket %d %s %d", s.Proto, s.Addr, s.Port)] = "held"
	}
	b, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_reserved_ports")
	if err != nil {
		t.Fatal(err)
	}
	f["reserved ports"] = string(b)
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	f["descriptors"] = fmt.Sprint(len(fds))
	return f
}

// changed tells how the facts differ from before, "" when they do not. The process has
// goroutines beside the operation that open a descriptor for a moment: fewer are no
// difference, and more are one when they stay.
func changed(before map[string]string, facts func() map[string]string) string {
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		after := facts()
		was, _ := strconv.Atoi(before["descriptors"])
		is, _ := strconv.Atoi(after["descriptors"])
		if is < was {
			after["descriptors"] = before["descriptors"]
		}
		d := cmp.Diff(before, after)
		if d == "" || is <= was || time.Now().After(deadline) {
			return d
		}
	}
}

// tables is what the controller and the switch themselves know.
func tables(c *Controller) map[string]string {
	f := make(map[string]string)
	bits := 0
	for _, w := range c.edge.Published() {
		for ; w != 0; w &= w - 1 {
			bits++
		}
	}
	f["claims"] = fmt.Sprint(bits)
	f["switch ports"] = fmt.Sprint(len(c.sw.Stats().Ports))
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, n := range c.inv.Networks {
		f["network "+n.Rec.Name] = fmt.Sprint(n.Ready, len(n.Members), n.Addrs.InUse(), len(n.MACs))
	}
	for _, ct := range c.inv.Containers {
		f["container "+ct.Rec.Name] = fmt.Sprint(ct.Ready, len(ct.Endpoints), len(ct.Mappings))
	}
	f["claims of the table"] = fmt.Sprint(c.claims.Counts())
	f["numbers"] = fmt.Sprint(c.inv.Numbers.Ports.InUse(), len(c.inv.Numbers.Networks.List()))
	f["by port"] = fmt.Sprint(len(c.byPort), len(c.inv.Endpoints))
	names := c.dir.Now()
	f["directory"] = fmt.Sprint(names.Ports(false), len(maps.Collect(names.Addrs())))
	for _, n := range c.inv.Networks {
		f["directory of "+n.Rec.Name] = fmt.Sprint(names.NetworkNamed(n.Rec.Name), names.NetworkName(n.ID))
	}
	cfg, relay := c.compileLocked()
	f["snapshot"] = fmt.Sprint(len(cfg.Ports), len(cfg.Stations), len(cfg.Publish), len(cfg.Networks), len(relay))
	return f
}

// copied is a directory with the state's files as they are: the controller locks its own.
func copied(t testing.TB, c *Controller) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{state.FileName, state.CopyName} {
		b, err := os.ReadFile(c.cfg.StateDir + "/" + name)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(dir+"/"+name, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// stored is what the state file says, by name.
func stored(t *testing.T, c *Controller) []string {
	t.Helper()
	s, contents, err := state.Open(copied(t, c))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	var list []string
	for _, n := range contents.Networks {
		list = append(list, "network "+n.Name)
	}
	for _, ct := range contents.Containers {
		list = append(list, fmt.Sprintf("container %s %d %d", ct.Name, len(ct.Endpoints), len(ct.Ports)))
	}
	return list
}

// TestRefusals gives each request of "bad input" and wants one line that names
// the object and the way out, the right kind, and no change.
func TestRefusals(t *testing.T) { onEveryEdge(t, testRefusals) }

func testRefusals(t *testing.T, s site) {
	c, facts := s.c, func(t *testing.T, _ *Controller) map[string]string { return s.facts(t) }
	ctx := t.Context()
	ns, free := s.netns("web"), s.netns("free")
	attach := func(in api.Attach) error {
		if in.Netns == "" && in.PID == 0 {
			in.Netns = free
		}
		_, err := c.Attach(ctx, in)
		return err
	}
	create := func(in api.NetworkCreate) error { _, err := c.CreateNetwork(ctx, in); return err }
	for _, err := range []error{
		create(api.NetworkCreate{Name: "tiny", Subnet: "10.5.0.0/30"}),
		create(api.NetworkCreate{Name: "inside", Subnet: "10.6.0.0/24", Internal: true}),
		create(api.NetworkCreate{Name: "blue", Subnet: "10.7.0.0/24", Reserved: map[string]string{"printer": "10.7.0.9"}}),
		create(api.NetworkCreate{Name: "dual", Subnet: "fd00:7::/64", Subnets: []string{"10.4.0.0/24"}, Reserved: map[string]string{"nas": "fd00:7::9"}}),
		attach(api.Attach{Name: "web", Netns: ns, Publish: []string{"8080:80"}, Networks: []api.Connect{{Network: "tiny"}, {Network: "blue", IP: "10.7.0.5", MAC: "02:00:00:00:00:05"}}}),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	hold, err := c.edge.TakePorts(header.ProtoTCP, netip.Addr{}, 7777, 7777, reserve.Keeper{})
	if err != nil {
		t.Fatal(err)
	}
	defer hold.Release()
	on := func(n string) []api.Connect { return []api.Connect{{Network: n}} }
	before := facts(t, c)
	for _, tc := range []struct {
		name string
		err  error
		kind error
		say  []string
	}{
		{"unknown network", attach(api.Attach{Name: "x", Networks: on("nosuch")}), api.ErrNotFound, []string{"container x", "network nosuch", "vswitch network create"}},
		{"name twice, other namespace", attach(api.Attach{Name: "web"}), api.ErrConflict, []string{"container web is attached already", "detach it first"}},
		{"name twice, other options", attach(api.Attach{Name: "web", Netns: ns}), api.ErrConflict, []string{"container web is attached already", "other options"}},
		{"network twice", create(api.NetworkCreate{Name: "blue"}), api.ErrConflict, []string{"network blue exists already"}},
		{"bad CIDR", create(api.NetworkCreate{Name: "x", Subnet: "10.1/16"}), api.ErrInvalid, []string{"network x", `"10.1/16"`, "10.1.0.0/24"}},
		{"overlap with a network", create(api.NetworkCreate{Name: "x", Subnet: "10.7.0.0/16"}), api.ErrConflict, []string{"network x", "overlaps network blue", "--subnet"}},
		{"overlap with an IPv6 network", create(api.NetworkCreate{Name: "x", Subnet: "fd00:7::/48"}), api.ErrConflict, []string{"network x", "overlaps network dual (fd00:7::/64)", "--subnet"}},
		{"one of two overlaps", create(api.NetworkCreate{Name: "x", Subnet: "10.9.0.0/24", Subnets: []string{"fd00:7::/64"}}), api.ErrConflict, []string{"overlaps network dual"}},
		{"no IPv6 there", attach(api.Attach{Name: "x", Networks: []api.Connect{{Network: "blue", IP6: "fd00:7::5"}}}), api.ErrInvalid, []string{"fd00:7::5", "network blue has no IPv6 subnet"}},
		{"one of two addresses in use", attach(api.Attach{Name: "x", Networks: []api.Connect{{Network: "dual", IP: "10.4.0.5", IP6: "fd00:7::9"}}}), api.ErrInvalid, []string{"fd00:7::9", "reserved for nas"}},
		{"publish on IPv6 without it", attach(api.Attach{Name: "x", Networks: on("blue"), Publish: []string{"[::]:80:80"}}), api.ErrInvalid, []string{"no IPv6 address"}},
		{"outside the subnet", attach(api.Attach{Name: "x", Networks: []api.Connect{{Network: "blue", IP: "10.8.0.5"}}}), api.ErrInvalid, []string{"10.8.0.5 is outside subnet 10.7.0.0/24", "network blue"}},
		{"address in use", attach(api.Attach{Name: "x", Networks: []api.Connect{{Network: "blue", IP: "10.7.0.5"}}}), api.ErrConflict, []string{"10.7.0.5", "in use by container web"}},
		{"reserved address", attach(api.Attach{Name: "x", Networks: []api.Connect{{Network: "blue", IP: "10.7.0.9"}}}), api.ErrInvalid, []string{"reserved for printer"}},
		{"MAC in use", attach(api.Attach{Name: "x", Networks: []api.Connect{{Network: "blue", MAC: "02:00:00:00:00:05"}}}), api.ErrConflict, []string{"02:00:00:00:00:05", "container web"}},
		{"MAC of a group", attach(api.Attach{Name: "x", Networks: []api.Connect{{Network: "blue", MAC: "01:00:5e:00:00:01"}}}), api.ErrInvalid, []string{"01:00:5e:00:00:01"}},
		{"subnet full", attach(api.Attach{Name: "x", Networks: on("tiny")}), api.ErrFull, []string{"network tiny is full", "larger subnet"}},
		{"missing namespace", attach(api.Attach{Name: "x", Netns: "/run/netns/nosuch"}), api.ErrNotFound, []string{"container x", "/run/netns/nosuch"}},
		{"no process", attach(api.Attach{Name: "x", PID: 1 << 22}), api.ErrNotFound, []string{"container x", fmt.Sprint(1 << 22)}},
		{"the host's namespace", attach(api.Attach{Name: "x", Netns: s.hostNetns}), api.ErrInvalid, []string{"container x", "--network host"}},
		{"interface name", attach(api.Attach{Name: "x", Networks: []api.Connect{{Ifname: "a234567890123456"}}}), api.ErrInvalid, []string{"a234567890123456", "15"}},
		{"interface taken", attach(api.Attach{Name: "x", Networks: []api.Connect{{Ifname: "lo0"}, {Network: "blue", Ifname: "lo0"}}}), api.ErrConflict, []string{"lo0"}},
		{"port out of range", attach(api.Attach{Name: "x", Publish: []string{"70000:80"}}), api.ErrInvalid, []string{"70000", "1 to 65535"}},
		{"port of a container", attach(api.Attach{Name: "x", Publish: []string{"8000-8100:8000-8100"}}), api.ErrConflict, []string{"port 8080/tcp is published by container web"}},
		{"port of the same request", attach(api.Attach{Name: "x", Publish: []string{"90:90", "90:91"}}), api.ErrConflict, []string{"port 90/tcp"}},
		{"address of another host", attach(api.Attach{Name: "x", Publish: []string{"203.0.113.7:80:80"}}), api.ErrInvalid, []string{"203.0.113.7 is not one of the host"}},
		{"publish from inside", attach(api.Attach{Name: "x", Networks: on("inside"), Publish: []string{"80"}}), api.ErrInvalid, []string{"internal"}},
		{"network in use", c.RemoveNetwork(ctx, "blue"), api.ErrConflict, []string{"network blue", "web"}},
		{"default network", c.RemoveNetwork(ctx, "bridge"), api.ErrConflict, []string{"default network"}},
		{"remove unknown network", c.RemoveNetwork(ctx, "nosuch"), api.ErrNotFound, []string{"network nosuch"}},
		{"bound to nothing", attach(api.Attach{Name: "x", Mode: api.ModeHost}), api.ErrInvalid, []string{"pid"}},
		{"unknown mode", attach(api.Attach{Name: "x", Mode: "vlan"}), api.ErrInvalid, []string{"vlan", "bridge, host, none or container"}},
		{"ports in mode host", attach(api.Attach{Name: "x", Mode: api.ModeHost, PID: os.Getpid(), Publish: []string{"80"}}), api.ErrInvalid, []string{"--network host", "-p"}},
		{"peer unknown", attach(api.Attach{Name: "x", Mode: api.ModeContainer, PID: os.Getpid(), Peer: "nosuch"}), api.ErrNotFound, []string{"nosuch"}},
		{"connect twice", func() error { _, err := c.Connect(ctx, "web", api.Connect{Network: "blue"}); return err }(), api.ErrConflict, []string{"network blue already"}},
		{"connect unknown", func() error { _, err := c.Connect(ctx, "nosuch", api.Connect{Network: "blue"}); return err }(), api.ErrNotFound, []string{"container nosuch"}},
		{"disconnect where it is not", c.Disconnect(ctx, "web", "bridge"), api.ErrNotFound, []string{"not in network bridge"}},
		{"unpublish what is not", c.Unpublish(ctx, "web", []string{"81"}), api.ErrNotFound, []string{"81 is not published"}},
	} {
		if !errors.Is(tc.err, tc.kind) {
			t.Errorf("%s: %v, want kind %v", tc.name, tc.err, tc.kind)
			continue
		}
		for _, s := range tc.say {
			if !strings.Contains(tc.err.Error(), s) {
				t.Errorf("%s: %q, want %q in it", tc.name, tc.err, s)
			}
		}
		if strings.Contains(tc.err.Error(), "\n") {
			t.Errorf("%s: %q is more than a line", tc.name, tc.err)
		}
	}
	if d := changed(before, func() map[string]string { return facts(t, c) }); d != "" {
		t.Errorf("something changed (-before +after):\n%s", d)
	}
}
