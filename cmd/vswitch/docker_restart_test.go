package main

import (
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/internal/netlab"
	"github.com/vswitch/vswitch/internal/netlab/labtest"
)

// killDaemon ends the switch by SIGKILL; start begins the next.
func (l *dockerLab) killDaemon() {
	l.daemon.Process.Kill()
	l.daemon.Wait()
}

// comesUp waits for a container that dockerd starts by itself.
func (l *dockerLab) comesUp(addr string) {
	l.t.Helper()
	if !eventually(func() bool {
		got, err := l.fetch(l.world.Outside, addr)
		return err == nil && strings.TrimSpace(got) == containerPage
	}) {
		l.t.Errorf("%s is not served again\n%s", addr, l.must("ps"))
	}
}

// TestDockerRestarts: either side is stopped and killed with containers running,
// dockerd as it is by default, where it takes its containers with it.
func TestDockerRestarts(t *testing.T) {
	l := newDockerLab(t)
	l.docker("network", "create", "-d", "vswitch", "--subnet", "10.99.0.0/24", "net")
	l.up("web", "net", "-p", "18081:80", "--restart", "always")
	l.up("db", "net")
	at := netlab.HostAddr + ":18081"
	l.named("web")

	l.killDaemon()
	l.start()
	l.served(l.world.Outside, at)
	l.wantGet("db", "10.99.0.2", containerPage)
	l.stop()
	l.start()
	l.served(l.world.Outside, at)
	l.up("late", "net")
	l.docker("rm", "-f", "late", "db")

	l.stopDocker(unix.SIGTERM)
	if list := decode[[]api.Container](l.rig, "ps"); len(list) > 0 {
		t.Errorf("dockerd has stopped its containers, left: %+v", list)
	}
	l.startDocker()
	l.comesUp(at)
	l.stopDocker(unix.SIGKILL)
	l.startDocker()
	l.comesUp(at)
	if list := decode[[]api.Container](l.rig, "ps"); len(list) != 1 {
		t.Errorf("attached: %+v, want web alone", list)
	}
	// Both at once.
	l.stopDocker(unix.SIGKILL)
	l.killDaemon()
	l.start()
	l.startDocker()
	l.comesUp(at)
	l.docker("rm", "-f", "web")
	l.docker("network", "rm", "net")
	l.nothingLeft()
}

// TestDockerLiveRestore: dockerd is killed and its containers go on without it.
func TestDockerLiveRestore(t *testing.T) {
	l := newDockerLab(t, "--live-restore")
	l.docker("network", "create", "-d", "vswitch", "--subnet", "10.99.0.0/24", "net")
	l.up("web", "net", "-p", "18081:80")
	l.up("dies", "net", "-p", "18082:80")
	at := netlab.HostAddr + ":18081"
	pid := l.docker("inspect", "-f", "{{.State.Pid}}", "dies")

	l.stopDocker(unix.SIGKILL)
	l.served(l.world.Outside, at)
	l.killDaemon()
	l.start()
	l.served(l.world.Outside, at)
	if out, err := l.inside("kill", "-9", pid).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	l.startDocker()
	l.served(l.world.Outside, at)
	if !eventually(func() bool { return len(decode[[]api.Container](l.rig, "ps")) == 1 }) {
		t.Errorf("the container that died is attached:\n%s", l.must("ps"))
	}
	l.docker("start", "dies")
	l.served(l.world.Outside, netlab.HostAddr+":18082")
	l.stopDocker(unix.SIGTERM)
	l.served(l.world.Outside, at)
	l.startDocker()
	l.docker("rm", "-f", "web", "dies")
	l.docker("network", "rm", "net")
	l.nothingLeft()
}

// TestDockerSocketActivation: dockerd's first call finds a socket without a daemon
// and waits for it.
func TestDockerSocketActivation(t *testing.T) {
	labtest.NeedBPF(t)
	r := &rig{t: t, world: labtest.NewWorld(t), dir: t.TempDir()}
	socket := filepath.Join(r.dir, "docker.sock")
	r.activate(socket, "docker")
	if err := os.Chmod(socket, 0o660); err != nil { // SocketMode=
		t.Fatal(err)
	}
	tr := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}}
	cl := &http.Client{Transport: tr, Timeout: 20 * time.Second}
	resp, err := cl.Post("http://plugin/Plugin.Activate", "", nil)
	if err != nil {
		t.Fatalf("%v\n%s", err, r.log.String())
	}
	defer resp.Body.Close()
	if b, err := io.ReadAll(resp.Body); err != nil || !strings.Contains(string(b), `"NetworkDriver","IpamDriver"`) {
		t.Errorf("%s, %v", b, err)
	}
	if code := r.stop(); code != 0 {
		t.Errorf("exit code %d:\n%s", code, r.log.String())
	}
	if _, err := os.Stat(socket); err != nil {
		t.Errorf("the service manager's socket is gone: %v", err)
	}
}
