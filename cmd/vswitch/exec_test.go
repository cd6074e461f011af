package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/vswitch/vswitch/internal/netlab/labtest"
)

// A command in a container's network has the container's interfaces, the host's files and the
// container's resolv.conf; its exit code, its signals and its arguments are its own.
func TestExec(t *testing.T) {
	r := newRig(t)
	web := labtest.New(t, "web")
	r.must("attach", "web", "--netns", web.Path(), "--ip", "10.88.0.77")
	in := func(args ...string) (string, int) {
		t.Helper()
		cmd := r.command(append([]string{"exec"}, args...)...)
		var out strings.Builder
		cmd.Stdout, cmd.Stderr = &out, &out
		if err := r.world.Host.Start(cmd); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait()
		return strings.TrimSpace(out.String()), cmd.ProcessState.ExitCode()
	}
	if out, code := in("web", "--", "ip", "-o", "-4", "addr", "show", "dev", "eth0"); code != 0 || !strings.Contains(out, "10.88.0.77/24") {
		t.Errorf("code %d: %s", code, out)
	}
	here, err := os.ReadFile("/etc/hostname")
	if err != nil {
		t.Fatal(err)
	}
	if out, code := in("web", "cat", "/etc/hostname"); code != 0 || out != strings.TrimSpace(string(here)) {
		t.Errorf("the host's files: code %d: %s", code, out)
	}
	if out, code := in("web", "--", "sh", "-c", "echo $0 $1; exit 7", "a", "b c"); code != 7 || out != "a b c" {
		t.Errorf("code %d: %s", code, out)
	}
	if out, code := in("web", "sh", "-c", "kill -TERM $$"); code != -1 {
		t.Errorf("a signal: code %d: %s", code, out)
	}
	if out, code := in("web", "no-such-command"); code != exitNotFound || strings.Count(out, "\n") > 0 {
		t.Errorf("code %d: %s", code, out)
	}
	if out, code := in("nobody", "true"); code != exitFailure || !strings.Contains(out, "nobody") {
		t.Errorf("code %d: %s", code, out)
	}
	if out, code := in("web"); code != exitUsage || !strings.Contains(out, "COMMAND is missing") {
		t.Errorf("code %d: %s", code, out)
	}

	// A process of the container with files of its own; a link there does not lead out.
	root := t.TempDir()
	script := fmt.Sprintf(`mount --make-rprivate / && mount -t tmpfs tmpfs %[1]s && mkdir -p %[1]s/etc %[1]s/run && ln -s /run/resolv %[1]s/etc/resolv.conf &&
		echo nameserver 192.0.2.53 >%[1]s/run/resolv && cp "$(command -v busybox)" %[1]s/sleep && exec chroot %[1]s /sleep 600`, root)
	inside := exec.Command("unshare", "--mount", "sh", "-c", script)
	if err := web.Start(inside); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = inside.Process.Signal(unix.SIGKILL)
		_ = inside.Wait()
	}()
	if !eventually(func() bool {
		exe, err := os.Readlink(filepath.Join("/proc", fmt.Sprint(inside.Process.Pid), "exe"))
		return err == nil && strings.HasSuffix(exe, "/sleep")
	}) {
		t.Fatal("the container's process does not run")
	}
	if out, code := in("web", "cat", "/etc/resolv.conf"); code != 0 || out != "nameserver 192.0.2.53" {
		t.Errorf("resolv.conf: code %d: %s", code, out)
	}
	if out, err := os.ReadFile("/etc/resolv.conf"); err == nil && strings.Contains(string(out), "192.0.2.53") {
		t.Errorf("the host's resolv.conf is now %s", out)
	}
	if left, _ := filepath.Glob(filepath.Join(os.TempDir(), "resolv.conf*")); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}
