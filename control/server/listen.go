package server

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"sync"
	"syscall"
)

// umask belongs to the whole process.
var umaskMu sync.Mutex

// Listen makes the socket at path with mode 0660, and its directory with 0750.
// The mode stands from the first moment: a later chmod would leave a gap. A
// socket that a dead daemon left is replaced; the caller holds the lock that says
// it is dead.
func Listen(path string) (*net.UnixListener, error) {
	if len(path) > 107 { // sun_path less the final NUL
		return nil, fmt.Errorf("socket %s: %d bytes are too long for a socket's path: choose a shorter --run-dir", path, len(path))
	}
	if err := MakeDir(filepath.Dir(path)); err != nil {
		return nil, err
	}
	if fi, err := os.Lstat(path); err == nil {
		if fi.Mode()&fs.ModeSocket == 0 {
			return nil, fmt.Errorf("socket %s: something else is there: remove it or choose another --run-dir", path)
		}
		if err := os.Remove(path); err != nil {
			return nil, fmt.Errorf("socket: %w", err)
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("socket: %w", err)
	}
	umaskMu.Lock()
	old := syscall.Umask(0o117)
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	syscall.Umask(old)
	umaskMu.Unlock()
	if err == nil {
		if err = checkSocket(path); err != nil {
			l.Close()
		}
	}
	if err != nil {
		return nil, fmt.Errorf("socket %s: %w", path, err)
	}
	return l, nil
}

// Inherit prepares a socket that a service manager made and keeps: it must be no
// more open than ours, and stays in the file system when it is closed.
func Inherit(l *net.UnixListener) error {
	l.SetUnlinkOnClose(false)
	if err := checkSocket(l.Addr().String()); err != nil {
		return fmt.Errorf("socket %s, by the service manager: %w", l.Addr(), err)
	}
	return nil
}

// checkSocket refuses a socket that others than its owner and group may use: an
// access list of the directory overrides the umask.
func checkSocket(path string) error {
	fi, err := os.Lstat(path)
	if err != nil {
		return err
	}
	if fi.Mode().Perm()&0o007 != 0 {
		return fmt.Errorf("mode %v is open to everybody: it must be 0660 or less", fi.Mode().Perm())
	}
	return nil
}

// MakeDir makes a directory for the daemon alone and its group. One that is there
// must not let others in.
func MakeDir(dir string) error {
	umaskMu.Lock()
	old := syscall.Umask(0o027)
	err := os.MkdirAll(dir, 0o750)
	syscall.Umask(old)
	umaskMu.Unlock()
	if errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("directory %s: %w: run as root or choose another directory", dir, fs.ErrPermission)
	}
	if err != nil {
		return fmt.Errorf("directory: %w", err)
	}
	fi, err := os.Stat(dir)
	if err != nil {
		return fmt.Errorf("directory: %w", err)
	}
	if fi.Mode().Perm()&0o002 != 0 {
		return fmt.Errorf("directory %s is writable for everybody: chmod 0750 it or choose another", dir)
	}
	return nil
}
