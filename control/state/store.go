package state

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"sync"
	"syscall"
	"time"
)

// Schema is the form of the records this program writes. Older files are brought
// to it when they are opened (migrate.go):
//
//	1: a network has one subnet, an endpoint one address
//	2: one of each family
const Schema = 2

// FileName is the file's name in the state directory.
const FileName = "state.db"

// ErrNewer: a later version of the program wrote the file.
var ErrNewer = errors.New("state file is newer than this program")

// Contents is everything the file holds.
type Contents struct {
	Networks   []Network
	Containers []Container
	Cursors    map[string][]netip.Addr // addresses handed out last, by network ID
	Reserved   []PortRange             // our entries in ip_local_reserved_ports
	Identity   string                  // see Store.Identity; "" when it is lost
	Numbers    Numbers
	Latest     Latest
	ByHand     []ByHand // of containers that are away
	// Damage is what was wrong with what is stored, nil when it was whole.
	Damage *Damage
	// Refused is why changes cannot be stored for now; nil: they can.
	Refused error
}

// Store is the open state. Safe for concurrent use; changes made at the same time share a
// commit.
type Store struct {
	path     string // of the file
	identity string

	mu   sync.Mutex
	next *batch // that gathers while another is written

	writing sync.Mutex // guards what follows
	records records
	commit  uint64
	db      *database
	copy    *copyFile
	memory  *memory
	found   uint64 // commit that was found on disk
	remake  bool   // the file is to be made anew
	keep    bool   // of the one that is there: it is damaged, people may want it
	closed  bool
}

// Open opens the state in dir, made when it is missing, and reads all of it. Damage is
// put right, and Contents.Damage says so. A disk that cannot be written to is
// no error when there is a state: Contents.Refused says why.
func Open(dir string) (*Store, Contents, error) {
	path := filepath.Join(dir, FileName)
	l, err := readBoth(dir, syscall.LOCK_EX, time.Second)
	if err != nil {
		return nil, Contents{}, err
	}
	fresh := len(l.records) == 0 && l.damage == nil
	c, err := l.contents(path)
	if err != nil {
		return nil, Contents{}, err
	}
	s := &Store{
		path: path, records: l.records, commit: l.commit, found: l.commit, remake: l.freshFile, keep: l.freshFile && l.damage != nil && l.damage.File == FileName,
		copy: &copyFile{path: filepath.Join(dir, CopyName), n: l.lines, size: l.size, live: l.records.size()}, identity: string(l.records[keyIdentity]),
	}
	if s.identity == "" {
		if !fresh {
			if c.Damage == nil {
				c.Damage = &Damage{File: FileName, Problem: "it has no identity", Incomplete: true}
			}
			c.Damage.Anonymous = true
		}
		s.identity = newUUID()
		s.records.apply([]op{{keySchema, schemaValue(Schema)}, {keyIdentity, []byte(s.identity)}})
	}
	if l.freshFile && l.freshCopy {
		s.commit++ // of neither
	}
	if c.Damage != nil && c.Damage.Incomplete {
		s.records[keyLost] = []byte(c.Damage.Problem)
	}
	if err = s.settle(l); err != nil && fresh {
		s.release()
		return nil, Contents{}, fmt.Errorf("state file: %w", err)
	}
	c.Refused = err
	return s, c, nil
}

// settle brings both files to what was loaded.
func (s *Store) settle(l loaded) error {
	s.writing.Lock()
	defer s.writing.Unlock()
	if l.freshCopy {
		s.copy.size = 0
	}
	fresh := s.remake
	if err := s.ready(); err != nil || fresh {
		return err
	}
	err := error(nil)
	if ops := s.records.changes(l.stored); len(ops) > 0 {
		if err = s.db.put(s.commit, ops); err != nil {
			s.distrust(err)
		}
	}
	return err
}

// distrust has the file made anew by the next change.
func (s *Store) distrust(why error) {
	if !errors.Is(why, errPanicked) { // else bbolt holds its locks, and would wait for them
		s.db.close()
	}
	s.db, s.remake = nil, true
}

// Searched says that what was lost has been looked for elsewhere.
func (s *Store) Searched() error { return s.update(op{key: keyLost}) }

// ready has both files open, and makes anew what is not as it should be.
func (s *Store) ready() (err error) {
	if s.closed {
		return errors.New("is closed")
	}
	if err := s.replace(); err != nil {
		return err
	}
	if err := s.copy.open(s.commit, s.records); err != nil {
		return err
	}
	switch {
	case s.db != nil:
		return nil
	case s.remake:
		s.db, err = makeDatabase(s.path, s.commit, s.records, s.keep)
	default:
		s.db, err = openDatabase(s.path)
	}
	if err == nil {
		s.remake, s.keep = false, false
	}
	return err
}

// batch is what is committed together.
type batch struct {
	requests []*request
	done     chan struct{}
}

type request struct {
	ops []op
	err error
}

// update stores changes. Those that come while others are written are written together.
func (s *Store) update(ops ...op) error {
	r := &request{ops: ops}
	s.mu.Lock()
	b, first := s.next, s.next == nil
	if first {
		b = &batch{done: make(chan struct{})}
		s.next = b
	}
	b.requests = append(b.requests, r)
	s.mu.Unlock()
	if first {
		s.writing.Lock()
		s.mu.Lock()
		s.next = nil
		s.mu.Unlock()
		s.writeBatch(b)
		s.writing.Unlock()
		close(b.done)
	}
	<-b.done
	if r.err != nil {
		return fmt.Errorf("state file %s: %w", s.path, r.err)
	}
	return nil
}

func (s *Store) writeBatch(b *batch) {
	var all []op
	for _, r := range b.requests {
		all = append(all, r.ops...)
	}
	if err := s.write(all); err == nil {
		return
	}
	for _, r := range b.requests { // one that is too large for the disk is no other's matter
		r.err = s.write(r.ops)
	}
}

// write has a commit in both files, or in none.
func (s *Store) write(ops []op) error {
	if err := s.ready(); err != nil {
		return err
	}
	commit, before := s.commit+1, s.copy.mark()
	if err := s.copy.append(commit, ops); err != nil {
		return err
	}
	err := s.db.put(commit, ops)
	if errors.Is(err, errPanicked) {
		s.distrust(err)
		s.keep = true
		if err = s.ready(); err == nil {
			err = s.db.put(commit, ops)
		}
	}
	if err != nil {
		s.copy.undo(before)
		return err
	}
	s.commit = commit
	s.records.apply(ops)
	s.memory.follow(commit, ops, s.records)
	return nil
}

// Identity is a random UUID that was drawn when the file was made. The daemon marks with
// it all that it leaves in the kernel.
func (s *Store) Identity() string { return s.identity }

// Adopt gives the state the identity that what is in the kernel has, in place of one
// that was lost.
func (s *Store) Adopt(identity string) error {
	s.identity = identity
	return s.update(op{keyIdentity, []byte(identity)})
}

// put is the change that stores a record.
func put(bucket, key string, v any) (op, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return op{}, fmt.Errorf("state: %s %s: %w", bucket, key, err)
	}
	return op{recordKey(bucket, key), b}, nil
}

// PutNetwork stores a network under its ID, and with it how far the numbers have got;
// latest nil leaves that as it was.
func (s *Store) PutNetwork(n Network, latest *Latest) error {
	o, err := put(inNetworks, n.ID, n)
	if err != nil {
		return err
	}
	return s.update(withLatest(latest, o)...)
}

func withLatest(latest *Latest, ops ...op) []op {
	if latest == nil {
		return ops
	}
	v, err := json.Marshal(latest)
	if err != nil {
		panic(err) // two numbers
	}
	return append(ops, op{keyLatest, v})
}

// DeleteNetwork forgets a network; one that is unknown is no error.
func (s *Store) DeleteNetwork(id string) error {
	return s.update(op{key: recordKey(inNetworks, id)}, op{key: recordKey(inCursors, id)})
}

// PutContainer stores a container under its ID, and how far the address pools of
// its networks and the numbers have got; latest nil leaves that as it was.
func (s *Store) PutContainer(c Container, cursors map[string][]netip.Addr, latest *Latest) error {
	o, err := put(inContainers, c.ID, c)
	if err != nil {
		return err
	}
	ops := withLatest(latest, o)
	for id, list := range cursors {
		if len(list) > 0 { // else every address was asked for by name
			ops = append(ops, op{recordKey(inCursors, id), cursor(list)})
		}
	}
	return s.update(ops...)
}

// DeleteContainer forgets a container; one that is unknown is no error.
func (s *Store) DeleteContainer(id string) error {
	return s.update(op{key: recordKey(inContainers, id)})
}

// PutReserved stores our entries in ip_local_reserved_ports.
func (s *Store) PutReserved(r []PortRange) error {
	v, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("state: reserved ports: %w", err)
	}
	return s.update(op{keyReserved, v})
}

// PutByHand stores the ports that were added by hand to containers that are away.
func (s *Store) PutByHand(list []ByHand) error {
	v, err := json.Marshal(list)
	if err != nil {
		return fmt.Errorf("state: ports by hand: %w", err)
	}
	return s.update(op{keyByHand, v})
}

// PutNumbers stores the numbers of what has no record.
func (s *Store) PutNumbers(n Numbers) error {
	v, err := json.Marshal(n)
	if err != nil {
		return fmt.Errorf("state: numbers: %w", err)
	}
	return s.update(op{keyNumbers, v})
}

// Close closes the files, once they are where the next daemon looks for them.
func (s *Store) Close() error {
	s.writing.Lock()
	defer s.writing.Unlock()
	var err error
	if s.db != nil && !s.closed {
		err = s.ready()
	}
	s.closed = true
	return errors.Join(err, s.release())
}

func (s *Store) release() error {
	s.copy.close()
	if s.memory != nil {
		s.memory.close()
	}
	if s.db == nil {
		return nil
	}
	err := s.db.close()
	s.db = nil
	return err
}

// newUUID draws a random UUID (RFC 9562 section 5.4).
func newUUID() string {
	var b [16]byte
	rand.Read(b[:]) // never fails
	b[6] = b[6]&0x0f | 0x40
	b[8] = b[8]&0x3f | 0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
