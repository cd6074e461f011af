package state

import (
	"crypto/rand"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"runtime/debug"
	"time"

	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
)

// Schema is the form of the records this program writes. Older files are brought
// to it when they are opened (migrate.go):
//
//	1: a network has one subnet, an endpoint one address
//	2: one of each family
const Schema = 2

// FileName is the file's name in the state directory.
const FileName = "state.db"

var (
	// ErrCorrupt: the file cannot be read as what it should be.
	ErrCorrupt = errors.New("state file is damaged")
	// ErrNewer: a later version of the program wrote the file.
	ErrNewer = errors.New("state file is newer than this program")
)

var (
	bucketMeta       = []byte("meta")
	bucketNetworks   = []byte("networks")
	bucketContainers = []byte("containers")
	bucketCursors    = []byte("cursors")

	keySchema   = []byte("schema")
	keyIdentity = []byte("identity")
	keyReserved = []byte("reserved-ports")
)

// Contents is everything the file holds.
type Contents struct {
	Networks   []Network
	Containers []Container
	Cursors    map[string][]netip.Addr // addresses handed out last, by network ID
	Reserved   []PortRange             // our entries in ip_local_reserved_ports
}

// Store is an open state file. Safe for concurrent use; changes made at the
// same time share a commit.
type Store struct {
	db       *bolt.DB
	identity string
}

// Open opens the state in dir, made when it is missing, and reads all of it.
func Open(dir string) (s *Store, c Contents, err error) {
	path := filepath.Join(dir, FileName)
	way := fmt.Sprintf("restore it from a backup, or move it away to start without networks and containers: mv %s %s.broken", path, path)
	if fi, serr := os.Stat(path); serr == nil && fi.Size() == 0 {
		// bbolt takes an empty file for a new one; an empty one here was cut off.
		return nil, c, fmt.Errorf("%s: %w: it is empty: %s", path, ErrCorrupt, way)
	}
	// A damaged page can send bbolt beyond the mapping or into a broken
	// invariant; both become panics that end here.
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	var db *bolt.DB
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%s: %w: %v: %s", path, ErrCorrupt, r, way)
		}
		if err != nil {
			s = nil
			if db != nil {
				closeQuietly(db)
			}
		}
	}()
	db, err = bolt.Open(path, 0o600, &bolt.Options{Timeout: time.Second, NoGrowSync: false})
	switch {
	case errors.Is(err, bolterrors.ErrTimeout):
		return nil, c, fmt.Errorf("%s is locked by another process: stop it or choose another --state-dir", path)
	case errors.Is(err, os.ErrPermission), errors.Is(err, os.ErrNotExist):
		return nil, c, fmt.Errorf("state file: %w", err)
	case err != nil:
		return nil, c, fmt.Errorf("%s: %w: %w: %s", path, ErrCorrupt, err, way)
	}
	// Attaches that come together wait this long for each other's fsync.
	db.MaxBatchDelay = time.Millisecond
	s = &Store{db: db}
	if err = s.init(path, way); err != nil {
		return nil, c, err
	}
	if c, err = s.read(); err != nil {
		return nil, c, fmt.Errorf("%s: %w: %w: %s", path, ErrCorrupt, err, way)
	}
	return s, c, nil
}

func closeQuietly(db *bolt.DB) {
	defer func() { _ = recover() }()
	db.Close()
}

// init makes the buckets, checks the schema and draws the identity.
func (s *Store) init(path, way string) error {
	schema := uint64(Schema)
	// Checked before anything is written.
	err := s.db.View(func(tx *bolt.Tx) error {
		m := tx.Bucket(bucketMeta)
		if m == nil {
			return nil
		}
		if v := m.Get(keySchema); len(v) == 8 {
			if schema = binary.BigEndian.Uint64(v); schema > Schema {
				return fmt.Errorf("%s: %w: it has schema %d, this program knows %d: run the newer vswitch, or choose another --state-dir",
					path, ErrNewer, schema, Schema)
			}
		}
		s.identity = string(m.Get(keyIdentity))
		return nil
	})
	if err != nil {
		return err
	}
	if s.identity != "" {
		if schema < Schema {
			if err := s.db.Update(migrate); err != nil {
				return fmt.Errorf("%s: %w: %w: %s", path, ErrCorrupt, err, way)
			}
		}
		return nil
	}
	s.identity = newUUID()
	err = s.db.Update(func(tx *bolt.Tx) error {
		for _, b := range [][]byte{bucketMeta, bucketNetworks, bucketContainers, bucketCursors} {
			if _, err := tx.CreateBucketIfNotExists(b); err != nil {
				return err
			}
		}
		m := tx.Bucket(bucketMeta)
		return errors.Join(
			m.Put(keySchema, binary.BigEndian.AppendUint64(nil, Schema)),
			m.Put(keyIdentity, []byte(s.identity)))
	})
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

func (s *Store) read() (c Contents, err error) {
	c.Cursors = make(map[string][]netip.Addr)
	err = s.db.View(func(tx *bolt.Tx) error {
		for _, b := range [][]byte{bucketMeta, bucketNetworks, bucketContainers, bucketCursors} {
			if tx.Bucket(b) == nil {
				return fmt.Errorf("bucket %s is missing", b)
			}
		}
		err := tx.Bucket(bucketNetworks).ForEach(func(k, v []byte) error {
			var n Network
			if err := json.Unmarshal(v, &n); err != nil {
				return fmt.Errorf("network %s: %w", k, err)
			}
			c.Networks = append(c.Networks, n)
			return nil
		})
		if err != nil {
			return err
		}
		err = tx.Bucket(bucketContainers).ForEach(func(k, v []byte) error {
			var n Container
			if err := json.Unmarshal(v, &n); err != nil {
				return fmt.Errorf("container %s: %w", k, err)
			}
			c.Containers = append(c.Containers, n)
			return nil
		})
		if err != nil {
			return err
		}
		err = tx.Bucket(bucketCursors).ForEach(func(k, v []byte) error {
			list, err := parseCursor(v)
			if err != nil {
				return fmt.Errorf("cursor of network %s: %w", k, err)
			}
			c.Cursors[string(k)] = list
			return nil
		})
		if err != nil {
			return err
		}
		if v := tx.Bucket(bucketMeta).Get(keyReserved); v != nil {
			return json.Unmarshal(v, &c.Reserved)
		}
		return nil
	})
	return c, err
}

// Identity is a UUID drawn when the file was made. It marks the kernel objects
// that belong to this state.
func (s *Store) Identity() string { return s.identity }

// PutNetwork stores a network under its ID.
func (s *Store) PutNetwork(n Network) error {
	v, err := json.Marshal(n)
	if err != nil {
		return fmt.Errorf("state: network %s: %w", n.Name, err)
	}
	return s.update(func(tx *bolt.Tx) error { return tx.Bucket(bucketNetworks).Put([]byte(n.ID), v) })
}

// DeleteNetwork forgets a network; one that is unknown is no error.
func (s *Store) DeleteNetwork(id string) error {
	return s.update(func(tx *bolt.Tx) error {
		return errors.Join(
			tx.Bucket(bucketNetworks).Delete([]byte(id)),
			tx.Bucket(bucketCursors).Delete([]byte(id)))
	})
}

// PutContainer stores a container under its ID, and how far the address pools of
// its networks have got.
func (s *Store) PutContainer(c Container, cursors map[string][]netip.Addr) error {
	v, err := json.Marshal(c)
	if err != nil {
		return fmt.Errorf("state: container %s: %w", c.Name, err)
	}
	return s.update(func(tx *bolt.Tx) error {
		for id, list := range cursors {
			if len(list) == 0 {
				continue // every address was asked for by name
			}
			if err := tx.Bucket(bucketCursors).Put([]byte(id), cursor(list)); err != nil {
				return err
			}
		}
		return tx.Bucket(bucketContainers).Put([]byte(c.ID), v)
	})
}

// cursor is the form of addresses in the file: their bytes, the IPv4 address
// first, so that the length tells which there are: 4, 16 or both.
func cursor(list []netip.Addr) (b []byte) {
	for _, a := range list {
		b = append(b, a.AsSlice()...)
	}
	return b
}

func parseCursor(b []byte) (list []netip.Addr, err error) {
	switch len(b) {
	case 4, 16:
	case 20:
		list, b = []netip.Addr{netip.AddrFrom4([4]byte(b))}, b[4:]
	default:
		return nil, fmt.Errorf("%d bytes", len(b))
	}
	a, _ := netip.AddrFromSlice(b) // of a length it takes
	return append(list, a), nil
}

// DeleteContainer forgets a container; one that is unknown is no error.
func (s *Store) DeleteContainer(id string) error {
	return s.update(func(tx *bolt.Tx) error { return tx.Bucket(bucketContainers).Delete([]byte(id)) })
}

// PutReserved stores our entries in ip_local_reserved_ports.
func (s *Store) PutReserved(r []PortRange) error {
	v, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("state: reserved ports: %w", err)
	}
	return s.update(func(tx *bolt.Tx) error { return tx.Bucket(bucketMeta).Put(keyReserved, v) })
}

func (s *Store) update(fn func(*bolt.Tx) error) error {
	if err := s.db.Batch(fn); err != nil {
		return fmt.Errorf("state file %s: %w", s.db.Path(), err)
	}
	return nil
}

// Close closes the file.
func (s *Store) Close() error { return s.db.Close() }

// newUUID draws a random UUID (RFC 9562 section 5.4).
func newUUID() string {
	var b [16]byte
	rand.Read(b[:]) // never fails
	b[6] = b[6]&0x0f | 0x40
	b[8] = b[8]&0x3f | 0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
