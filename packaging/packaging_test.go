// Package packaging tests what is installed: the units, the files of `make
// install`, the Debian package.
package packaging

import (
	"flag"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/vswitch/vswitch/internal/netlab/labtest"
)

var update = flag.Bool("update", false, "write what was got into testdata")

// program is the built program: VSWITCH_BINARY, as make sets it, or one that is
// built once.
func program(t *testing.T) string {
	t.Helper()
	path, err := built()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

var built = sync.OnceValues(func() (string, error) {
	if b := os.Getenv("VSWITCH_BINARY"); b != "" {
		return b, nil
	}
	path, err := filepath.Abs("../bin/vswitch-packaging-test")
	if err != nil {
		return "", err
	}
	cmd := exec.Command("go", "build", "-buildvcs=false", "-trimpath", "-ldflags=-s -w", "-o", path, "../cmd/vswitch") // as make does
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	cmd.Stderr = os.Stderr
	return path, cmd.Run()
})

// installed is the tree that packaging/install makes with the variables of env.
func installed(t *testing.T, env ...string) (root string) {
	t.Helper()
	root = t.TempDir()
	cmd := exec.Command("./install", program(t))
	cmd.Env = append(append(os.Environ(), "DESTDIR="+root), env...)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("install: %v\n%s", err, out)
	}
	return root
}

// files lists what is below root: mode, path, and where a link leads.
func files(t *testing.T, root string) []string {
	t.Helper()
	var list []string
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		line := info.Mode().String() + " " + strings.TrimPrefix(path, root)
		if target, err := os.Readlink(path); err == nil {
			line = "link " + strings.TrimPrefix(path, root) + " " + target
			if _, err := os.Stat(path); err != nil {
				line += " (leads nowhere)"
			}
		}
		list = append(list, line)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(list)
	return list
}

func TestInstall(t *testing.T) {
	root := installed(t, "PREFIX=/usr/local")
	var got strings.Builder
	for _, line := range files(t, root) {
		// Of manual pages and documents that come and go, one stands for all.
		if strings.Contains(line, "/man1/vswitch-") && !strings.Contains(line, "vswitch-network-create") ||
			strings.Contains(line, "/doc/vswitch/docs/") && strings.HasSuffix(line, ".md") {
			continue
		}
		got.WriteString(line + "\n")
	}
	const golden = "testdata/install"
	if *update {
		if err := os.WriteFile(golden, []byte(got.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), got.String()); d != "" {
		t.Errorf("(-want +got), go test ./packaging -update writes it:\n%s", d)
	}
	// Every placeholder got its place, and a configuration stays as it is.
	for _, file := range []string{"lib/systemd/system/vswitch.service", "share/containers/oci/hooks.d/50-vswitch-attach.json"} {
		b, err := os.ReadFile(root + "/usr/local/" + file)
		if err != nil {
			t.Fatal(err)
		}
		if s := string(b); strings.Contains(s, "@BINDIR@") || strings.Contains(s, "@SYSCONFDIR@") || !strings.Contains(s, "/usr/local/bin/vswitch") {
			t.Errorf("%s:\n%s", file, s)
		}
	}
	config := root + "/etc/vswitch/vswitch.toml"
	if err := os.WriteFile(config, []byte("workers = 1\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("./install", program(t))
	cmd.Env = append(os.Environ(), "DESTDIR="+root, "PREFIX=/usr/local")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("a second time: %v\n%s", err, out)
	}
	if b, _ := os.ReadFile(config); string(b) != "workers = 1\n" {
		t.Errorf("the configuration was overwritten: %q", b)
	}
}

// units is a directory with the units as they are installed.
func units(t *testing.T) (dir string, names []string) {
	t.Helper()
	labtest.NeedProgram(t, "systemd-analyze")
	dir = installed(t, "PREFIX=/usr") + "/usr/lib/systemd/system"
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		names = append(names, path)
		// verify looks whether the program is there.
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(strings.ReplaceAll(string(b), "=/usr/bin/vswitch ", "="+program(t)+" ")), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir, names
}

func TestUnits(t *testing.T) {
	dir, names := units(t)
	if len(names) != 3 {
		t.Errorf("units %v, want the service and two sockets", names)
	}
	cmd := exec.Command("systemd-analyze", append([]string{"verify", "--man=no"}, names...)...)
	cmd.Env = append(os.Environ(), "SYSTEMD_UNIT_PATH="+dir+":", "SYSTEMD_LOG_LEVEL=warning")
	out, err := cmd.CombinedOutput()
	// Of other people's units it complains too.
	var ours []string
	for line := range strings.Lines(string(out)) {
		if strings.Contains(line, "vswitch") {
			ours = append(ours, line)
		}
	}
	if err != nil || len(ours) > 0 {
		t.Errorf("%v\n%s", err, out)
	}
	// What the unit allows may not grow unnoticed: 100 is all, and 96 what a unit
	// without a word about it gets.
	if out, err := exec.Command("systemd-analyze", "security", "--offline=true", "--threshold=46", dir+"/vswitch.service").CombinedOutput(); err != nil {
		t.Errorf("systemd-analyze security: %v\n%s", err, out)
	}
	// A misspelt option is what it is there to find.
	service := dir + "/vswitch.service"
	b, err := os.ReadFile(service)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(service, append([]byte("[Service]\nWatchdogSecs=3\n"), b...), 0o644); err != nil {
		t.Fatal(err)
	}
	cmd = exec.Command("systemd-analyze", "verify", "--man=no", service)
	cmd.Env = append(os.Environ(), "SYSTEMD_UNIT_PATH="+dir+":")
	if out, _ := cmd.CombinedOutput(); !strings.Contains(string(out), "WatchdogSecs") {
		t.Errorf("a wrong key is not found:\n%s", out)
	}
}

// deb makes the package with a version and returns its file.
func deb(t *testing.T, version string) string {
	t.Helper()
	labtest.NeedProgram(t, "dpkg-deb")
	cmd := exec.Command("deb/build", program(t), t.TempDir())
	cmd.Env = append(os.Environ(), "VERSION="+version, "SOURCE_DATE_EPOCH=1790000000", "LEVEL=1")
	cmd.Stderr = new(strings.Builder)
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("deb/build: %v\n%s", err, cmd.Stderr)
	}
	return strings.TrimSpace(string(out))
}

func TestDeb(t *testing.T) {
	labtest.NeedProgram(t, "lintian")
	file := deb(t, "v1.2.3-4-gabcdef")
	if want := "vswitch_1.2.3+4.gabcdef_"; !strings.HasPrefix(filepath.Base(file), want) {
		t.Errorf("the package is %s, want %s...", file, want)
	}
	// --allow-root: in a user namespace everybody is.
	cmd := exec.Command("lintian", "--allow-root", "--fail-on", "error,warning", "--tag-display-limit", "0", file)
	if out, err := cmd.CombinedOutput(); err != nil || strings.Contains(string(out), "\nE: ") || strings.Contains(string(out), "\nW: ") {
		t.Errorf("lintian: %v\n%s", err, out)
	}
	first, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	second, err := os.ReadFile(deb(t, "v1.2.3-4-gabcdef"))
	if err != nil {
		t.Fatal(err)
	}
	if string(first) != string(second) {
		t.Error("the same tree gives another package")
	}
}
