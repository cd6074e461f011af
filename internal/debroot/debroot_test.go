package debroot

import (
	"bytes"
	"os"
	"strings"
	"testing"

	"github.com/vswitch/vswitch/internal/netlab/labtest"
)

func TestMain(m *testing.M) { labtest.Main(m) }

// busyroot is a root file system without Debian: busybox and where it is linked.
func busyroot(t *testing.T) string {
	t.Helper()
	labtest.NeedRoot(t) // device files
	labtest.NeedProgram(t, "busybox")
	root := t.TempDir()
	for _, dir := range []string{"bin", "proc", "sys", "dev", "run", "tmp", "var/lib", "etc"} {
		if err := os.MkdirAll(root+"/"+dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	b, err := os.ReadFile("/bin/busybox")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(root+"/bin/busybox", b, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"sh", "sleep", "umount", "ls", "cat", "ip", "touch", "grep", "mount", "seq"} {
		if err := os.Symlink("busybox", root+"/bin/"+name); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func TestMachine(t *testing.T) {
	root := busyroot(t)
	ns := labtest.New(t, "machine")
	var log bytes.Buffer
	m, err := Start(root, ns, false, &log)
	if err != nil {
		t.Fatalf("%v\n%s", err, log.String())
	}
	sh := func(script string) string {
		t.Helper()
		out, err := m.Command(t.Context(), "sh", "-c", script).CombinedOutput()
		if err != nil {
			t.Errorf("%s: %v: %s", script, err, out)
		}
		return strings.TrimSpace(string(out))
	}
	if got := sh("cat /proc/1/comm"); got != "init" {
		t.Errorf("process 1 is %s", got)
	}
	// An orphan is buried.
	sh("(sleep 0 &) & wait; for i in $(seq 200); do cat /proc/*/stat 2>/dev/null | grep -q ' Z ' || exit 0; sleep 0.1; done; exit 1")
	if got := sh("ls /"); strings.Contains(got, "home") {
		t.Errorf("the root is not its own: %s", got)
	}
	if got := sh("ip -o link"); strings.Count(got, "\n") != 0 || !strings.Contains(got, "lo:") {
		t.Errorf("links %s", got)
	}
	if got := sh("echo 1 > /proc/sys/net/ipv4/ip_forward; cat /proc/sys/net/ipv4/ip_forward; (echo 7 > /proc/sys/vm/swappiness) 2>&1 || true"); !strings.HasPrefix(got, "1\n") || !strings.Contains(got, "Read-only") {
		t.Errorf("sysctls: %s", got)
	}
	sh("touch /etc/left")
	if _, err := os.Stat(m.Path("/etc/left")); err != nil {
		t.Error(err)
	}
	if err := m.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(root + "/etc/left"); err == nil {
		t.Error("the machine wrote to its root file system")
	}
	if _, err := os.Stat(m.dir); err == nil {
		t.Error("the scratch directory stays")
	}
}
