package state

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

// The next daemon finds the state by the names of its files. Somebody may
// remove or replace a file, or the directory, while the daemon has it open.

// moved reports whether a path leads no more to the file that was opened there.
func moved(path string, opened fs.FileInfo) bool {
	now, err := os.Stat(path)
	return errors.Is(err, fs.ErrNotExist) || err == nil && !os.SameFile(opened, now)
}

// replace gives up files that have lost their names; ready makes others. Where the whole directory
// is gone it is made again.
func (s *Store) replace() error {
	lost := false
	if s.db != nil && moved(s.path, s.db.opened) {
		_, err := os.Lstat(s.path)
		_ = s.db.close()
		s.db, s.remake, s.keep, lost = nil, true, err == nil, true
	}
	if s.copy.moved() {
		s.copy.close()
		s.copy.size, lost = 0, true
	}
	if !lost {
		return nil
	}
	return os.MkdirAll(filepath.Dir(s.path), 0o750)
}

func (c *copyFile) moved() bool {
	if c.f == nil {
		return false
	}
	opened, err := c.f.Stat()
	return err == nil && moved(c.path, opened)
}
