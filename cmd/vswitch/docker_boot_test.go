package main

import (
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vswitch/vswitch/internal/netlab"
	"github.com/vswitch/vswitch/internal/netlab/labtest"
)

// TestDockerBoot: what docs/integrations/docker.md says of a host that boots. When
// dockerd finds nobody behind the driver its containers stay stopped, also when the
// switch comes later, until somebody starts them; when a service manager holds the socket
// they come up by themselves.
func TestDockerBoot(t *testing.T) {
	labtest.NeedProgram(t, "systemd-socket-activate")
	l := newDockerLab(t)
	l.docker("network", "create", "-d", "vswitch", "--subnet", "10.99.0.0/24", "net")
	l.up("web", "net", "-p", "18081:80", "--restart", "always")
	at := netlab.HostAddr + ":18081"
	shutdown := func() {
		l.stopDocker(unix.SIGTERM)
		l.stop()
		os.RemoveAll("/run/docker/plugins") // as a new boot has it
		os.MkdirAll("/run/docker/plugins", 0o755)
	}

	shutdown()
	l.startDocker() // a quarter of a minute
	l.start()
	time.Sleep(2 * time.Second)
	if got := l.docker("inspect", "-f", "{{.State.Status}}", "web"); got != "exited" {
		t.Errorf("web is %s", got)
	}
	l.docker("start", "web")
	l.served(l.world.Outside, at)

	shutdown()
	l.activate("/run/docker/plugins/vswitch.sock", "docker")
	if err := os.Chmod("/run/docker/plugins/vswitch.sock", 0o660); err != nil { // SocketMode=
		t.Fatal(err)
	}
	l.startDocker()
	status := ""
	if !eventually(func() bool {
		status = l.docker("inspect", "-f", "{{.State.Status}}", "web")
		return status == "running"
	}) {
		t.Errorf("with the socket held web is %s\n%s", status, l.log.String())
	}
	l.comesUp(at)
	l.docker("rm", "-f", "web")
	l.docker("network", "rm", "net")
	l.nothingLeft()
}
