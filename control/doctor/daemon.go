package doctor

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/vswitch/vswitch/control/relay"
)

const (
	leastSpace = 16 << 20 // bytes: the state file grows in steps of that order
	leastFiles = 4096
	// enoughFiles let the relay have all that it may have, and others theirs.
	enoughFiles = 49152
)

// daemon says whether one runs, and the same program.
func (x *exam) daemon() {
	switch {
	case x.Daemon != nil && x.Version != "" && x.Daemon.Info.Version != x.Version:
		x.add(Warn, "daemon", "restart it: attached containers stay", "the daemon is version %s, this program %s", x.Daemon.Info.Version, x.Version)
	case x.Daemon != nil:
		x.add(OK, "daemon", "", "version %s, pid %d", x.Daemon.Info.Version, x.Daemon.Info.PID)
	case x.DaemonErr != nil:
		x.add(Fail, "daemon", "run as root: sudo vswitch doctor; if that fails as well, restart the daemon: attached containers stay", "%v", x.DaemonErr)
	case len(x.running()) > 0:
		x.add(Warn, "daemon", "name its directory: vswitch doctor --run-dir DIR", "a daemon runs here, but nobody answers at this socket: only what does not need one is checked")
	case x.dead():
	default:
		x.add(Warn, "daemon", "sudo vswitch daemon", "no daemon answers: only what does not need one is checked")
	}
}

// ring says what the recorder costs.
func (x *exam) ring() {
	if x.Daemon == nil {
		return
	}
	of := x.Daemon.Info.CaptureRing
	if of == "" {
		x.add(OK, "ring", "", "no recent frames are kept for capture --last")
		return
	}
	if slices.Contains(strings.Split(of, ","), "all") {
		x.add(Note, "ring", "name those whose recent frames matter: --capture-ring-of web,network:backend",
			"the daemon keeps the newest frames of all ports: the kernel's flow table carries no flow, and bulk is half as fast")
		return
	}
	x.add(OK, "ring", "", "the daemon keeps the newest frames of %s, whose flows stay out of the kernel's flow table", of)
}

// limits looks at disk space and descriptors.
func (x *exam) limits() {
	before := len(x.list)
	if x.Daemon != nil {
		x.StateDir = x.Daemon.Info.StateDir
		x.files(fmt.Sprintf("/proc/%d/limits", x.Daemon.Info.PID))
	}
	var fs unix.Statfs_t
	switch err := unix.Statfs(x.StateDir, &fs); {
	case errors.Is(err, unix.ENOENT): // made by the first start
	case err != nil:
		x.add(Note, "limits", "", "%s: %v", x.StateDir, err)
	default:
		if free := fs.Bavail * uint64(fs.Bsize); free < leastSpace {
			x.add(Fail, "limits", "make room: df "+x.StateDir, "%d KiB are free for %s: nothing can be attached on a full disk", free>>10, x.stateFile())
		}
	}
	x.fine(before, "limits", "disk space and open files suffice")
}

// files looks at how many descriptors a process may have.
func (x *exam) files(path string) {
	b, err := os.ReadFile(path)
	if err != nil {
		x.add(Note, "limits", "", "the daemon's limits: %v", err)
		return
	}
	_, text, _ := strings.Cut(string(b), "Max open files")
	var soft uint64
	if _, err := fmt.Sscan(text, &soft); err != nil { // "unlimited"
		return
	}
	switch conns, sessions := relay.Limits(soft); {
	case soft < leastFiles:
		x.add(Warn, "limits", "start the daemon with ulimit -n 65536, or LimitNOFILE=65536 in its unit", "the daemon may have %d open files; each container takes two and each published port one", soft)
	case soft < enoughFiles:
		x.add(Note, "limits", "start the daemon with ulimit -n 65536, or LimitNOFILE=65536 in its unit",
			"the daemon may have %d open files: users of this host may have %d connections and %d UDP sessions to published ports together", soft, conns, sessions)
	}
}

// egress looks for ways out that containers have chosen and that are not there.
func (x *exam) egress() {
	if x.Daemon == nil {
		return
	}
	before := len(x.list)
	for _, ct := range x.Daemon.Containers {
		for _, e := range ct.Endpoints {
			if e.EgressAway != "" {
				x.add(Warn, "egress", "bring it back, or attach the container anew with another --egress", "nothing leaves container %s by %s, its own way out %s: %s", ct.Name, e.Interface, e.Egress, e.EgressAway)
			}
		}
	}
	x.fine(before, "egress", "no container lacks the way out that was chosen for it")
}
