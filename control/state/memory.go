package state

import (
	"fmt"
	"io"
	"os"
)

// A copy in memory is a third one, of the same lines as CopyName. A process that outlives the
// daemon has it open, so that what was lost on disk comes back from there.

// Remember begins a copy in memory and has each change follow there from now on. make makes a file
// with all there is, the first one before Remember returns, and has somebody else keep it too; nil:
// there is nobody. What cannot be remembered keeps no change from the disk.
func (s *Store) Remember(make func([]byte) (*os.File, error)) error {
	s.writing.Lock()
	defer s.writing.Unlock()
	if s.closed {
		return nil
	}
	s.memory = &memory{make: make}
	return s.memory.begin(s.commit, s.records)
}

// memory is the copy there, nil for none.
type memory struct {
	make func([]byte) (*os.File, error)
	copyFile
}

// begin makes it anew; the one before stays as it is until the new one is kept.
func (m *memory) begin(commit uint64, r records) error {
	m.close()
	m.n = 0
	b, n := m.encode(commit, r.all())
	f, err := m.make(b)
	if err != nil {
		return fmt.Errorf("a copy of the state in memory: %w", err)
	}
	m.f, m.n, m.size, m.live = f, n, int64(len(b)), int64(len(b))
	return nil
}

// follow writes a commit that is on disk. One that fails, or makes most of the copy stale, makes
// it anew; where that fails, too, the next one tries again.
func (m *memory) follow(commit uint64, ops []op, all records) {
	if m == nil {
		return
	}
	if m.f != nil && m.size <= 2*m.live+maxStale {
		b, n := m.encode(commit, ops)
		if _, err := m.f.WriteAt(b, m.size); err == nil {
			m.n, m.size = n, m.size+int64(len(b))
			return
		}
	}
	if m.f != nil {
		_ = m.f.Truncate(0) // rather none than an older one
	}
	_ = m.begin(commit, all)
}

// Recall gives a state that is damaged all that a copy in memory has, which it closes, if there is one and it is of
// the same state directory, whose identity it is given, whole, and not older than what is on disk, and if something
// is lost there. It reports whether that is so.
func (s *Store) Recall(f *os.File, identity string, c *Contents) (recalled bool) {
	if f == nil {
		return false
	}
	defer f.Close()
	b, err := io.ReadAll(io.NewSectionReader(f, 0, 1<<40))
	if err != nil {
		return false
	}
	k := readCopy(b)
	s.writing.Lock()
	defer s.writing.Unlock()
	// The process may have ended between the disk and the copy: that change was not answered.
	if !c.Damage.Incomplete && k.commit <= s.found {
		return false
	}
	if !k.whole || k.commit == 0 || k.commit+1 < s.found || string(k.records[keyIdentity]) != identity || k.records.schema() > Schema {
		return false
	}
	l := loaded{records: k.records, commit: k.commit}
	l.damage = &Damage{File: c.Damage.File, Problem: c.Damage.Problem, Source: "the copy in memory that its holder has"}
	delete(l.records, keyLost)
	got, err := l.contents(s.path)
	if err != nil {
		return false
	}
	s.records, s.commit, s.identity = l.records, max(s.commit, k.commit)+1, identity
	if s.db != nil {
		s.distrust(nil)
	}
	s.remake = true
	s.copy.close()
	s.copy.size = 0 // made anew, as the file is
	got.Refused = s.ready()
	*c = got
	return true
}
