package control

import (
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/control/edge/edgetest"
	"github.com/vswitch/vswitch/control/host"
)

// machine is a host with an uplink on a model of the kernel, and the state directory of
// the switch on it. It needs no rights, and makes no namespace.
type machine struct {
	*edgetest.Kernel
	t   testing.TB
	cfg Config
	log *logBuffer
	*Controller
}

// The address of the host, its subnet, and the gateway to the outside.
var (
	uplinkAddr = netip.MustParsePrefix("198.51.100.2/24")
	outside    = netip.MustParseAddr("198.51.100.1")
	everything = netip.MustParsePrefix("0.0.0.0/0")
)

// newMachine has an interface eth0 with a default route; nothing runs on it.
func newMachine(t testing.TB) *machine {
	t.Helper()
	m := &machine{Kernel: edgetest.New(), t: t, log: new(logBuffer)}
	m.AddNIC("eth0", uplinkAddr, netip.MustParsePrefix("2001:db8::2/64"))
	m.AddRoute("eth0", host.Route{Prefix: everything, Via: outside})
	m.AddRoute("eth0", host.Route{Prefix: netip.MustParsePrefix("::/0"), Via: netip.MustParseAddr("2001:db8::1")})
	m.cfg = Config{StateDir: t.TempDir(), Workers: 1, Log: slog.New(slog.NewTextHandler(m.log, &slog.HandlerOptions{Level: slog.LevelDebug}))}
	t.Cleanup(func() {
		if m.Controller != nil {
			m.stop()
		}
		if t.Failed() {
			t.Log(m.log.String())
		}
		if _, ok := t.(*testing.T); ok { // the runner of benchmarks is a goroutine of its own
			noLeaks(t)
		}
	})
	return m
}

// start begins a daemon, or rather its controller.
func (m *machine) start() *machine {
	m.t.Helper()
	if err := m.tryStart(); err != nil {
		m.t.Fatal(err)
	}
	return m
}

func (m *machine) tryStart() (err error) {
	m.cfg.Edge = m.Open()
	m.Controller, err = New(m.cfg)
	return err
}

// stop ends it as SIGTERM does.
func (m *machine) stop() {
	m.t.Helper()
	if err := m.Controller.Close(); err != nil {
		m.t.Error(err)
	}
	m.Controller = nil
}

// kill ends it as SIGKILL does: the state is what it is in that moment.
func (m *machine) kill() {
	m.t.Helper()
	dir := copied(m.t, m.Controller)
	m.Controller.edge.(*edgetest.Edge).Kill()
	_ = m.Controller.Close() // its goroutines
	m.Controller, m.cfg.StateDir = nil, dir
}

// container makes a namespace and attaches it.
func (m *machine) container(name string, change ...func(*api.Attach)) api.Container {
	m.t.Helper()
	out, err := m.attach(name, change...)
	if err != nil {
		m.t.Fatal(err)
	}
	return out
}

func (m *machine) attach(name string, change ...func(*api.Attach)) (api.Container, error) {
	in := api.Attach{Name: name, Netns: netnsOf(name)}
	for _, fn := range change {
		fn(&in)
	}
	if !m.HasNetns(netnsOf(name)) {
		m.AddNetns(netnsOf(name))
	}
	return m.Attach(m.t.Context(), in)
}

func netnsOf(name string) string { return "/run/netns/" + name }

func publish(rules ...string) func(*api.Attach) {
	return func(in *api.Attach) { in.Publish = rules }
}

func networks(names ...string) func(*api.Attach) {
	return func(in *api.Attach) {
		for _, n := range names {
			in.Networks = append(in.Networks, api.Connect{Network: n})
		}
	}
}

// ok fails the test for an error.
func (m *machine) ok(err error) {
	m.t.Helper()
	if err != nil {
		m.t.Fatal(err)
	}
}

// same wants the kernel and the controller's own tables as they were.
func (m *machine) same(what string, before, after []string) {
	m.t.Helper()
	if d := cmp.Diff(before, after); d != "" {
		m.t.Errorf("%s left something (-before +after):\n%s", what, d)
	}
}

// until waits for what the controller does by itself.
func (m *machine) until(what string, fits func() bool) {
	m.t.Helper()
	for late := time.Now().Add(30 * time.Second); !fits(); time.Sleep(time.Millisecond) {
		if time.Now().After(late) {
			m.t.Fatalf("%s: it does not happen", what)
		}
	}
}

// names are the containers, in order.
func (m *machine) names() string {
	m.t.Helper()
	all, err := m.Containers(m.t.Context(), api.ContainerFilter{})
	m.ok(err)
	var list []string
	for _, ct := range all {
		list = append(list, ct.Name)
	}
	return strings.Join(list, " ")
}

// dials wants connections of the host to a port of its own to lead somewhere, "" being
// nowhere.
func (m *machine) dials(proto uint8, at, want string) {
	m.t.Helper()
	got := ""
	if to, ok := m.Dial(proto, netip.MustParseAddrPort(at)); ok {
		got = to.String()
	}
	if got != want {
		m.t.Errorf("%s of the host leads to %q, want %q", at, got, want)
	}
}
