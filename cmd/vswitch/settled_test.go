package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/vswitch/vswitch/internal/netlab/labtest"
)

// When vswitch run has ended nothing of the container is left: its port is free, its cable gone,
// its name too.
func TestRunEndsWhenAllIsReleased(t *testing.T) {
	r := newRig(t)
	before, err := r.world.Host.Links()
	if err != nil {
		t.Fatal(err)
	}
	for i := range 30 {
		cmd := r.command("run", "--name", "job", "-p", "8099:80", "--", "true")
		var out lockedBuffer
		cmd.Stdout, cmd.Stderr = &out, &out
		if err := r.world.Host.Start(cmd); err != nil {
			t.Fatal(err)
		}
		if err := cmd.Wait(); err != nil {
			t.Fatalf("round %d: %v: %s", i, err, out.String())
		}
		l, err := r.world.Host.Listen("tcp", ":8099")
		if err != nil {
			t.Fatalf("round %d: its port is held: %v", i, err)
		}
		l.Close()
		if after, err := r.world.Host.Links(); err != nil || !slices.Equal(before, after) {
			t.Fatalf("round %d: links %v, %v, want %v", i, after, err, before)
		}
	}
}

// Without --config the daemon reads /etc/vswitch/vswitch.toml where it is, and none with --config=.
func TestDefaultConfigIsRead(t *testing.T) {
	labtest.NeedBPF(t)
	labtest.NeedProgram(t, "unshare")
	etc := t.TempDir()
	if err := os.MkdirAll(filepath.Join(etc, "vswitch"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(etc, "vswitch", "vswitch.toml"), []byte("workers = \"many\"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	w := labtest.NewWorld(t)
	r := &rig{t: t, world: w, dir: t.TempDir()}
	start := func(args ...string) string {
		cmd := r.command(append([]string{"daemon", "--state-dir", filepath.Join(r.dir, "state"), "--uplink", "nosuch0"}, args...)...)
		script := fmt.Sprintf("mount --bind %s /etc && exec -a %s \"$@\"", etc, programName)
		cmd.Path, cmd.Args = "/usr/bin/unshare", append([]string{"unshare", "--mount", "bash", "-c", script, "sh", "/proc/self/exe"}, cmd.Args[1:]...)
		exe, err := os.Readlink("/proc/self/exe")
		if err != nil {
			t.Fatal(err)
		}
		cmd.Args[6] = exe
		var out lockedBuffer
		cmd.Stdout, cmd.Stderr = &out, &out
		if err := w.Host.Start(cmd); err != nil {
			t.Fatal(err)
		}
		cmd.Wait()
		return out.String()
	}
	if out := start(); !strings.Contains(out, "vswitch.toml") || !strings.Contains(out, "workers") {
		t.Errorf("the file was not read: %s", out)
	}
	if out := start("--config="); strings.Contains(out, "vswitch.toml") || !strings.Contains(out, "nosuch0") {
		t.Errorf("--config= reads a file: %s", out)
	}
	if out := start("--uplink", "eth0", "--uplink", "nosuch0", "--config="); !strings.Contains(out, "nosuch0") {
		t.Errorf("two uplinks: %s", out)
	}
}

// An uplink that is named twice is one.
func TestUplinkNamedTwice(t *testing.T) {
	r := newRig(t, "--uplink", "eth0", "--uplink", "eth0,eth0")
	if out := r.must("stats"); strings.Count(out, "uplink") != 1 || !strings.Contains(out, "RX came in from the port") {
		t.Errorf("uplinks: %s", out)
	}
	if _, stderr, code := r.vswitch("network", "create", "bridge"); code != exitFailure || strings.Contains(stderr, "network rm") {
		t.Errorf("create bridge: %d, %s", code, stderr)
	}
}
