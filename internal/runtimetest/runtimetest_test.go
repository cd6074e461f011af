// Package runtimetest runs vswitch with the runtimes of a newer Debian, and its
// own package on a fresh one, each on a machine of internal/debroot. It downloads
// these, so that it is no part of make test: make test-runtimes runs it.
package runtimetest

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/vswitch/vswitch/internal/debroot"
	"github.com/vswitch/vswitch/internal/netlab"
	"github.com/vswitch/vswitch/internal/netlab/labtest"
)

func TestMain(m *testing.M) { labtest.Main(m) }

// need skips all of this unless make asked for it.
func need(t *testing.T) {
	t.Helper()
	if os.Getenv("VSWITCH_TEST_RUNTIMES") == "" {
		labtest.Unasked.Skip(t, "uses whole Debian systems")
	}
	labtest.NeedBPF(t)
}

// built is a file that make has built: the variable names it.
func built(t *testing.T, variable string) string {
	t.Helper()
	path := os.Getenv(variable)
	if path == "" {
		t.Fatalf("%s is not set: use make test-runtimes", variable)
	}
	return path
}

// deb makes the package with a version and returns its file.
func deb(t *testing.T, version string) string {
	t.Helper()
	need(t)
	cmd := exec.Command("../../packaging/deb/build", built(t, "VSWITCH_BINARY"), t.TempDir())
	cmd.Env = append(os.Environ(), "VERSION="+version, "LEVEL=1")
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("deb/build: %v\n%s", err, stderr.String())
	}
	return strings.TrimSpace(string(out))
}

// machine is a Debian on the host of a World.
type machine struct {
	*debroot.Machine
	t     *testing.T
	world *netlab.World
	logs  string // a script that prints what daemons wrote
}

func newMachine(t *testing.T, spec debroot.Spec, systemd bool) *machine {
	t.Helper()
	need(t)
	root, err := debroot.Find(spec)
	if err != nil {
		t.Fatal(err)
	}
	m := &machine{t: t, world: labtest.NewWorld(t), logs: "true"}
	var console bytes.Buffer
	if m.Machine, err = debroot.Start(root, m.world.Host, systemd, &console); err != nil {
		t.Fatalf("%v\n%s", err, console.String())
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(m.run(m.logs))
		}
		if err := m.Close(); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Logf("console:\n%s", console.String())
		}
	})
	return m
}

func (m *machine) bash(script string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cmd := m.Command(ctx, "bash", "-eo", "pipefail", "-c", script)
	cmd.Env = append(cmd.Env, "PODMAN_IGNORE_CGROUPSV1_WARNING=1")
	out, err := cmd.CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

// run is the output of a script in the machine, all of it also when a command in
// it fails, with the error if the last one does.
func (m *machine) run(script string) string {
	out, err := m.bash("set +e\n" + script)
	if err != nil {
		return fmt.Sprintf("%s (%v)", out, err)
	}
	return out
}

// must is the output of a script that has to succeed.
func (m *machine) must(script string) string {
	m.t.Helper()
	out, err := m.bash(script)
	if err != nil {
		m.t.Fatalf("%s: %v\n%s", script, err, out)
	}
	return out
}

// want is must with an output that is known.
func (m *machine) want(want, script string) {
	m.t.Helper()
	if got, err := m.bash(script); err != nil || got != want {
		m.t.Errorf("%s: %v\n%s\nwant\n%s", script, err, got, want)
	}
}

// await repeats a script until it succeeds and returns what it said.
func (m *machine) await(what, script string) string {
	m.t.Helper()
	var out string
	var err error
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
		if out, err = m.bash(script); err == nil {
			return out
		}
	}
	m.t.Fatalf("waited 30 s for %s: %s", what, out)
	return ""
}

// put copies a file into the machine.
func (m *machine) put(from, to string, mode os.FileMode) {
	m.t.Helper()
	b, err := os.ReadFile(from)
	if err == nil {
		err = os.WriteFile(m.Path(to), b, mode)
	}
	if err != nil {
		m.t.Fatal(err)
	}
}

// daemon starts a program in the background; its log and its process number are
// in /run under its name.
func (m *machine) daemon(name, command string) {
	m.t.Helper()
	if !strings.Contains(m.logs, "/run/"+name+".log") {
		m.logs += fmt.Sprintf("; echo '== %s'; tail -n 25 /run/%s.log", name, name)
	}
	m.must(fmt.Sprintf(`(setsid sh -c 'echo $$ > /run/%[1]s.pid; exec %[2]s' </dev/null >>/run/%[1]s.log 2>&1 &)`, name, command))
}

// end sends a daemon a signal and waits for its end.
func (m *machine) end(signal, name string) {
	m.t.Helper()
	m.must(fmt.Sprintf(`p=$(cat /run/%s.pid); kill -%s $p; for i in $(seq 300); do [ -e /proc/$p ] || exit 0; sleep 0.1; done; exit 1`, name, signal))
}

// fetch asks for a page from a namespace.
func fetch(from *netlab.NS, address string) (string, error) {
	c, err := from.Dial("tcp", address, 3*time.Second)
	if err != nil {
		return "", err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(5 * time.Second))
	fmt.Fprint(c, "GET / HTTP/1.0\r\n\r\n")
	b, err := io.ReadAll(c)
	_, body, _ := strings.Cut(string(b), "\r\n\r\n")
	return strings.TrimSpace(body), err
}

// published awaits that the world reaches a page by a port of the host.
func (m *machine) published(port int, page string) {
	m.t.Helper()
	address := net.JoinHostPort(netlab.HostAddr, fmt.Sprint(port))
	var got string
	var err error
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
		if got, err = fetch(m.world.Outside, address); err == nil && got == page {
			return
		}
	}
	m.t.Fatalf("the world gets %q, %v from port %d, want %q", got, err, port, page)
}
