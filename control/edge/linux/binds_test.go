package linux

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestRootCgroup: a part of the tree that is mounted before the root does not hide it.
func TestRootCgroup(t *testing.T) {
	part, root := t.TempDir(), t.TempDir()
	if err := os.WriteFile(filepath.Join(part, "cgroup.type"), []byte("domain\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	mount := func(dir string) string { return fmt.Sprintf("cgroup2 %s cgroup2 rw,nosuid 0 0\n", dir) }
	const other = "proc /proc proc rw 0 0\n"
	for _, tc := range []struct{ mounts, want, err string }{
		{other + mount(root), root, ""},
		{mount(part) + other + mount(root), root, ""},
		{mount(root) + mount(part), root, ""},
		{mount(part), "", part + " is not the root"},
		{other, "", "no cgroup2 is mounted"},
	} {
		got, err := rootMount(strings.NewReader(tc.mounts))
		if got != tc.want || (err == nil) != (tc.err == "") || err != nil && !strings.Contains(err.Error(), tc.err) {
			t.Errorf("of %q: %q, %v, want %q, %q", tc.mounts, got, err, tc.want, tc.err)
		}
	}
}

// A name that means nothing is refused, not taken for off.
func TestNamedCgroup(t *testing.T) {
	for dir, want := range map[string]string{
		"/nowhere": "cgroup /nowhere: no such file or directory: name one below /sys/fs/cgroup with --cgroup, or off",
		"/proc":    "cgroup /proc: it is no directory of a cgroup2: name one below /sys/fs/cgroup with --cgroup, or off",
	} {
		if _, err := Open(Config{Cgroup: dir}); err == nil || err.Error() != want {
			t.Errorf("%v, want %s", err, want)
		}
	}
	for _, dir := range []string{"", CgroupAuto} {
		if err := checkCgroup(dir); err != nil {
			t.Errorf("%q: %v", dir, err)
		}
	}
}
