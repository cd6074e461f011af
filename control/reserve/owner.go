package reserve

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/vswitch/vswitch/control/visible"
)

// Owner names the process that holds a socket, as "nginx (pid 123)", or "" when
// none is found: the process has ended, or it is hidden from us. It reads /proc,
// which takes milliseconds: for error messages only.
func Owner(inode uint32) string {
	if inode == 0 {
		return ""
	}
	fds, err := filepath.Glob("/proc/[0-9]*/fd")
	if err != nil {
		return ""
	}
	slices.SortFunc(fds, func(a, b string) int { // the parent before its children
		return cmp.Or(cmp.Compare(len(a), len(b)), cmp.Compare(a, b))
	})
	for _, dir := range fds {
		if dir = filepath.Dir(dir); has(dir, inode) {
			return programOf(dir)
		}
	}
	return ""
}

// programOf names a process by its directory in /proc.
func programOf(dir string) string {
	comm, err := os.ReadFile(filepath.Join(dir, "comm"))
	if err != nil {
		return ""
	}
	// A program calls itself what it likes (prctl(2) PR_SET_NAME), line breaks included,
	// and the name goes into messages, events and logs.
	return fmt.Sprintf("%s (pid %s)", visible.Text(strings.TrimSuffix(string(comm), "\n")), filepath.Base(dir))
}
