package state

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
)

// Peek reads the state in dir and changes nothing, nor does it bring an older file
// up to date. The error wraps os.ErrNotExist when there is none.
func Peek(dir string) (c Contents, err error) {
	path := filepath.Join(dir, FileName)
	fi, err := os.Stat(path)
	if err != nil {
		return c, fmt.Errorf("state file: %w", err)
	}
	if fi.Size() == 0 {
		return c, fmt.Errorf("%s: %w: it is empty", path, ErrCorrupt)
	}
	defer func() {
		if r := recover(); r != nil { // as in Open
			err = fmt.Errorf("%s: %w: %v", path, ErrCorrupt, r)
		}
	}()
	db, err := bolt.Open(path, 0o600, &bolt.Options{Timeout: 100 * time.Millisecond, ReadOnly: true})
	switch {
	case errors.Is(err, bolterrors.ErrTimeout):
		return c, fmt.Errorf("%s is locked by another process", path)
	case err != nil:
		return c, fmt.Errorf("%s: %w", path, err)
	}
	defer closeQuietly(db)
	if c, err = (&Store{db: db}).read(); err != nil {
		return c, fmt.Errorf("%s: %w: %w", path, ErrCorrupt, err)
	}
	return c, nil
}
