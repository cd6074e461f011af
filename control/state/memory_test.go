package state

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// holding keeps the last file that a store remembers by.
type holding struct {
	f    *os.File
	made int
}

// left is what the next daemon gets.
func (h *holding) left() *os.File {
	f, _ := os.Open(fmt.Sprintf("/proc/self/fd/%d", h.f.Fd()))
	return f
}

func (h *holding) make(b []byte) (*os.File, error) {
	f, err := os.CreateTemp("", "state")
	if err != nil {
		return nil, err
	}
	defer os.Remove(f.Name())
	if _, err := f.Write(b); err != nil {
		return nil, err
	}
	h.made++
	h.f, err = os.OpenFile(f.Name(), os.O_RDWR, 0)
	return f, err
}

// What is remembered is what was stored, also after it was made anew, and comes back when both files
// are nothing. One of another identity, an older one and an empty one give nothing.
func TestF20Recall(t *testing.T) {
	ok := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	dir := t.TempDir()
	open := func() (*Store, Contents) {
		t.Helper()
		s, c, err := Open(dir)
		ok(err)
		return s, c
	}
	stored := func() records {
		t.Helper()
		s, _ := open()
		r := maps.Clone(s.records)
		ok(s.Close())
		return r
	}
	s, _ := open()
	var h holding
	ok(s.Remember(h.make))
	for i := range 500 { // more than a copy keeps of what is stale
		ok(s.PutContainer(Container{ID: "c1", Name: "web", Digest: strings.Repeat("x", 1000), PID: i}, nil, nil))
	}
	if h.made < 2 {
		t.Error("the copy in memory only grows")
	}
	ok(s.PutContainer(Container{ID: "c2", Name: "gone"}, nil, nil))
	ok(s.DeleteContainer("c2"))
	ok(s.PutNetwork(Network{ID: "n1", Name: "blue"}, nil))
	identity := s.Identity()
	ok(s.Close())
	want := stored()
	for _, name := range []string{FileName, CopyName} {
		ok(os.WriteFile(filepath.Join(dir, name), make([]byte, 5000), 0o600))
	}
	s, c := open()
	if s.Recall(h.left(), "another", &c) {
		t.Error("one of another identity counts")
	}
	if !s.Recall(h.left(), identity, &c) || c.Refused != nil {
		t.Fatalf("it does not count: %v", c.Refused)
	}
	if c.Damage.Incomplete || c.Damage.Anonymous || s.Identity() != identity || len(c.Containers) != 1 || len(c.Networks) != 1 {
		t.Errorf("%+v, identity %s, damage %+v", c, s.Identity(), c.Damage)
	}
	ok(s.Close())
	if d := cmp.Diff(want, stored()); d != "" {
		t.Errorf("stored (-want +got):\n%s", d)
	}
	s, _ = open()
	ok(s.PutNetwork(Network{ID: "n2", Name: "red"}, nil))
	ok(s.PutNetwork(Network{ID: "n3", Name: "green"}, nil))
	ok(s.Close())
	s, c = open()
	defer s.Close()
	c.Damage = &Damage{Incomplete: true}
	if s.Recall(h.left(), identity, &c) {
		t.Error("one that is older than the disk counts")
	}
	ok(h.f.Truncate(0))
	if s.Recall(h.left(), "", &c) {
		t.Error("an empty one counts")
	}
}
