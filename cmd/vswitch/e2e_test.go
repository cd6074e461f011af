package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/control/client"
	"github.com/vswitch/vswitch/control/holder"
	"github.com/vswitch/vswitch/internal/netlab"
	"github.com/vswitch/vswitch/internal/netlab/labtest"
)

// rig is a daemon, as a process of its own, on the host of a World.
type rig struct {
	t      testing.TB
	world  *netlab.World
	dir    string
	args   []string // of the daemon, beside those for its directories and the uplink
	daemon *exec.Cmd
	log    lockedBuffer
}

func newRig(t testing.TB, args ...string) *rig {
	t.Helper()
	labtest.NeedBPF(t)
	r := &rig{t: t, world: labtest.NewWorld(t), dir: t.TempDir(), args: args}
	t.Setenv("VSWITCH_SOCKET", "")
	r.start()
	t.Cleanup(func() {
		r.stop()
		// With a cable left it would go on.
		if _, err := holder.End(r.runDir()); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Logf("daemon:\n%s", r.log.String())
		}
	})
	return r
}

func (r *rig) runDir() string { return filepath.Join(r.dir, "run") }

// command is vswitch in the host's namespace.
func (r *rig) command(args ...string) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe", append([]string{"--run-dir", r.runDir()}, args...)...)
	cmd.Args[0] = programName
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	return cmd
}

func (r *rig) start() {
	r.t.Helper()
	r.startAs(r.command(append([]string{"daemon", "--state-dir", filepath.Join(r.dir, "state"), "--uplink", "eth0"}, r.args...)...))
}

// startAs starts a daemon whose run directory is the rig's.
func (r *rig) startAs(cmd *exec.Cmd) {
	r.t.Helper()
	r.daemon = cmd
	r.daemon.Stdout, r.daemon.Stderr = &r.log, &r.log
	if err := r.world.Host.Start(r.daemon); err != nil {
		r.t.Fatal(err)
	}
	cl := client.New(filepath.Join(r.runDir(), "vswitch.sock"))
	defer cl.Close()
	if !eventually(func() bool { _, err := cl.Info(context.Background()); return err == nil }) {
		r.daemon.Process.Kill()
		r.daemon.Wait()
		r.t.Fatalf("the daemon does not answer:\n%s", r.log.String())
	}
}

// stop ends the daemon by SIGTERM and returns its exit code.
func (r *rig) stop() int {
	r.daemon.Process.Signal(unix.SIGTERM)
	timer := time.AfterFunc(60*time.Second, func() { r.daemon.Process.Kill() })
	r.daemon.Wait()
	timer.Stop()
	return r.daemon.ProcessState.ExitCode()
}

// vswitch runs a command line against the daemon.
func (r *rig) vswitch(args ...string) (stdout, stderr string, code int) {
	r.t.Helper()
	var out, errOut bytes.Buffer
	args = append([]string{"--run-dir", r.runDir()}, args...)
	code = run(r.t.Context(), args, strings.NewReader(""), &out, &errOut)
	return out.String(), errOut.String(), code
}

// must runs a command line that has to succeed.
func (r *rig) must(args ...string) string {
	r.t.Helper()
	stdout, stderr, code := r.vswitch(args...)
	if code != 0 {
		r.t.Fatalf("vswitch %s: exit code %d: %s", strings.Join(args, " "), code, stderr)
	}
	return stdout
}

// decode runs a command line with --format json.
func decode[T any](r *rig, args ...string) (v T) {
	r.t.Helper()
	out := r.must(append(args, "--format", "json")...)
	if err := json.Unmarshal([]byte(out), &v); err != nil {
		r.t.Fatalf("vswitch %s: %v in %s", strings.Join(args, " "), err, out)
	}
	return v
}

// container is a running `vswitch run` with the demo's program in it.
type container struct {
	*exec.Cmd
	stderr lockedBuffer
}

// run starts a container and waits until its program serves.
func (r *rig) run(name string, args ...string) *container {
	r.t.Helper()
	// The program is chosen by argv[0], which is what PATH is searched for.
	bin := r.t.TempDir()
	exe, err := os.Readlink("/proc/self/exe")
	if err == nil {
		err = os.Symlink(exe, filepath.Join(bin, demoContainerName))
	}
	if err != nil {
		r.t.Fatal(err)
	}
	c := &container{}
	c.Cmd = r.command(append(append([]string{"run", "--name", name}, args...), "--", demoContainerName)...)
	c.Env = append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH"))
	c.Cmd.Stderr = &c.stderr
	c.WaitDelay = time.Second // a process that wrongly survives holds the stream
	stdin, err := c.StdinPipe()
	if err != nil {
		r.t.Fatal(err)
	}
	stdout, err := c.StdoutPipe()
	if err != nil {
		r.t.Fatal(err)
	}
	if err := r.world.Host.Start(c.Cmd); err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() {
		stdin.Close()
		c.Process.Kill()
		c.Wait()
	})
	if line, err := readLine(stdout); line != "ok serving" {
		r.t.Fatalf("run %s: got %q, %v: %s", name, line, err, c.stderr.String())
	}
	return c
}

// fetch is a page's body, or "" and why there was none.
func (r *rig) fetch(from *netlab.NS, addr string) (string, error) {
	return fetch(r.t.Context(), from, addr)
}

func (r *rig) wantPage(from *netlab.NS, addr, want string) {
	r.t.Helper()
	if got, err := r.fetch(from, addr); got != want || err != nil {
		r.t.Errorf("page of %s from %s: got %q, %v; want %q", addr, from.Name(), got, err, want)
	}
}

// site makes addr in ns answer until the end of the test.
func (r *rig) site(ns *netlab.NS, addr string) {
	r.t.Helper()
	var d demo
	if err := d.serve(ns, addr); err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() {
		for _, s := range d.sites {
			s.Close()
		}
	})
}

func address(t *testing.T, cidr string) string {
	t.Helper()
	ip, _, err := net.ParseCIDR(cidr)
	if err != nil {
		t.Fatal(err)
	}
	return ip.String()
}

// TestAttachDetach attaches a namespace, reaches it from everywhere and takes
// it off again, each step twice.
func TestAttachDetach(t *testing.T) {
	r := newRig(t)
	web := labtest.New(t, "web")
	before, err := r.world.Host.Links()
	if err != nil {
		t.Fatal(err)
	}
	ct := decode[api.Container](r, "attach", "web", "--netns", web.Path(), "-p", "8080:80", "--ip", "10.88.0.77")
	again := decode[api.Container](r, "attach", "web", "--netns", web.Path(), "-p", "8080:80", "--ip", "10.88.0.77")
	if ct.ID != again.ID {
		t.Errorf("attached twice: %s, then %s", ct.ID, again.ID)
	}
	if len(ct.Endpoints) != 1 || ct.Endpoints[0].Address != "10.88.0.77/24" || ct.Endpoints[0].Interface != "eth0" {
		t.Fatalf("got endpoints %+v", ct.Endpoints)
	}
	r.site(web, "10.88.0.77")
	r.wantPage(r.world.Host, "10.88.0.77", "10.88.0.1")
	r.wantPage(r.world.Outside, netlab.HostAddr+":8080", netlab.OutsideAddr)
	r.wantPage(r.world.Host, "127.0.0.1:8080", "10.88.0.1")
	r.wantPage(r.world.Host, netlab.HostAddr+":8080", "10.88.0.1")
	r.site(r.world.Outside, netlab.FarAddr)
	r.wantPage(web, netlab.FarAddr, netlab.HostAddr)

	for _, args := range [][]string{{"ps"}, {"inspect", "web"}, {"fdb"}, {"stats"}, {"port", "ls"}, {"nat", "ls"}} {
		if out := r.must(args...); !strings.Contains(out, "web") {
			t.Errorf("vswitch %s does not mention web:\n%s", strings.Join(args, " "), out)
		}
	}
	if n := decode[api.NATFlushed](r, "nat", "flush"); n.Count == 0 {
		t.Error("nat flush: got 0 connections, want those of the fetches")
	}

	r.must("detach", "web")
	r.must("detach", "web")
	if left := decode[[]api.Container](r, "ps"); len(left) != 0 {
		t.Errorf("got containers %+v after detach", left)
	}
	after, err := r.world.Host.Links()
	if err != nil || !slices.Equal(before, after) {
		t.Errorf("got links %v, %v; want %v", after, err, before)
	}
	if links, err := web.Links(); err != nil || !slices.Equal(links, []string{"lo"}) {
		t.Errorf("got links %v, %v in the container; want lo alone", links, err)
	}
	if got, err := r.fetch(r.world.Outside, netlab.HostAddr+":8080"); err == nil {
		t.Errorf("the port is still published: %q", got)
	}
}

// TestRunModes has a container in each network mode at a time.
func TestRunModes(t *testing.T) {
	r := newRig(t)
	r.must("network", "create", "blue", "--subnet", "10.1.0.0/24")
	web := r.run("web", "-p", "8080:80", "--label", "app=shop")
	blue := r.run("blue", "--network", "name=blue,ip=10.1.0.50")
	r.run("host", "--network", "host")
	r.run("none", "--network", "none")

	ct := decode[api.Container](r, "inspect", "web")
	r.wantPage(r.world.Outside, netlab.HostAddr+":8080", netlab.OutsideAddr)
	r.wantPage(r.world.Host, address(t, ct.Endpoints[0].Address), ct.Endpoints[0].Gateway)
	r.wantPage(r.world.Host, "10.1.0.50", "10.1.0.1")
	r.wantPage(r.world.Outside, netlab.HostAddr, netlab.OutsideAddr) // the one in the host's namespace

	// Its peer's namespace, found by name; lo is shared too.
	side := r.command("run", "--name", "side", "--network", "container:web", "--", "readlink", "/proc/self/ns/net")
	var out lockedBuffer
	side.Stdout, side.Stderr = &out, &out
	if err := r.world.Host.Start(side); err != nil {
		t.Fatal(err)
	}
	side.Wait()
	if got, want := strings.TrimSpace(out.String()), netnsOf(t, fmt.Sprintf("/proc/%d/ns/net", ct.PID)); got != want {
		t.Errorf("container:web ran in %s, want %s", got, want)
	}

	modes := map[string]string{}
	for _, c := range decode[[]api.Container](r, "ps") {
		modes[c.Name] = c.Mode
	}
	if want := map[string]string{"web": "bridge", "blue": "bridge", "host": "host", "none": "none"}; fmt.Sprint(modes) != fmt.Sprint(want) {
		t.Errorf("got %v, want %v", modes, want)
	}

	// Two ways to end: by a signal, and by kill -9 of vswitch itself.
	web.Process.Signal(unix.SIGTERM)
	if got := wait(t, web.Cmd); got != exitSignal+int(unix.SIGTERM) {
		t.Errorf("got exit code %d after SIGTERM: %s", got, web.stderr.String())
	}
	if _, stderr, code := r.vswitch("inspect", "web"); code != exitFailure {
		t.Errorf("web is still attached: exit code %d, %s", code, stderr)
	}
	blue.Process.Kill()
	blue.Wait()
	if !eventually(func() bool { _, _, code := r.vswitch("inspect", "blue"); return code == exitFailure }) {
		t.Error("blue is still attached after its process was killed")
	}
	if !eventually(func() bool { _, _, code := r.vswitch("network", "rm", "blue"); return code == exitOK }) {
		r.must("network", "rm", "blue")
	}
}

// TestRestart stops the daemon under an attached container and starts it again.
func TestRestart(t *testing.T) {
	r := newRig(t)
	web := labtest.New(t, "web")
	r.must("network", "create", "blue", "--subnet", "10.1.0.0/24")
	r.must("attach", "web", "--netns", web.Path(), "--network", "blue", "-p", "8080:80")
	inspect := r.must("inspect", "web", "--format", "json")
	addr := address(t, decode[api.Container](r, "inspect", "web").Endpoints[0].Address)
	r.site(web, addr)
	r.wantPage(r.world.Outside, netlab.HostAddr+":8080", netlab.OutsideAddr)
	if code := r.stop(); code != 0 {
		t.Errorf("daemon ended with exit code %d", code)
	}
	r.start()
	if got := r.must("inspect", "web", "--format", "json"); got != inspect {
		t.Errorf("after a restart got %s, want %s", got, inspect)
	}
	r.wantPage(r.world.Outside, netlab.HostAddr+":8080", netlab.OutsideAddr)
	r.wantPage(r.world.Host, addr, "10.1.0.1")
	r.must("detach", "web")
}
