package resolvconf

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"

	"golang.org/x/sys/unix"
)

// Unshare gives the calling thread, which has to be locked, mounts of its own: it sees what is mounted on the
// host from now on, and the host sees nothing of it.
func Unshare() error {
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("mounts of its own: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SLAVE, ""); err != nil {
		return fmt.Errorf("mounts of its own: %w", err)
	}
	return nil
}

// Text is a file that is mounted nowhere yet.
type Text struct {
	name string // on a disk
	tree *os.File
}

// NewText makes one of a text, on the disk of a directory, "" that of temporary files.
func NewText(dir, text string) (Text, error) {
	f, err := os.CreateTemp(dir, "resolv.conf.")
	if err != nil {
		return Text{}, err
	}
	_, err = f.WriteString(text)
	if err := errors.Join(err, f.Chmod(0o644), f.Close()); err != nil {
		return Text{}, errors.Join(err, os.Remove(f.Name()))
	}
	fd, err := unix.OpenTree(unix.AT_FDCWD, f.Name(), unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return Text{}, fmt.Errorf("mount %s: %w", f.Name(), errors.Join(err, os.Remove(f.Name())))
	}
	return Text{f.Name(), os.NewFile(uintptr(fd), f.Name())}, nil
}

// Cover puts it, once, in the place of the file at path, by a mount that the calling thread's mounts get. A link is
// covered itself: what it leads to is replaced by the host, as by systemd-resolved, and a mount goes with the file that
// it is on. Where nothing is at path there is nothing to cover, and no error.
func (t Text) Cover(path string) error {
	err := unix.MoveMount(int(t.tree.Fd()), "", unix.AT_FDCWD, path, unix.MOVE_MOUNT_F_EMPTY_PATH)
	if err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

// CoverInside is Cover of etc/resolv.conf below a root whose links are a stranger's: they end in it. A file that is not
// there is made, where that can be.
func (t Text) CoverInside(root string) error {
	dir, err := os.OpenFile(root, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	defer dir.Close()
	how := unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS}
	at, err := unix.Openat2(int(dir.Fd()), Path[1:], &how)
	if errors.Is(err, unix.ENOENT) {
		how.Flags, how.Mode = unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_CLOEXEC, 0o644
		at, err = unix.Openat2(int(dir.Fd()), Path[1:], &how)
		if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EROFS) || errors.Is(err, unix.EEXIST) {
			return nil // no directory of settings, or a link to nowhere: nobody looks there
		}
	}
	if err != nil {
		return fmt.Errorf("%s%s: %w", root, Path, err)
	}
	defer unix.Close(at)
	if err := unix.MoveMount(int(t.tree.Fd()), "", at, "", unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH); err != nil {
		return fmt.Errorf("%s%s: %w", root, Path, err)
	}
	return nil
}

// Close takes away its name on the disk. Where it was put it stays, as long as the mount does.
func (t Text) Close() error { return errors.Join(t.tree.Close(), os.Remove(t.name)) }

// Follow calls again with each new file that comes to path, as what was mounted on the one before has gone with that.
// It ends when the closer is closed.
func Follow(path string, again func()) (io.Closer, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	f := os.NewFile(uintptr(fd), "inotify")
	if _, err := unix.InotifyAddWatch(fd, filepath.Dir(path), unix.IN_CREATE|unix.IN_MOVED_TO); err != nil {
		return nil, fmt.Errorf("%s: %w", path, errors.Join(err, f.Close()))
	}
	go func() {
		for b := make([]byte, 64<<10); ; {
			n, err := f.Read(b)
			if err != nil {
				return
			}
			if bytes.Contains(b[:n], append([]byte(filepath.Base(path)), 0)) {
				again()
			}
		}
	}()
	return f, nil
}

// Among calls a function on a thread that has the mounts of a process.
func Among(mounts *os.File, call func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlock: the thread ends with the goroutine
		err := unix.Unshare(unix.CLONE_FS)
		if err == nil {
			err = unix.Setns(int(mounts.Fd()), unix.CLONE_NEWNS)
		}
		if err != nil {
			done <- fmt.Errorf("mounts of a process: %w", err)
			return
		}
		done <- call()
	}()
	return <-done
}
