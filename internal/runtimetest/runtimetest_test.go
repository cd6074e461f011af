// Package runtimetest runs vswitch with the runtimes of a newer Debian, and its
// own package on a fresh one, each on a machine of internal/debroot. It downloads
// these, so that it is no part of make test: make test-runtimes runs it.
package runtimetest

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/vswitch/vswitch/internal/debroot"
	"github.com/vswitch/vswitch/internal/netlab"
	"github.com/vswitch/vswitch/internal/netlab/labtest"
)

func TestMain(m *testing.M) { labtest.Main(m) }

// program is the built program, by make.
func program(t *testing.T) string {
	t.Helper()
	path := os.Getenv("VSWITCH_BINARY")
	if path == "" {
		t.Fatal("VSWITCH_BINARY does not name the program: use make test-runtimes")
	}
	return path
}

// machine is a fresh Debian with systemd as process 1, on the host of a World.
type machine struct {
	*debroot.Machine
	t     *testing.T
	world *netlab.World
}

func newMachine(t *testing.T, spec debroot.Spec) *machine {
	t.Helper()
	need(t)
	root, err := debroot.Find(spec)
	if err != nil {
		t.Fatal(err)
	}
	m := &machine{t: t, world: labtest.NewWorld(t)}
	var console bytes.Buffer
	if m.Machine, err = debroot.Start(root, m.world.Host, true, &console); err != nil {
		t.Fatalf("%v\n%s", err, console.String())
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("journal:\n%s", m.run("journalctl -b --no-pager -o cat -u 'vswitch*' | tail -50"))
		}
		if err := m.Close(); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Logf("console:\n%s", console.String())
		}
	})
	m.await("the system to run", "systemctl is-system-running | grep -E 'running|degraded'")
	return m
}

func need(t *testing.T) {
	t.Helper()
	if os.Getenv("VSWITCH_TEST_RUNTIMES") == "" {
		t.Skip("uses whole Debian systems, which make test-runtimes downloads")
	}
	labtest.NeedBPF(t)
}

// run is the output of a script in the machine, whatever it came to.
func (m *machine) run(script string) string {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	out, err := m.Command(ctx, "bash", "-o", "pipefail", "-c", script).CombinedOutput()
	if err != nil {
		return fmt.Sprintf("%s(%v)", out, err)
	}
	return strings.TrimSpace(string(out))
}

// must is the output of a script that has to succeed.
func (m *machine) must(script string) string {
	m.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	out, err := m.Command(ctx, "bash", "-eo", "pipefail", "-c", script).CombinedOutput()
	if err != nil {
		m.t.Fatalf("%s: %v\n%s", script, err, out)
	}
	return strings.TrimSpace(string(out))
}

// await repeats a script until it succeeds.
func (m *machine) await(what, script string) {
	m.t.Helper()
	var last string
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
		if last = m.run(script); !strings.HasSuffix(last, ")") {
			return
		}
	}
	m.t.Fatalf("waited 30 s for %s: %s", what, last)
}

// put copies a file into the machine.
func (m *machine) put(from, to string) {
	m.t.Helper()
	b, err := os.ReadFile(from)
	if err == nil {
		err = os.WriteFile(m.Path(to), b, 0o644)
	}
	if err != nil {
		m.t.Fatal(err)
	}
}
