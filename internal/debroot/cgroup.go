package debroot

import (
	"bufio"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// makeCgroup makes a cgroup2 for one machine. Where version 1 is in use beside it,
// cgroup2 has few controllers or none, which is enough for systemd.
func makeCgroup(name string) (string, error) {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return "", err
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		before, after, _ := strings.Cut(s.Text(), " - ")
		if fields := strings.Fields(before); len(fields) > 4 && strings.HasPrefix(after, "cgroup2 ") {
			dir := filepath.Join(fields[4], "vswitch-"+name)
			return dir, os.Mkdir(dir, 0o755)
		}
	}
	return "", errors.New("no cgroup2 is mounted: systemd needs one")
}

// removeCgroup removes a cgroup and those below it, whose processes have just been
// killed.
func removeCgroup(dir string) error {
	var err error
	for range 100 {
		var below []string
		filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err == nil && d.IsDir() {
				below = append(below, path)
			}
			return nil
		})
		err = nil
		for i := len(below) - 1; i >= 0; i-- {
			err = errors.Join(err, os.Remove(below[i]))
		}
		if err == nil {
			return nil
		}
		time.Sleep(20 * time.Millisecond)
	}
	return err
}
