package main

import (
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/internal/netlab/labtest"
)

func netnsOf(t *testing.T, path string) string {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("net:[%d]", st.Ino)
}

func TestRunExitCode(t *testing.T) {
	labtest.Need(t)
	dir := t.TempDir()
	write := func(name, text string, mode fs.FileMode) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for _, tt := range []struct {
		name   string
		argv   []string
		code   int
		stderr string
	}{
		{"success", []string{"true"}, 0, ""},
		{"failure", []string{"sh", "-c", "exit 7"}, 7, ""},
		{"killed", []string{"sh", "-c", "kill -KILL $$"}, 137, ""},
		{"terminated", []string{"sh", "-c", "kill -TERM $$"}, 143, ""},
		{"own flags", []string{"sh", "-c", "exit 4", "--name", "-p"}, 4, ""},
		{"no format", []string{write("noformat", "exit 0\n", 0o755)}, 126,
			"vswitch: run: " + dir + "/noformat: exec format error\n"},
		{"no interpreter", []string{write("nointerp", "#!/no/such/interpreter\n", 0o755)}, 127,
			"vswitch: run: " + dir + "/nointerp: no such file or directory\n"},
		{"no right", []string{write("noright", "#!/bin/sh\n", 0o644)}, 126,
			"vswitch: run: " + dir + "/noright: permission denied\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, stderr, code := newRegistry(t).run(t, "", append([]string{"--"}, tt.argv...)...)
			if code != tt.code || stderr != tt.stderr {
				t.Errorf("got exit code %d, stderr %q; want %d, %q", code, stderr, tt.code, tt.stderr)
			}
		})
	}
}

// TestRunStreams passes data both ways and keeps arguments apart.
func TestRunStreams(t *testing.T) {
	labtest.Need(t)
	stdout, stderr, code := newRegistry(t).run(t, "in", "sh", "-c", `cat; printf ' <%s>' "$@"; echo err >&2`, "sh", "a b", "")
	if want := "in <a b> <>"; stdout != want || stderr != "err\n" || code != 0 {
		t.Errorf("got %q, %q, exit code %d; want %q, %q, 0", stdout, stderr, code, want, "err\n")
	}
}

func TestRunNamespace(t *testing.T) {
	peer := labtest.New(t, "peer")
	own, peers := netnsOf(t, "/proc/self/ns/net"), netnsOf(t, peer.Path())
	for _, tt := range []struct {
		network string
		want    string // namespace, "" for a fresh one
		attach  api.Attach
	}{
		{"bridge", "", api.Attach{Mode: api.ModeBridge, Networks: []api.Connect{{Network: "bridge"}}}},
		{"blue", "", api.Attach{Mode: api.ModeBridge, Networks: []api.Connect{{Network: "blue"}}}},
		{"none", "", api.Attach{Mode: api.ModeNone}},
		{"host", own, api.Attach{Mode: api.ModeHost}},
		{"container:peer", peers, api.Attach{Mode: api.ModeContainer, Peer: "peer"}},
	} {
		t.Run(tt.network, func(t *testing.T) {
			r := newRegistry(t, func(r *registry) {
				r.peers["peer"] = api.Container{Name: "peer", Netns: peer.Path()}
			})
			// if_inet6 lists ::1 only when lo is up.
			stdout, stderr, code := r.run(t, "", "--name", "c", "--network", tt.network, "--",
				"sh", "-c", "readlink /proc/self/ns/net; cat /proc/net/dev /proc/net/if_inet6")
			if code != 0 {
				t.Fatalf("exit code %d: %s", code, stderr)
			}
			ns, devices, _ := strings.Cut(stdout, "\n")
			switch {
			case tt.want != "" && ns != tt.want:
				t.Errorf("got namespace %s, want %s", ns, tt.want)
			case tt.want == "" && (ns == own || ns == peers):
				t.Errorf("got namespace %s, which is not its own", ns)
			case tt.want == "" && strings.Count(devices, ":") != 1:
				t.Errorf("got devices:\n%s\nwant lo alone", devices)
			case tt.want != own && !strings.Contains(devices, "00000000000000000000000000000001 "):
				t.Errorf("lo is not up:\n%s", devices)
			}
			r.mu.Lock()
			got := r.seen[0]
			r.mu.Unlock()
			if got.PID == 0 || !got.Ephemeral {
				t.Errorf("got attach %+v, want a pid and ephemeral", got)
			}
			got.PID, got.Ephemeral, got.Name = 0, false, ""
			if fmt.Sprint(got) != fmt.Sprint(tt.attach) {
				t.Errorf("got attach %+v, want %+v", got, tt.attach)
			}
		})
	}
}

// TestRunWaitsForAttach starts the command only when the daemon has said yes.
func TestRunWaitsForAttach(t *testing.T) {
	labtest.Need(t)
	r := newRegistry(t, func(r *registry) { r.refuse = "network nope: not found: see vswitch network ls" })
	marker := filepath.Join(t.TempDir(), "marker")
	_, stderr, code := r.run(t, "", "--network", "nope", "--", "touch", marker)
	if want := "vswitch: " + r.refuse + "\n"; stderr != want || code != 1 {
		t.Errorf("got %q, exit code %d; want %q, 1", stderr, code, want)
	}
	if _, err := os.Stat(marker); err == nil {
		t.Error("the command ran")
	}
}

func TestRunWithoutDaemon(t *testing.T) {
	labtest.Need(t)
	r := &registry{socket: "/nonexistent/s"}
	_, stderr, code := r.run(t, "", "--", "true")
	if want := "vswitch: no vswitch daemon at /nonexistent/s: start one with \"vswitch daemon\"\n"; stderr != want || code != 1 {
		t.Errorf("got %q, exit code %d; want %q, 1", stderr, code, want)
	}
}

// TestRunForwardsSignals sends each signal to vswitch alone; the command answers
// with a code of its own.
func TestRunForwardsSignals(t *testing.T) {
	labtest.Need(t)
	// Whoever runs the tests in the background, or under nohup, has them ignore signals, and
	// so would all that they start.
	caught := make(chan os.Signal, 1)
	signal.Notify(caught, unix.SIGHUP, unix.SIGINT, unix.SIGQUIT)
	defer signal.Stop(caught)
	for _, sig := range []syscall.Signal{
		unix.SIGHUP, unix.SIGINT, unix.SIGQUIT, unix.SIGTERM, unix.SIGUSR1, unix.SIGUSR2, unix.SIGWINCH, 37,
	} {
		t.Run(sig.String(), func(t *testing.T) {
			r := newRegistry(t)
			cmd := r.command("run", "--", "sh", "-c", fmt.Sprintf("trap 'exit 33' %d; echo ready; while :; do sleep 0.02; done", sig))
			stdout, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			if line, err := readLine(stdout); line != "ready" {
				t.Fatalf("got %q, %v", line, err)
			}
			cmd.Process.Signal(sig)
			if got := wait(t, cmd); got != 33 {
				t.Errorf("got exit code %d, want 33", got)
			}
			r.checkReleased(t)
		})
	}
}

// typed is how often TestRunInterruptAtTerminal types ^C.
const typed = 4

// wait waits for the end of a command, and brings it about when it is late.
func wait(t testing.TB, cmd *exec.Cmd) (code int) {
	t.Helper()
	timer := time.AfterFunc(60*time.Second, func() {
		t.Errorf("%v did not end", cmd.Args)
		cmd.Process.Kill()
	})
	defer timer.Stop()
	cmd.Wait()
	return cmd.ProcessState.ExitCode()
}

// countInterrupts is a command that exits with 40 and the number of SIGINTs it
// got until half a second after the first. A shell will not do: it sees as one
// all that come while it waits for a child.
func countInterrupts() {
	c := make(chan os.Signal, 16)
	signal.Notify(c, unix.SIGINT)
	fmt.Println("ready")
	<-c
	time.Sleep(500 * time.Millisecond)
	os.Exit(41 + len(c))
}

// TestRunInterruptAtTerminal types ^C: the terminal sends it to vswitch and to
// the command, and the command must not get it a second time. Signals of a kind
// that come together count as one, so fewer than typed is no fault, and a second
// one may hide behind a first, but not each time.
func TestRunInterruptAtTerminal(t *testing.T) {
	labtest.Need(t)
	exe, err := os.Readlink("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(t.TempDir(), countName)
	if err := os.Symlink(exe, program); err != nil {
		t.Fatal(err)
	}
	master, terminal := openTerminal(t)
	r := newRegistry(t)
	cmd := r.command("run", "--", program)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = terminal, terminal, terminal
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := readLine(master); strings.TrimSpace(line) != "ready" {
		t.Fatalf("got %q, %v", line, err)
	}
	for range typed {
		if _, err := master.Write([]byte{3}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(50 * time.Millisecond)
	}
	if got := wait(t, cmd) - 40; got < 1 || got > typed {
		t.Errorf("the command got %d signals, want 1 to %d", got, typed)
	}
	r.checkReleased(t)
}

// TestRunSignalDuringAttach ends run while the daemon is still busy.
func TestRunSignalDuringAttach(t *testing.T) {
	labtest.Need(t)
	r := newRegistry(t, func(r *registry) { r.block = make(chan struct{}) })
	defer close(r.block)
	cmd := r.command("run", "--", "true")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	<-r.arrived
	cmd.Process.Signal(unix.SIGTERM)
	if got := wait(t, cmd); got != 143 {
		t.Errorf("got exit code %d, want 143", got)
	}
}

// TestRunDiesWithItsParent kills vswitch in a way that it cannot notice.
func TestRunDiesWithItsParent(t *testing.T) {
	labtest.Need(t)
	r := newRegistry(t)
	cmd := r.command("run", "--", "sh", "-c", "echo ready; while :; do sleep 0.02; done")
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := readLine(stdout); line != "ready" {
		t.Fatalf("got %q, %v", line, err)
	}
	cmd.Process.Kill()
	cmd.Wait()
	r.mu.Lock()
	pid := r.seen[0].PID
	r.mu.Unlock()
	if !eventually(func() bool { return processEnded(pid) }) {
		t.Errorf("process %d outlives vswitch", pid)
		unix.Kill(pid, unix.SIGKILL)
	}
}

// processEnded accepts a zombie: who its new parent is, and whether that one
// waits for it, is not ours.
func processEnded(pid int) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return true
	}
	_, rest, _ := strings.Cut(string(b), ") ")
	return strings.HasPrefix(rest, "Z")
}

func eventually(done func() bool) bool {
	for deadline := time.Now().Add(20 * time.Second); !done(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			return false
		}
	}
	return true
}

func TestRandomName(t *testing.T) {
	var names []string
	for range 100 {
		n := randomName()
		if slices.Contains(names, n) || strings.Count(n, "-") != 2 || len(n) > 24 {
			t.Errorf("got name %q among %v", n, names)
		}
		names = append(names, n)
	}
}
