package control

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/control/host"
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
	labtest.NeedBPF(t)
	cfg := DaemonConfig{RunDir: t.TempDir(), StateDir: stateDir, Log: log}
	if err := cfg.fill(); err != nil {
		t.Fatal(err)
	}
	self, err := host.OpenNetns("/proc/self/ns/net")
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
	c, err := newController(cfg, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.close(); err != nil {
			t.Error(err)
		}
		goleak.VerifyNone(t)
	})
	return c
}

// facts is everything that an operation which failed must leave as it was.
func facts(t *testing.T, c *Controller) map[string]string {
	t.Helper()
	f := make(map[string]string)
	links, err := c.host.Links()
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range links {
		f["link "+l.Name] = fmt.Sprint(l.Index, l.Alias)
	}
	sockets, err := c.host.Sockets()
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range sockets {
		f[fmt.Sprintf("socket %d %s %d", s.Proto, s.Addr, s.Port)] = "held"
	}
	b, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_reserved_ports")
	if err != nil {
		t.Fatal(err)
	}
	f["reserved ports"] = string(b)
	bits := 0
	for _, w := range c.kernel.Published() {
		for ; w != 0; w &= w - 1 {
			bits++
		}
	}
	f["claims"] = fmt.Sprint(bits)
	f["switch ports"] = fmt.Sprint(len(c.sw.Stats().Ports))
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	f["descriptors"] = fmt.Sprint(len(fds))

	c.mu.Lock()
	defer c.mu.Unlock()
	for _, n := range c.networks {
		f["network "+n.rec.Name] = fmt.Sprint(n.ready, len(n.members), takenIn(n), len(n.macs))
	}
	for _, ct := range c.containers {
		f["container "+ct.rec.Name] = fmt.Sprint(ct.ready, len(ct.endpoints), len(ct.mappings))
	}
	f["published"] = fmt.Sprint(len(c.published.all))
	f["slots"] = fmt.Sprint(len(c.slots))
	f["by port"] = fmt.Sprint(len(c.byPort), len(c.byVeth))
	cfg, relay := c.compileLocked()
	f["snapshot"] = fmt.Sprint(len(cfg.Ports), len(cfg.Hosts), len(cfg.Publish), len(cfg.Networks), len(relay))
	return f
}

// stored is what the state file says, by name.
func stored(t *testing.T, c *Controller) []string {
	t.Helper()
	dir := t.TempDir()
	b, err := os.ReadFile(c.cfg.StateDir + "/" + state.FileName)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(dir+"/"+state.FileName, b, 0o600); err != nil {
		t.Fatal(err)
	}
	s, contents, err := state.Open(dir)
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

// TestEveryStepFails lets each step of each operation fail once and wants the
// world to be as it was.
func TestEveryStepFails(t *testing.T) {
	c := inProcess(t)
	ctx := t.Context()
	ns, other := labtest.New(t, "web"), labtest.New(t, "other")
	if _, err := c.CreateNetwork(ctx, api.NetworkCreate{Name: "blue", IPv6: yes()}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Attach(ctx, api.Attach{Name: "other", Netns: other.Path()}); err != nil {
		t.Fatal(err)
	}
	rules := []string{"8080:80", "53/udp", "127.0.0.1:9090:90", "10000-60000:10000-60000"}
	for _, op := range []struct {
		name string
		do   func() error
		undo func() error
	}{
		{"create", func() error {
			_, err := c.CreateNetwork(ctx, api.NetworkCreate{Name: "green", IPv6: yes()})
			return err
		}, func() error { return c.RemoveNetwork(ctx, "green") }},
		{"attach", func() error {
			_, err := c.Attach(ctx, api.Attach{
				Name: "web", Netns: ns.Path(), Publish: rules,
				Networks: []api.Connect{{Network: "bridge"}, {Network: "blue", IP: "10.88.1.77"}},
			})
			return err
		}, func() error { return c.Detach(ctx, "web") }},
		{"ephemeral", func() error {
			_, err := c.Attach(ctx, api.Attach{Name: "web", Netns: ns.Path(), PID: os.Getpid(), Ephemeral: true})
			return err
		}, func() error { return c.Detach(ctx, "web") }},
		{"connect", func() error {
			_, err := c.Connect(ctx, "other", api.Connect{Network: "blue"})
			return err
		}, func() error { return c.Disconnect(ctx, "other", "blue") }},
		{"publish", func() error {
			_, err := c.Publish(ctx, "other", rules)
			return err
		}, func() error {
			return c.Unpublish(ctx, "other", rules)
		}},
	} {
		t.Run(op.name, func(t *testing.T) {
			// Once in full: what is made lazily is made, and the steps are known.
			var steps []string
			c.fault = func(step string) error { steps = append(steps, step); return nil }
			if err := op.do(); err != nil {
				t.Fatal(err)
			}
			if err := op.undo(); err != nil {
				t.Fatal(err)
			}
			before, disk := facts(t, c), stored(t, c)
			if len(steps) < 3 {
				t.Fatalf("steps %v", steps)
			}
			for fail := range steps {
				n := 0
				boom := errors.New("boom")
				c.fault = func(string) error {
					if n++; n-1 == fail {
						return boom
					}
					return nil
				}
				what := fmt.Sprintf("step %d %s", fail, steps[fail])
				if err := op.do(); !errors.Is(err, boom) {
					t.Fatalf("%s: %v, want it to fail", what, err)
				}
				if d := cmp.Diff(before, facts(t, c)); d != "" {
					t.Errorf("%s left something (-before +after):\n%s", what, d)
				}
				if d := cmp.Diff(disk, stored(t, c)); d != "" {
					t.Errorf("%s left something on disk (-before +after):\n%s", what, d)
				}
			}
			c.fault = nil
			// And it works after all that.
			if err := op.do(); err != nil {
				t.Fatal(err)
			}
			if err := op.undo(); err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(before, facts(t, c)); d != "" {
				t.Errorf("undone, something is left (-before +after):\n%s", d)
			}
			t.Logf("%d steps", len(steps))
		})
	}
}

// TestRefusals gives each request of "bad input" and wants one line that names
// the object and the way out, the right kind, and no change.
func TestRefusals(t *testing.T) {
	// /proc/self is the first thread, which may be about something elsewhere.
	own, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	defer own.Close()
	c := inProcess(t)
	ctx := t.Context()
	ns, free := labtest.New(t, "web"), labtest.New(t, "free")
	attach := func(in api.Attach) error {
		if in.Netns == "" && in.PID == 0 {
			in.Netns = free.Path()
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
		attach(api.Attach{Name: "web", Netns: ns.Path(), Publish: []string{"8080:80"}, Networks: []api.Connect{{Network: "tiny"}, {Network: "blue", IP: "10.7.0.5", MAC: "02:00:00:00:00:05"}}}),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	hold, err := c.ports.Take(header.ProtoTCP, netip.Addr{}, 7777, 7777)
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
		{"name twice, other options", attach(api.Attach{Name: "web", Netns: ns.Path()}), api.ErrConflict, []string{"container web is attached already", "other options"}},
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
		{"the host's namespace", attach(api.Attach{Name: "x", Netns: fmt.Sprintf("/proc/self/fd/%d", own.Fd())}), api.ErrInvalid, []string{"container x", "--network host"}},
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
	if d := cmp.Diff(before, facts(t, c)); d != "" {
		t.Errorf("something changed (-before +after):\n%s", d)
	}
}

// takenIn is the number of addresses that a network has handed out.
func takenIn(n *network) (count int) {
	for _, p := range n.pools {
		count += len(p.taken)
	}
	return count
}
