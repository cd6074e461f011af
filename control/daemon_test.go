package control

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/control/client"
	"github.com/vswitch/vswitch/control/holder"
	"github.com/vswitch/vswitch/internal/netlab"
	"github.com/vswitch/vswitch/internal/netlab/labtest"
)

// rig is a world with a daemon in its host.
type rig struct {
	*client.Client
	t     testing.TB
	world *netlab.World
	cfg   daemonSpec
	cmd   *exec.Cmd
	log   *logBuffer
	ended chan error
	// Of the host before the daemon.
	links  []string
	before string // on the uplink
}

// logBuffer is what a daemon wrote.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func newRig(t testing.TB) *rig {
	t.Helper()
	labtest.NeedBPF(t)
	dir, err := os.MkdirTemp("", "vs") // a socket's path is short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	r := &rig{t: t, world: labtest.NewWorld(t)}
	r.cfg = daemonSpec{RunDir: filepath.Join(dir, "run"), StateDir: filepath.Join(dir, "state"), NoTCX: withoutTCX}
	r.links, r.before = r.hostLinks(), r.uplink()
	r.Client = client.New(filepath.Join(r.cfg.RunDir, socketName))
	t.Cleanup(func() {
		if r.cmd != nil {
			r.kill()
		}
		// With a cable left it would go on.
		if _, err := holder.End(r.cfg.RunDir); err != nil {
			t.Error(err)
		}
		r.Client.Close()
		for _, bad := range []string{"DATA RACE", "panic", "level=ERROR"} {
			if r.log != nil && strings.Contains(r.log.String(), bad) {
				t.Errorf("the daemon's log speaks of %s", bad)
			}
		}
		if t.Failed() && r.log != nil {
			t.Logf("daemon's log:\n%s", r.log)
		}
	})
	return r
}

func (r *rig) hostLinks() []string {
	r.t.Helper()
	l, err := r.world.Host.Links()
	if err != nil {
		r.t.Fatal(err)
	}
	slices.Sort(l)
	return l
}

// command is a daemon that has not begun.
func (r *rig) command(cfg daemonSpec) (*exec.Cmd, *logBuffer) {
	env, err := json.Marshal(cfg)
	if err != nil {
		r.t.Fatal(err)
	}
	out := new(logBuffer)
	cmd := exec.Command("/proc/self/exe")
	// A binary built with -cover says so on its way out, unless it has a place for what
	// it counted, which a daemon without rights must be able to write.
	counts := filepath.Join(filepath.Dir(r.cfg.RunDir), "counts")
	if err := errors.Join(os.MkdirAll(counts, 0o777), os.Chmod(counts, 0o777)); err != nil {
		r.t.Fatal(err)
	}
	cmd.Env = append(os.Environ(), daemonEnv+"="+string(env), "GOCOVERDIR="+counts)
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	return cmd, out
}

// start starts the daemon and waits until it answers.
func (r *rig) start() {
	r.t.Helper()
	r.cmd, r.log = r.command(r.cfg)
	if err := r.world.Host.Start(r.cmd); err != nil {
		r.t.Fatal(err)
	}
	r.ended = make(chan error, 1)
	go func(cmd *exec.Cmd, ended chan error) { ended <- cmd.Wait() }(r.cmd, r.ended)
	deadline := time.Now().Add(30 * time.Second)
	for {
		if _, err := r.Info(r.t.Context()); err == nil {
			return
		} else if time.Now().After(deadline) {
			r.t.Fatalf("no daemon after 30 s: %v\n%s", err, r.log)
		}
		select {
		case err := <-r.ended:
			r.cmd = nil
			r.t.Fatalf("daemon ended: %v\n%s", err, r.log)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// stop ends the daemon by SIGTERM.
func (r *rig) stop() {
	r.t.Helper()
	r.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case err := <-r.ended:
		if err != nil {
			r.t.Errorf("daemon after SIGTERM: %v\n%s", err, r.log)
		}
	case <-time.After(60 * time.Second):
		r.cmd.Process.Signal(syscall.SIGQUIT)
		<-r.ended
		r.t.Fatalf("daemon runs 60 s after SIGTERM\n%s", r.log)
	}
	r.cmd = nil
}

func (r *rig) kill() {
	r.cmd.Process.Kill()
	<-r.ended
	r.cmd = nil
}

// attach makes a container: a namespace with a name.
func (r *rig) attach(name string, in api.Attach) (*netlab.NS, api.Container) {
	r.t.Helper()
	ns := labtest.New(r.t, name)
	in.Name, in.Netns = name, ns.Path()
	ct, err := r.Attach(r.t.Context(), in)
	if err != nil {
		r.t.Fatal(err)
	}
	return ns, ct
}

// addr is a container's address without the prefix length.
func addr(ct api.Container) string {
	a, _, _ := strings.Cut(ct.Endpoints[0].Address, "/")
	return a
}

// serve answers every TCP connection with the client's address and name.
func serve(t testing.TB, ns *netlab.NS, at, name string) {
	t.Helper()
	l, err := ns.Listen("tcp", at)
	if err != nil {
		t.Fatal(err)
	}
	labtest.Serve(t, l, func(c net.Conn) { fmt.Fprintf(c, "%s %s", name, c.RemoteAddr()) })
}

// fetch reads what serve says.
func fetch(ns *netlab.NS, at string) (string, error) {
	c, err := ns.Dial("tcp", at, 10*time.Second)
	if err != nil {
		return "", err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(30 * time.Second))
	b, err := io.ReadAll(c)
	return string(b), err
}

// wantFetch expects an answer of name to a client at from.
func wantFetch(t testing.TB, ns *netlab.NS, at, name, from string) {
	t.Helper()
	got, err := fetch(ns, at)
	if err != nil {
		t.Errorf("%s fetches %s: %v", ns.Name(), at, err)
		return
	}
	who, peer, _ := strings.Cut(got, " ")
	host, _, _ := net.SplitHostPort(peer)
	if who != name || from != "" && host != from {
		t.Errorf("%s fetches %s: answered by %s to %s, want %s to %s", ns.Name(), at, who, host, name, from)
	}
}

// eventually waits for a condition, for so long that a busy machine fails no test.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("it is not so: %s", what)
		}
	}
}

func TestAttachPublishDetach(t *testing.T) {
	r := newRig(t)
	r.start()
	ctx := t.Context()
	web, ct := r.attach("web", api.Attach{Publish: []string{"8080:80", "10000-60000:10000-60000"}})
	db, dbct := r.attach("db", api.Attach{})
	serve(t, web, ":80", "web")
	serve(t, web, ":10007", "range")
	serve(t, r.world.Host, ":7000", "host")
	serve(t, r.world.Outside, ":9000", "outside")

	wantFetch(t, db, addr(ct)+":80", "web", addr(dbct))
	wantFetch(t, r.world.Host, addr(ct)+":80", "web", "10.88.0.1")
	wantFetch(t, web, "10.88.0.1:7000", "host", addr(ct))
	wantFetch(t, web, netlab.OutsideAddr+":9000", "outside", netlab.HostAddr)
	wantFetch(t, web, netlab.FarAddr+":9000", "outside", netlab.HostAddr)
	wantFetch(t, r.world.Outside, netlab.HostAddr+":8080", "web", netlab.OutsideAddr)
	wantFetch(t, r.world.Outside, netlab.HostAddr+":10007", "range", netlab.OutsideAddr)
	wantFetch(t, r.world.Host, "127.0.0.1:8080", "web", "")
	wantFetch(t, r.world.Host, netlab.HostAddr+":8080", "web", "")
	wantFetch(t, db, netlab.HostAddr+":8080", "web", netlab.HostAddr)

	nat, err := r.NAT(ctx, api.NATQuery{})
	if err != nil || len(nat) == 0 {
		t.Errorf("nat: %v, %v", nat, err)
	}
	fdb, err := r.FDB(ctx)
	if err != nil || !slices.ContainsFunc(fdb, func(e api.FDBEntry) bool { return e.Container == "web" && e.MAC == ct.Endpoints[0].MAC }) {
		t.Errorf("fdb: %+v, %v", fdb, err)
	}
	if st, err := r.Stats(ctx, api.StatsQuery{}); err != nil || len(st.Ports) != 4 { // two containers, host, uplink
		t.Errorf("stats: %+v, %v", st, err)
	}
	for _, name := range []string{"web", "db", "web", "nosuch"} {
		if err := r.Detach(ctx, name); err != nil {
			t.Errorf("detach %s: %v", name, err)
		}
	}
	if l, err := web.Links(); err != nil || len(l) != 1 {
		t.Errorf("links of web after detach: %v, %v", l, err)
	}
	if _, err := fetch(r.world.Outside, netlab.HostAddr+":8080"); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("unpublished port: %v, want connection refused by the host", err)
	}
	r.stop()
	r.wantNoTrace()
}

// uplink is what tc(8) shows of the host's uplink.
func (r *rig) uplink() string {
	r.t.Helper()
	var all strings.Builder
	for _, arg := range [][]string{{"qdisc", "show", "dev", "eth0"}, {"filter", "show", "dev", "eth0", "ingress"}} {
		cmd := r.world.Host.Command("tc", arg...)
		out, err := cmd.CombinedOutput()
		if err != nil {
			r.t.Fatalf("%v: %v: %s", cmd.Args, err, out)
		}
		all.Write(out)
	}
	return all.String()
}

// wantNoTrace compares the host with what it was before the daemon.
func (r *rig) wantNoTrace() {
	r.t.Helper()
	if got := r.hostLinks(); !slices.Equal(got, r.links) {
		r.t.Errorf("links of the host %v, want %v", got, r.links)
	}
	if _, err := os.Stat(r.cfg.RunDir); !errors.Is(err, os.ErrNotExist) {
		e, _ := os.ReadDir(r.cfg.RunDir)
		r.t.Errorf("run directory is left: %v, %v", e, err)
	}
	if got := r.uplink(); got != r.before {
		r.t.Errorf("on the uplink:\n%swant:\n%s", got, r.before)
	}
	out, err := r.world.Host.Command("sysctl", "-n", "net.ipv4.ip_local_reserved_ports", "net.ipv4.ip_forward").CombinedOutput()
	if got := strings.Fields(string(out)); err != nil || !slices.Equal(got, []string{"0"}) {
		r.t.Errorf("reserved ports and ip_forward: %q, %v, want nothing and 0", out, err)
	}
}
