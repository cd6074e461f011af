package labtest

import (
	"testing"

	"github.com/vswitch/vswitch/internal/netlab"
)

// Cgroup moves the process into a cgroup that ends with the test, and returns its
// directory: what is hung up there sees this process and its children, and nobody else.
func Cgroup(t testing.TB) string {
	t.Helper()
	NeedRoot(t)
	dir, leave, err := netlab.EnterCgroup("vswitch-test")
	if err != nil {
		Skip(t, err.Error())
	}
	t.Cleanup(func() {
		if err := leave(); err != nil {
			t.Error(err)
		}
	})
	return dir
}
