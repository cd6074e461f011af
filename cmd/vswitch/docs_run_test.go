package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/vswitch/vswitch/internal/doctest"
	"github.com/vswitch/vswitch/internal/netlab/labtest"
)

// document carries out a page of docs/integrations on a host of its own, where
// the daemon runs with its default directories and vswitch is installed, after the
// script prepare.
func document(t *testing.T, page, prepare string, programs ...string) {
	t.Helper()
	labtest.NeedBPF(t)
	for _, p := range append(programs, "unshare", "bash", "ip") {
		labtest.NeedProgram(t, p)
	}
	keepCgroups(t)
	bin := t.TempDir()
	tools(t, bin)
	s := doctest.Start(t, labtest.NewWorld(t).Host, "/etc", "/opt", "/var/lib", "/usr/local", "/run")
	s.Must(fmt.Sprintf("export HOME=/root TERM=dumb PATH=%s:/usr/local/bin:$PATH; unset VSWITCH_SOCKET", bin))
	s.Must("install -D -m 755 $(command -v vswitch) /usr/local/bin/vswitch")
	s.Must("mkdir -p /run/daemon; vswitch daemon 2>/run/daemon/log & daemon=$!")
	t.Cleanup(func() {
		log, code := s.Do("kill $daemon; wait $daemon; code=$?; cat /run/daemon/log; (exit $code)")
		if code != 0 || t.Failed() {
			t.Errorf("the daemon ended with code %d:\n%s", code, log)
		}
	})
	s.Must("for i in $(seq 1200); do [ -S /run/vswitch/vswitch.sock ] && break; sleep 0.05; done; vswitch version")
	s.Must(prepare)
	s.Document(filepath.Join("..", "..", "docs", "integrations", page))
}

// keepCgroups removes at the end the groups that engines make and leave: these are
// the machine's, whatever namespace one is in.
func keepCgroups(t *testing.T) {
	list := func() (dirs []string) {
		for _, pattern := range []string{"/sys/fs/cgroup/*", "/sys/fs/cgroup/*/*", "/sys/fs/cgroup/*/*/*"} {
			found, _ := filepath.Glob(pattern)
			dirs = append(dirs, found...)
		}
		return dirs
	}
	before := list()
	t.Cleanup(func() {
		for _, dir := range slices.Backward(list()) { // the inner ones first
			if !slices.Contains(before, dir) && (strings.Contains(dir, "/libpod_parent") || strings.Contains(dir+"/", "/default/")) {
				syscall.Rmdir(dir) // files and groups in use refuse
			}
		}
	})
}

// tools puts vswitch, and cnitool as the go command builds it, into a directory.
func tools(t *testing.T, dir string) {
	t.Helper()
	exe := os.Getenv("VSWITCH_BINARY")
	if exe == "" {
		var err error
		if exe, err = os.Readlink("/proc/self/exe"); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(exe, filepath.Join(dir, programName)); err != nil {
		t.Fatal(err)
	}
	labtest.NeedProgram(t, "go")
	out, err := exec.Command("go", "build", "-buildvcs=false", "-o", filepath.Join(dir, "cnitool"), "github.com/containernetworking/cni/cnitool").CombinedOutput()
	if err != nil {
		t.Fatalf("build cnitool: %v: %s", err, out)
	}
}

// engines is what a machine for containers has, and one for tests may lack:
// limits that the lab's own rights allow, storage that works upon an overlay, and a
// containerd that serves nothing but ctr.
const engines = `
mkdir -p /etc/containers/containers.conf.d /run/containerd
cat > /etc/containers/containers.conf.d/99-lab.conf <<'END'
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
runtime = "runc"
END
cat > /etc/containers/storage.conf <<'END'
[storage]
driver = "vfs"
graphroot = "/var/lib/containers/storage"
runroot = "/run/containers/storage"
END
cat > /etc/containers/policy.json <<'END'
{"default": [{"type": "insecureAcceptAnything"}]}
END
cat > /run/containerd/config.toml <<'END'
version = 2
disabled_plugins = ["io.containerd.grpc.v1.cri"]
END
`

func TestDocumentContainerd(t *testing.T) {
	document(t, "containerd.md", engines+`
containerd --config /run/containerd/config.toml >/run/containerd/log 2>&1 &
for i in $(seq 1200); do ctr version >/dev/null 2>&1 && break; sleep 0.05; done
ctr version >/dev/null
`, "containerd", "ctr", "busybox")
}

func TestDocumentPodman(t *testing.T) {
	document(t, "podman.md", engines, "podman", "runc", "busybox", "curl")
}

func TestDocumentNames(t *testing.T) { document(t, "../names.md", "true", "getent") }
func TestDocumentCNI(t *testing.T)   { document(t, "cni.md", "true") }
func TestDocumentRunc(t *testing.T) {
	document(t, "runc.md", "true", "runc", "crun", "busybox", "curl", "python3")
}

// TestDocumentDocker has dockerd beside the daemon, and the page's image.
func TestDocumentDocker(t *testing.T) {
	for _, program := range []string{"curl", "unshare", "bash", "ip"} {
		labtest.NeedProgram(t, program)
	}
	l := newDockerLab(t)
	if err := l.world.Host.Sysctl("ipv4.ip_forward", "1"); err != nil { // or docker run warns
		t.Fatal(err)
	}
	l.docker("tag", dockerImage, "busybox")
	bin := t.TempDir()
	tools(t, bin)
	cli, err := exec.LookPath(dockerCLI())
	if err == nil {
		err = os.Symlink(cli, filepath.Join(bin, "docker"))
	}
	if err != nil {
		t.Fatal(err)
	}
	s := doctest.Start(t, l.world.Host)
	s.Must(fmt.Sprintf("export HOME=/root TERM=dumb PATH=%s:$PATH VSWITCH_SOCKET=%s", bin, socketIn(l.runDir())))
	s.Document(filepath.Join("..", "..", "docs", "integrations", "docker.md"))
}
