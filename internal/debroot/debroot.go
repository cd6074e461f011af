// Package debroot makes machines for tests out of Debian: a root file system by
// debootstrap, from the mirror of the machine the test runs on, kept in a cache,
// and processes that see nothing else, in namespaces of their own.
package debroot

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
)

// CacheEnv names the directory that keeps root file systems; without it they are
// below the user's cache directory. They may be removed at any time that no test
// runs: umount is not needed, nothing is mounted in them.
const CacheEnv = "VSWITCH_DEBROOT"

// Spec says what is in a root file system.
type Spec struct {
	Name     string   // of the directory in the cache
	Suite    string   // of Debian
	Packages []string // beside the essential ones
}

// The root file systems there are.
var (
	// Systemd is a machine as an administrator finds it, to install packages on.
	Systemd = Spec{"bookworm-systemd", "bookworm", []string{
		"systemd", "systemd-sysv", "dbus", "iproute2", "procps", "curl",
	}}
	// Runtimes has the runtimes of a newer Debian than the test runs on.
	Runtimes = Spec{"forky-runtimes", "forky", []string{
		"podman", "netavark", "aardvark-dns", "crun", "runc", "conmon", "docker.io", "docker-cli", "containerd",
		"containernetworking-plugins", "iproute2", "iptables", "nftables", "busybox-static", "curl",
	}}

	Specs = []Spec{Systemd, Runtimes}
)

// Missing says why Make cannot work here, "" when it can.
func Missing() string {
	if os.Geteuid() != 0 {
		return "debootstrap makes device files, which needs root"
	}
	for _, p := range [][2]string{{"debootstrap", "debootstrap"}, {"apt-get", "apt"}, {"nsenter", "util-linux"}} {
		if _, err := exec.LookPath(p[0]); err != nil {
			return fmt.Sprintf("no %s: apt-get install %s", p[0], p[1])
		}
	}
	return ""
}

// dir is where the root file system is, if it has been made.
func (s Spec) dir() (string, error) {
	cache := os.Getenv(CacheEnv)
	if cache == "" {
		user, err := os.UserCacheDir()
		if err != nil {
			return "", err
		}
		cache = filepath.Join(user, "vswitch", "debroot")
	}
	return filepath.Join(cache, s.Name), nil
}

// list is what a root file system was made of: another list makes it anew.
func (s Spec) list() string { return s.Suite + "\n" + strings.Join(s.Packages, "\n") + "\n" }

func (s Spec) made(dir string) bool {
	b, err := os.ReadFile(dir + ".packages")
	return err == nil && string(b) == s.list()
}

// Find returns the directory of a root file system that Make has made. It must not
// be written to.
func Find(spec Spec) (string, error) {
	dir, err := spec.dir()
	if err != nil {
		return "", err
	}
	if !spec.made(dir) {
		return "", fmt.Errorf("root file system %s is not in %s: make test-runtimes makes it", spec.Name, filepath.Dir(dir))
	}
	return dir, nil
}

// Make makes a root file system, unless it is there, and returns its directory. It
// downloads, which takes a minute, and tells output of it.
func Make(spec Spec, output *os.File) (dir string, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("root file system %s: %w", spec.Name, err)
		}
	}()
	if dir, err = spec.dir(); err != nil {
		return "", err
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return "", err
	}
	lock, err := os.OpenFile(dir+".lock", os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return "", err
	}
	defer lock.Close()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return "", err
	}
	if spec.made(dir) {
		return dir, nil
	}
	mirror, err := mirror()
	if err != nil {
		return "", err
	}
	if err := errors.Join(os.RemoveAll(dir+".packages"), os.RemoveAll(dir), os.RemoveAll(dir+".part")); err != nil {
		return "", err
	}
	args := []string{"--variant=minbase"}
	if len(spec.Packages) > 0 {
		args = append(args, "--include="+strings.Join(spec.Packages, ","))
	}
	args = append(args, spec.Suite, dir+".part", mirror)
	// A suite that is younger than debootstrap is made as sid is.
	const scripts = "/usr/share/debootstrap/scripts/"
	if _, err := os.Stat(scripts + spec.Suite); err != nil {
		args = append(args, scripts+"sid")
	}
	cmd := exec.Command("debootstrap", args...)
	cmd.Stdout, cmd.Stderr = output, output
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("debootstrap: %w", err)
	}
	return dir, errors.Join(os.Rename(dir+".part", dir), os.WriteFile(dir+".packages", []byte(spec.list()), 0o644))
}

// mirror is where this machine has its Debian from.
func mirror() (string, error) {
	out, err := exec.Command("apt-get", "indextargets", "--format", "$(REPO_URI) $(CODENAME) $(COMPONENT)", "Created-By: Packages").Output()
	if err != nil {
		return "", fmt.Errorf("apt-get indextargets: %w", err)
	}
	for line := range bytes.Lines(out) {
		// The release itself, without its updates and security's.
		if f := strings.Fields(string(line)); len(f) == 3 && f[2] == "main" && !strings.Contains(f[1], "-") && strings.HasSuffix(f[0], "/debian/") {
			return f[0], nil
		}
	}
	return "", errors.New("no mirror of Debian among the sources of apt")
}
