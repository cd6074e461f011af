package doctor

import (
	"os"
	"path/filepath"
	"strings"

	"github.com/vswitch/vswitch/control/holder"
)

// held has the names of TAPs that holders have open and no daemon has, as far as it can be
// seen.
func held() map[string]bool {
	byHolder, byDaemon := make(map[string]bool), make(map[string]bool)
	procs, _ := filepath.Glob("/proc/[0-9]*")
	for _, proc := range procs {
		fds, err := os.ReadDir(proc + "/fd")
		if err != nil {
			continue // it ends, or is another's
		}
		names := byDaemon
		if args, err := os.ReadFile(proc + "/cmdline"); err == nil && string(args) == holder.CommandLine {
			names = byHolder
		}
		for _, fd := range fds {
			if at, err := os.Readlink(proc + "/fd/" + fd.Name()); err != nil || at != "/dev/net/tun" {
				continue
			}
			info, _ := os.ReadFile(proc + "/fdinfo/" + fd.Name())
			for line := range strings.Lines(string(info)) {
				if name, ok := strings.CutPrefix(line, "iff:"); ok {
					names[strings.TrimSpace(name)] = true
				}
			}
		}
	}
	for name := range byDaemon {
		delete(byHolder, name)
	}
	return byHolder
}
