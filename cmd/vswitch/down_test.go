package main

import (
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/control/holder"
	"github.com/vswitch/vswitch/internal/netlab"
	"github.com/vswitch/vswitch/internal/netlab/labtest"
)

// downRig is a rig with a container that serves at port 80.
type downRig struct {
	*rig
	web    *netlab.NS
	at     string // its address
	before string // of the host before the daemon
}

func newDownRig(t *testing.T) *downRig {
	t.Helper()
	r := &downRig{rig: newRig(t), web: labtest.New(t, "web")}
	r.before = r.host()
	r.attach()
	l, err := r.web.Listen("tcp", ":80")
	if err != nil {
		t.Fatal(err)
	}
	labtest.Serve(t, l, func(c net.Conn) { _, _ = io.WriteString(c, "hello") })
	r.reaches()
	return r
}

func (r *downRig) attach() {
	r.t.Helper()
	ct := decode[api.Container](r.rig, "attach", "web", "--netns", r.web.Path(), "-p", "8080:80", "-p", "20000-20999:20000-20999")
	r.at, _, _ = strings.Cut(ct.Endpoints[0].Address, "/")
}

// host is what there is of the switch on the host beside a daemon.
func (r *downRig) host() string {
	r.t.Helper()
	out, err := r.world.Host.Command("sh", "-c", `ip -o link | grep -o 'vs-[0-9a-f]*\|veth[0-9a-f]*'
		tc filter show dev eth0 ingress; tc filter show dev eth0 egress
		echo reserved $(cat /proc/sys/net/ipv4/ip_local_reserved_ports)`).CombinedOutput()
	if err != nil {
		r.t.Fatalf("%v: %s", err, out)
	}
	return string(out)
}

// fetch is what the container says at an address to the host.
func (r *downRig) fetch(at string) (string, error) {
	c, err := r.world.Host.Dial("tcp", at, 5*time.Second)
	if err != nil {
		return "", err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(5 * time.Second))
	b, err := io.ReadAll(c)
	return string(b), err
}

func (r *downRig) reaches() {
	r.t.Helper()
	for _, at := range []string{r.at + ":80", "127.0.0.1:8080", netlab.HostAddr + ":8080"} {
		if !eventually(func() bool { got, err := r.fetch(at); return err == nil && got == "hello" }) {
			got, err := r.fetch(at)
			r.t.Errorf("%s: %q, %v", at, got, err)
		}
	}
}

// end ends the daemon.
func (r *downRig) end(s unix.Signal) {
	r.t.Helper()
	if err := r.daemon.Process.Signal(s); err != nil {
		r.t.Fatal(err)
	}
	r.daemon.Wait()
}

// down runs vswitch down on the host.
func (r *downRig) down(args ...string) string {
	r.t.Helper()
	cmd := r.command(append([]string{"down", "--state-dir", filepath.Join(r.dir, "state")}, args...)...)
	return r.runs(cmd)
}

// runs runs a command on the host to its end, which is to be a good one.
func (r *downRig) runs(cmd *exec.Cmd) string {
	r.t.Helper()
	var out lockedBuffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := r.world.Host.Start(cmd)
	if err == nil {
		err = cmd.Wait()
	}
	if err != nil {
		r.t.Errorf("%v: %v: %s", cmd.Args, err, out.String())
	}
	return out.String()
}

func (r *downRig) holds() bool {
	ok, err := os.Stat(filepath.Join(r.runDir(), holder.SocketName))
	return err == nil && ok != nil
}

// processes are all of a kind in the host's namespace, which a daemon has begun.
func (r *rig) processes(kind string) (pids []int) {
	r.t.Helper()
	here, err := os.Stat(r.world.Host.Path())
	if err != nil {
		r.t.Fatal(err)
	}
	list, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, at := range list {
		args, err := os.ReadFile(at)
		if err != nil || string(args) != "vswitch\x00"+kind+"\x00" {
			continue
		}
		if ns, err := os.Stat(filepath.Join(filepath.Dir(at), "ns/net")); err == nil && os.SameFile(ns, here) {
			var pid int
			fmt.Sscanf(at, "/proc/%d/", &pid)
			pids = append(pids, pid)
		}
	}
	return pids
}

// holder is the process that keeps what outlives the daemon.
func (r *rig) holder() int {
	r.t.Helper()
	pids := r.processes("hold")
	if len(pids) != 1 {
		r.t.Fatalf("%d holders", len(pids))
	}
	return pids[0]
}

// wantAlone wants no process of a daemon that has ended to be left.
func (r *rig) wantAlone() {
	r.t.Helper()
	for _, kind := range []string{"hold", "relay", "resolve"} {
		if !eventually(func() bool { return len(r.processes(kind)) == 0 }) {
			r.t.Errorf("left: vswitch %s, process %v", kind, r.processes(kind))
		}
	}
}

// device is that of the network.
func (r *downRig) device() int {
	r.t.Helper()
	list := decode[[]api.Network](r.rig, "network", "ls")
	if len(list) == 0 {
		r.t.Fatal("no network")
	}
	index, err := r.world.Host.Index(list[0].Interface)
	if err != nil {
		r.t.Fatal(err)
	}
	return index
}

// TestF01NextDaemonTakesOver: what a daemon had open is open while nobody is there, and the next
// one goes on with it. Who connects to a published port meanwhile is not refused.
func TestF01NextDaemonTakesOver(t *testing.T) {
	r := newDownRig(t)
	for _, s := range []unix.Signal{unix.SIGTERM, unix.SIGKILL} {
		index := r.device()
		there := r.host()
		r.end(s)
		if got := r.host(); !strings.Contains(got, "reserved 20000-20999") || strings.Count(got, "vs-") != strings.Count(there, "vs-") {
			t.Errorf("after %v: %s\nwant\n%s", s, got, there)
		}
		if _, err := r.world.Host.Listen("tcp", ":8080"); err == nil {
			t.Errorf("after %v a program of the host gets a published port", s)
		}
		connected, got := make(chan error, 1), make(chan string, 1)
		go func() {
			c, err := r.world.Host.Dial("tcp", "127.0.0.1:8080", 20*time.Second)
			connected <- err
			if err != nil {
				return
			}
			defer c.Close()
			c.SetDeadline(time.Now().Add(30 * time.Second))
			b, _ := io.ReadAll(c)
			got <- string(b)
		}()
		if err := <-connected; err != nil {
			t.Fatalf("after %v: %v", s, err)
		}
		r.start()
		if text := <-got; text != "hello" {
			t.Errorf("who connected meanwhile gets %q", text)
		}
		if i := r.device(); i != index {
			t.Errorf("after %v the device is interface %d, was %d", s, i, index)
		}
		r.reaches()
	}
	// Both at once: the devices are made anew.
	if err := unix.Kill(r.holder(), unix.SIGKILL); err != nil {
		t.Error(err)
	}
	r.end(unix.SIGKILL)
	r.start()
	r.reaches()
}

// TestDown ends all of it, with a daemon or without.
func TestDown(t *testing.T) {
	r := newDownRig(t)
	for _, first := range []unix.Signal{0, unix.SIGTERM, unix.SIGKILL} {
		if first != 0 {
			r.end(first)
		}
		ended := make(chan struct{})
		go func() { r.daemon.Wait(); close(ended) }()
		out := r.down()
		<-ended
		if said := strings.Contains(out, "daemon with pid"); said != (first == 0) {
			t.Errorf("it says %q", out)
		}
		if got := r.host(); strings.Contains(got, "vs-") || !strings.Contains(got, "veth") || strings.Contains(got, "bpf") || !strings.HasSuffix(got, "reserved\n") {
			t.Errorf("vswitch down leaves %s", got)
		}
		if r.holds() {
			t.Error("the holder is left")
		}
		r.wantAlone()
		if again := r.down(); !strings.Contains(again, "1 cables of containers stay") || strings.Contains(again, "ended") {
			t.Errorf("again it says %q", again)
		}
		r.start()
		r.reaches()
	}
	r.end(unix.SIGTERM)
	r.down("--all")
	if got := r.host(); strings.Contains(got, "veth") || strings.Contains(got, "vs-") {
		t.Errorf("vswitch down --all leaves %s", got)
	}
	if l, err := r.web.Links(); err != nil || !slices.Equal(l, []string{"lo"}) {
		t.Errorf("the container has %v, %v", l, err)
	}
	r.start()
	if got := decode[[]api.Container](r.rig, "ps"); len(got) != 0 {
		t.Errorf("containers %+v", got)
	}
	r.attach()
	r.reaches()
	r.must("detach", "web")
	r.end(unix.SIGTERM)
	if got := r.down(); got != "" {
		t.Errorf("with nothing left it says %q", got)
	}
}

// TestHolderEndsWithItsContainers: without a daemon all goes with the last container.
func TestHolderEndsWithItsContainers(t *testing.T) {
	r := newDownRig(t)
	r.end(unix.SIGKILL)
	if err := r.world.Host.Command("sh", "-c", `ip link del $(ip -o link | grep -o 'veth[0-9a-f]*')`).Run(); err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	if !eventually(func() bool { return !r.holds() }) {
		t.Fatal("the holder is left")
	}
	t.Logf("it took %v", time.Since(begin))
	r.wantAlone()
	if got := r.host(); strings.Contains(got, "vs-") || !strings.HasSuffix(got, "reserved\n") {
		t.Errorf("left: %s", got)
	}
	r.start()
	r.must("network", "ls")
}

// ownDirectories ends the daemon and starts one that has its directories from a file.
func (r *downRig) ownDirectories() (file string) {
	r.t.Helper()
	r.end(unix.SIGTERM)
	file = writeConfig(r.t, fmt.Sprintf("run-dir = %q\nstate-dir = %q\nuplink = \"eth0\"\n", r.runDir(), filepath.Join(r.dir, "state")))
	cmd := r.command("daemon", "--config", file)
	cmd.Args = slices.Delete(cmd.Args, 1, 3) // --run-dir
	r.startAs(cmd)
	r.reaches()
	return file
}

// TestDownByItsConfiguration finds what a daemon left whose file names its directories.
func TestDownByItsConfiguration(t *testing.T) {
	r := newDownRig(t)
	file := r.ownDirectories()
	r.end(unix.SIGKILL)
	cmd := r.command("down", "--all", "--config", file)
	cmd.Args = slices.Delete(cmd.Args, 1, 3)
	r.removes(cmd)
}

// removes runs what ends all of it.
func (r *downRig) removes(cmd *exec.Cmd) {
	r.t.Helper()
	r.runs(cmd)
	got := r.host()
	if !slices.Contains(cmd.Args, "--all") {
		got = strings.Replace(got, "veth", "", 1)
	}
	if strings.Contains(got, "vs-") || strings.Contains(got, "veth") || strings.Contains(got, "bpf") || !strings.HasSuffix(got, "reserved\n") {
		r.t.Errorf("left:\n%s", r.host())
	}
	if r.holds() {
		r.t.Error("the holder is left")
	}
	r.wantAlone()
}

// TestPackageRemoved runs what dpkg runs when the package is removed, with the daemon gone and
// directories of its own.
func TestPackageRemoved(t *testing.T) {
	r := newDownRig(t)
	file := r.ownDirectories()
	r.end(unix.SIGTERM)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	bin := t.TempDir()
	if err := os.Symlink(self, filepath.Join(bin, programName)); err != nil {
		t.Fatal(err)
	}
	// Its own /etc and /opt: the script names files there.
	cmd := exec.Command("unshare", "--mount", "sh", "-ec", `mount -t tmpfs none /etc
		mount -t tmpfs none /opt
		mkdir /etc/vswitch
		cp "$1" /etc/vswitch/vswitch.toml
		PATH=$2:$PATH
		sh ../../packaging/deb/prerm remove`, "sh", file, bin)
	r.removes(cmd)
}

// TestRelayDies: another takes its place, and who connects meanwhile waits for it.
func TestRelayDies(t *testing.T) {
	r := newDownRig(t)
	pids := r.processes("relay")
	if len(pids) != 1 {
		t.Fatalf("relays %v", pids)
	}
	if err := unix.Kill(pids[0], unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if !eventually(func() bool { return !slices.Contains(r.processes("relay"), pids[0]) }) {
		t.Fatal("it lives on")
	}
	if got, err := r.fetch("127.0.0.1:8080"); err != nil || got != "hello" {
		t.Errorf("after its end: %q, %v", got, err)
	}
	if again := r.processes("relay"); len(again) != 1 || again[0] == pids[0] {
		t.Errorf("relays %v after %v", again, pids)
	}
}
