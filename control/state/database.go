package state

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime/debug"
	"time"

	bolt "go.etcd.io/bbolt"
)

// database is the open bbolt file.
type database struct {
	db     *bolt.DB
	opened fs.FileInfo
}

// errPanicked: bbolt found a page that it did not expect. Only a page that changed after it
// was checked can do that.
var errPanicked = errors.New("the file has changed under the daemon")

func openDatabase(path string) (d *database, err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer caught(&err)
	db, err := bolt.Open(path, 0o600, &bolt.Options{Timeout: time.Second})
	if err != nil {
		return nil, err
	}
	opened, err := os.Stat(path)
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return &database{db, opened}, nil
}

// caught makes a panic of bbolt's, also a fault beyond the file's end, an error.
func caught(err *error) {
	if r := recover(); r != nil {
		*err = fmt.Errorf("%w: %v", errPanicked, r)
	}
}

// put commits changes with their checksums.
func (d *database) put(commit uint64, ops []op) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer caught(&err)
	return d.db.Update(func(tx *bolt.Tx) error {
		sums, err := tx.CreateBucketIfNotExists([]byte(inSums))
		if err != nil {
			return err
		}
		for _, o := range ops {
			bucket, key := splitKey(o.key)
			b, err := tx.CreateBucketIfNotExists([]byte(bucket))
			if err != nil {
				return err
			}
			if o.value == nil {
				err = errors.Join(b.Delete([]byte(key)), sums.Delete([]byte(o.key)))
			} else {
				err = errors.Join(b.Put([]byte(key), o.value), sums.Put([]byte(o.key), sumValue(o.key, o.value)))
			}
			if err != nil {
				return err
			}
		}
		return sums.Put([]byte(keyAt), atValue(commit, uint64(tx.ID())))
	})
}

func (d *database) close() (err error) {
	defer caught(&err)
	return d.db.Close()
}

// DamagedName is the name that a damaged file gets when it is made anew.
const DamagedName = FileName + ".damaged"

// makeDatabase makes the file anew and has it on disk under its name. keep leaves the one
// before as DamagedName.
func makeDatabase(path string, commit uint64, r records, keep bool) (*database, error) {
	tmp := path + ".new"
	os.Remove(tmp)
	d, err := openDatabase(tmp)
	if err != nil {
		return nil, err
	}
	err = d.db.Update(func(tx *bolt.Tx) error {
		for _, b := range buckets {
			if _, err := tx.CreateBucketIfNotExists([]byte(b)); err != nil {
				return err
			}
		}
		return nil
	})
	if err == nil {
		err = d.put(commit, r.all())
	}
	damaged := filepath.Join(filepath.Dir(path), DamagedName)
	if err == nil && isOther(path) {
		keep, err = false, putAside(path, damaged)
	}
	if err == nil && keep {
		os.Remove(damaged)
		_ = os.Link(path, damaged) // for people: a file system without hard links keeps nobody from starting
	}
	if err == nil {
		err = os.Rename(tmp, path)
	}
	if err == nil {
		err = syncDir(filepath.Dir(path))
	}
	if err != nil {
		return nil, errors.Join(err, d.close(), os.Remove(tmp))
	}
	return d, nil
}
