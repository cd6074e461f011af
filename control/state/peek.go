package state

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// readBoth reads both files of a directory, either of which may be missing, once nobody
// writes them.
func readBoth(dir string, how int, wait time.Duration) (l loaded, err error) {
	path, second := filepath.Join(dir, FileName), filepath.Join(dir, CopyName)
	if !isOther(path) {
		f, err := os.Open(path)
		if err == nil {
			defer f.Close()
			err = lock(f, how, wait)
		}
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return l, fmt.Errorf("state file: %w", err)
		}
	}
	bytes, err := readWhole(path)
	if err != nil {
		return l, fmt.Errorf("state file: %w", err)
	}
	copied, err := readWhole(second)
	if err != nil {
		return l, fmt.Errorf("state file: %w", err)
	}
	l = load(bytes, copied)
	if d := l.damage; d != nil && isOther(filepath.Join(dir, d.File)) {
		d.Problem = "it is no file"
	}
	return l, nil
}

// isOther reports whether something else has the name of a file: a directory, a pipe, which nobody
// may open that does not want to wait.
func isOther(path string) bool {
	at, err := os.Stat(path)
	return err == nil && !at.Mode().IsRegular()
}

// putAside makes room for a file where something else has its name, which is kept as that.
func putAside(path, as string) error {
	if !isOther(path) {
		return nil
	}
	_ = os.RemoveAll(as) // what was put aside before, a directory perhaps
	return os.Rename(path, as)
}

// readWhole is nil for a file that is not there, and empty for one whose disk fails, or that is
// none.
func readWhole(path string) ([]byte, error) {
	if isOther(path) {
		return []byte{}, nil
	}
	b, err := os.ReadFile(path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil, nil
	case errors.Is(err, syscall.EIO):
		return []byte{}, nil
	case err == nil && b == nil:
		return []byte{}, nil
	}
	return b, err
}

// lock takes bbolt's lock, which ends with the descriptor.
func lock(f *os.File, how int, wait time.Duration) error {
	for end := time.Now().Add(wait); ; time.Sleep(20 * time.Millisecond) {
		err := syscall.Flock(int(f.Fd()), how|syscall.LOCK_NB)
		switch {
		case err == nil:
			return nil
		case !errors.Is(err, syscall.EWOULDBLOCK):
			return fmt.Errorf("lock %s: %w", f.Name(), err)
		case time.Now().After(end):
			return fmt.Errorf("%s is locked by another process: stop it or choose another --state-dir", f.Name())
		}
	}
}

// contents reads what was loaded and brings the records to today's schema.
func (l *loaded) contents(path string) (c Contents, err error) {
	if schema := l.records.schema(); schema > Schema {
		return c, fmt.Errorf("%s: %w: it has schema %d, this program knows %d: run the newer vswitch, or choose another --state-dir",
			path, ErrNewer, schema, Schema)
	}
	unreadable := l.records.migrate()
	c, more := l.records.contents()
	unreadable = append(unreadable, more...)
	if len(unreadable) > 0 {
		if l.damage == nil {
			l.damage = &Damage{File: FileName, Problem: "record " + unreadable[0] + " cannot be read"}
		}
		l.freshFile = true
	}
	for _, k := range unreadable {
		l.damage.lose(k)
		delete(l.records, k)
	}
	if lost, ok := l.records[keyLost]; ok && l.damage == nil {
		l.damage = &Damage{File: FileName, Problem: string(lost)}
	}
	if _, ok := l.records[keyLost]; ok {
		l.damage.Incomplete = true
	}
	c.Damage, c.Identity = l.damage, string(l.records[keyIdentity])
	return c, nil
}

// Attached reports whether containers may be on record in dir: they need a daemon, also one that
// lacks something.
func Attached(dir string) bool {
	c, err := Peek(dir)
	return err == nil && c.attached()
}

func (c *Contents) attached() bool { return len(c.Containers) > 0 || c.Damage != nil }

// Peek reads the state in dir and changes nothing, nor does it bring an older file
// up to date. The error wraps os.ErrNotExist when there is none.
func Peek(dir string) (Contents, error) {
	l, err := readBoth(dir, syscall.LOCK_SH, 100*time.Millisecond)
	if err != nil {
		return Contents{}, err
	}
	path := filepath.Join(dir, FileName)
	if len(l.records) == 0 && l.damage == nil {
		return Contents{}, fmt.Errorf("state file %s: %w", path, os.ErrNotExist)
	}
	return l.contents(path)
}
