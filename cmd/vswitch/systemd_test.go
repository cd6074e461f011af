package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vswitch/vswitch/control/client"
	"github.com/vswitch/vswitch/internal/netlab/labtest"
)

// supervisor hears what a daemon says to its service manager.
type supervisor struct {
	t *testing.T
	c *net.UnixConn
}

func newSupervisor(t *testing.T) *supervisor {
	t.Helper()
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(t.TempDir(), "notify"), Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return &supervisor{t, c}
}

// next is the next message: its lines.
func (s *supervisor) next() []string {
	s.t.Helper()
	s.c.SetReadDeadline(time.Now().Add(30 * time.Second))
	var b [4096]byte
	n, err := s.c.Read(b[:])
	if err != nil {
		s.t.Fatalf("the daemon says nothing: %v", err)
	}
	return strings.Split(string(b[:n]), "\n")
}

// waits reports whether a message is there.
func (s *supervisor) waits() bool {
	s.t.Helper()
	raw, err := s.c.SyscallConn()
	if err != nil {
		s.t.Fatal(err)
	}
	there := false
	err = raw.Control(func(fd uintptr) {
		_, _, err := unix.Recvfrom(int(fd), make([]byte, 1), unix.MSG_PEEK|unix.MSG_DONTWAIT)
		there = err == nil
	})
	if err != nil {
		s.t.Fatal(err)
	}
	return there
}

func TestNotify(t *testing.T) {
	labtest.NeedBPF(t)
	s := newSupervisor(t)
	r := &rig{t: t, world: labtest.NewWorld(t), dir: t.TempDir()}
	t.Setenv("VSWITCH_SOCKET", "")
	t.Setenv("NOTIFY_SOCKET", s.c.LocalAddr().String())
	t.Setenv("WATCHDOG_USEC", "400000")
	r.start()
	defer r.stop()
	if got := s.next(); got[0] != "READY=1" || !strings.HasPrefix(got[1], "STATUS=") {
		t.Errorf("first it says %q, want READY=1", got)
	}
	pat := func() {
		t.Helper()
		if got := s.next(); got[0] != "WATCHDOG=1" {
			t.Errorf("then it says %q, want WATCHDOG=1", got)
		}
	}
	for s.waits() { // on a busy machine some have come by now
		pat()
	}
	begin := time.Now()
	const pats = 6 // the first of them may come at once, the second too if the first is late
	for range pats {
		pat()
	}
	if d := time.Since(begin); d < (pats-3)*200*time.Millisecond {
		t.Errorf("%d pats in %v, want one each 200 ms", pats, d)
	}
	if code := r.stop(); code != 0 {
		t.Errorf("exit code %d:\n%s", code, r.log.String())
	}
	got := s.next()
	for got[0] == "WATCHDOG=1" {
		got = s.next()
	}
	if got[0] != "STOPPING=1" {
		t.Errorf("at the end it says %q, want STOPPING=1", got)
	}
}

// activate starts the daemon as a socket unit does: with the first connection.
func (r *rig) activate(socket, name string) {
	r.t.Helper()
	labtest.NeedProgram(r.t, "systemd-socket-activate")
	exe, err := os.Executable()
	if err != nil {
		r.t.Fatal(err)
	}
	const script = `socket=$1 name=$2 exe=$3; shift 3
		exec systemd-socket-activate -E PATH -E VSWITCH_LAB --listen="$socket" --fdname="$name" \
			bash -c 'exec -a vswitch "$@"' sh "$exe" "$@"`
	r.daemon = exec.Command("bash", "-c", script, "sh", socket, name, exe,
		"--run-dir", r.runDir(), "daemon", "--state-dir", filepath.Join(r.dir, "state"), "--uplink", "eth0")
	r.daemon.Stdout, r.daemon.Stderr = &r.log, &r.log
	if err := r.world.Host.Start(r.daemon); err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { r.stop() })
	// The file is there before somebody listens (unix(7)).
	if !eventually(func() bool { return listens(r.daemon.Process.Pid, socket) }) {
		r.t.Fatalf("no socket:\n%s", r.log.String())
	}
}

// listens reports whether somebody listens at a socket's file in the network namespace of a process.
func listens(pid int, socket string) bool {
	const accepts = "00010000" // __SO_ACCEPTCON in the column of flags
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/net/unix", pid))
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) == 8 && f[3] == accepts && f[7] == socket {
			return true
		}
	}
	return false
}

func TestSocketActivation(t *testing.T) {
	labtest.NeedBPF(t)
	r := &rig{t: t, world: labtest.NewWorld(t), dir: t.TempDir()}
	socket := filepath.Join(r.dir, "api.sock")
	r.activate(socket, "api")
	if err := os.Chmod(socket, 0o660); err != nil { // SocketMode=
		t.Fatal(err)
	}
	cl := client.New(socket)
	defer cl.Close()
	// The connection that starts the daemon is the one it answers.
	info, err := cl.Info(context.Background())
	if err != nil {
		t.Fatalf("%v\n%s", err, r.log.String())
	}
	if info.PID != r.daemon.Process.Pid {
		t.Errorf("process %d answers, want %d", info.PID, r.daemon.Process.Pid)
	}
	if _, err := os.Stat(filepath.Join(r.runDir(), "vswitch.sock")); err == nil {
		t.Error("the daemon made a socket of its own too")
	}
	if code := r.stop(); code != 0 {
		t.Errorf("exit code %d:\n%s", code, r.log.String())
	}
	if _, err := os.Stat(socket); err != nil {
		t.Errorf("the daemon removed the service manager's socket: %v", err)
	}
}

// A socket that the daemon cannot use ends it with a line that says why.
func TestSocketActivationRefuses(t *testing.T) {
	labtest.NeedBPF(t)
	for _, tc := range []struct {
		name, fd string
		mode     os.FileMode
		want     string
	}{
		{"unknown name", "metrics", 0o660, `FileDescriptorName= must be one of api`},
		{"open to everybody", "api", 0o666, "open to everybody"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := &rig{t: t, world: labtest.NewWorld(t), dir: t.TempDir()}
			socket := filepath.Join(r.dir, "api.sock")
			r.activate(socket, tc.fd)
			if err := os.Chmod(socket, tc.mode); err != nil {
				t.Fatal(err)
			}
			c, err := net.Dial("unix", socket)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			r.daemon.Wait()
			if code := r.daemon.ProcessState.ExitCode(); code != 1 || !strings.Contains(r.log.String(), tc.want) {
				t.Errorf("exit code %d, want 1 and %q in\n%s", code, tc.want, r.log.String())
			}
		})
	}
}

// unitKey is what the unit says under a key.
func unitKey(t *testing.T, key string) string {
	t.Helper()
	b, err := os.ReadFile("../../packaging/systemd/vswitch.service.in")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if v, ok := strings.CutPrefix(strings.TrimSpace(line), key+"="); ok {
			return v
		}
	}
	t.Fatalf("the unit has no %s=", key)
	return ""
}

// What the unit does on a reload has the daemon read its configuration again.
func TestExecReload(t *testing.T) {
	labtest.NeedBPF(t)
	file := filepath.Join(t.TempDir(), "vswitch.toml")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("log-level = \"info\"\n")
	r := newRig(t, "--config", file)
	reload := strings.ReplaceAll(unitKey(t, "ExecReload"), "$MAINPID", fmt.Sprint(r.daemon.Process.Pid))
	for _, step := range []struct{ text, want string }{
		{"log-level = \"debug\"\nworkers = 2\n", "configuration read again"},
		{"log-level = 7\n", "the configuration is not taken"},
	} {
		write(step.text)
		if out, err := exec.Command("sh", "-c", reload).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v: %s", reload, err, out)
		}
		if !eventually(func() bool { return strings.Contains(r.log.String(), step.want) }) {
			t.Errorf("%q does not lead to %q:\n%s", step.text, step.want, r.log.String())
		}
	}
	r.must("ps")
}

// What keeps the daemon's children when it ends, and how soon it is back, is the unit's to say.
func TestUnitKeepsTheHolder(t *testing.T) {
	if got := unitKey(t, "KillMode"); got != "process" {
		t.Errorf("KillMode=%s ends the holder with the daemon", got)
	}
	if d, err := time.ParseDuration(unitKey(t, "RestartSec")); err != nil || d > 50*time.Millisecond {
		t.Errorf("RestartSec=%v, %v, want at most 50ms", d, err)
	}
}

// The reader of the log goes away: the daemon goes on, and ends as it is told to.
func TestClosedStderr(t *testing.T) {
	labtest.NeedBPF(t)
	r := &rig{t: t, world: labtest.NewWorld(t), dir: t.TempDir()}
	t.Setenv("VSWITCH_SOCKET", "")
	out, in, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	r.daemon = r.command("daemon", "--state-dir", filepath.Join(r.dir, "state"), "--uplink", "eth0", "--log-level", "debug")
	r.daemon.Stdout, r.daemon.Stderr = in, in
	if err := r.world.Host.Start(r.daemon); err != nil {
		t.Fatal(err)
	}
	in.Close()
	defer r.stop()
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	out.Close()
	cl := client.New(filepath.Join(r.runDir(), "vswitch.sock"))
	defer cl.Close()
	if !eventually(func() bool { _, err := cl.Info(t.Context()); return err == nil }) {
		t.Fatal("the daemon does not answer")
	}
	for range 3 { // each writes to the log
		r.must("network", "create", "blue")
		r.must("network", "rm", "blue")
	}
	if code := r.stop(); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

// A request that its client does not send to the end does not hold the daemon's end up for
// long, while the one that is worked on is answered (TestF38SlowClientsHoldNoEndUp).
func TestSlowRequestAtTheEnd(t *testing.T) {
	r := newRig(t)
	c, err := net.Dial("unix", filepath.Join(r.runDir(), "vswitch.sock"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := io.WriteString(c, "POST /v1/containers HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	r.must("ps") // it has been read by now
	begin := time.Now()
	if code := r.stop(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	// shutdownGrace is 5 s, and all else takes a fraction of one.
	if took := time.Since(begin); took > 4*time.Second {
		t.Errorf("it took %v", took)
	}
}

// Several sockets, one of them twice.
func TestInheritedTwice(t *testing.T) {
	if os.Getenv("VSWITCH_TEST_INHERIT") != "" {
		_, err := inherited("api", "docker")
		os.Stderr.WriteString(err.Error())
		os.Exit(0)
	}
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	f, err := l.(*net.UnixListener).File()
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	// LISTEN_PID is the process's own: the shell becomes it.
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("sh", "-c", `LISTEN_PID=$$ exec "$0" -test.run='^TestInheritedTwice$'`, exe)
	cmd.Env = append(os.Environ(), "VSWITCH_TEST_INHERIT=1", "LISTEN_FDS=2", "LISTEN_FDNAMES=api:api")
	cmd.ExtraFiles = []*os.File{f, f}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := cmd.Run(); err != nil || !strings.Contains(stderr.String(), "there is another one named api") {
		t.Errorf("%v, %s", err, stderr.String())
	}
}
