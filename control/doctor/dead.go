package doctor

import (
	"fmt"
	"os"

	"github.com/vswitch/vswitch/control/host"
)

// dead says what a daemon that has ended leaves: what goes on, what is cut off and how it is
// started again. It reports whether there is anything.
func (x *exam) dead() bool {
	cables := 0
	for _, l := range x.links {
		if identity(l.Alias) != "" && l.Kind == "veth" {
			cables++
		}
	}
	if cables == 0 {
		return false
	}
	goes := "connections that the kernel carries"
	if len(held()) > 0 {
		goes += " and the ports of the host that are published stay held"
	}
	x.add(Fail, "daemon", x.startAgain(), "no daemon answers, and %d interfaces of containers are left: what goes on is %s; "+
		"cut off are new connections, in, out and to published ports, and all that the kernel does not carry", cables, goes)
	return true
}

// startAgain is the command that starts the daemon.
func (x *exam) startAgain() string {
	if _, err := os.Stat("/run/systemd/system"); err == nil {
		for _, dir := range []string{"/etc/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system", "/usr/local/lib/systemd/system"} {
			if _, err := os.Stat(dir + "/vswitch.service"); err == nil {
				return "systemctl start vswitch; the containers stay as they are"
			}
		}
	}
	return fmt.Sprintf("sudo vswitch daemon --state-dir %s; the containers stay as they are", x.StateDir)
}

// unknown is the way out for a link of this daemon's that it does not know. One that is up may be
// in use.
func unknown(l *host.Link) string {
	if l.Carrier {
		return "restart the daemon, which takes it up again or removes it"
	}
	return "restart the daemon, which removes it, or ip link del " + l.Name
}
