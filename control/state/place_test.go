package state

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// Files and directories go while a daemon has them open: what it is told from then on is
// there for the next one, with all that was there before.
func TestF20FilesGoUnderTheDaemon(t *testing.T) {
	for what, spoil := range map[string]func(dir string) error{
		"state.db":      func(dir string) error { return os.Remove(filepath.Join(dir, FileName)) },
		"state.copy":    func(dir string) error { return os.Remove(filepath.Join(dir, CopyName)) },
		"the directory": os.RemoveAll,
		"another's state.db": func(dir string) error {
			other := dir + ".other"
			s, _, err := Open(other)
			if err == nil {
				err = s.Close()
			}
			return errors.Join(err, os.Rename(filepath.Join(other, FileName), filepath.Join(dir, FileName)))
		},
	} {
		for _, change := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, a change follows: %t", what, change), func(t *testing.T) {
				dir := filepath.Join(t.TempDir(), "state")
				if err := errors.Join(os.Mkdir(dir, 0o750), os.Mkdir(dir+".other", 0o750)); err != nil {
					t.Fatal(err)
				}
				s, _, err := Open(dir)
				if err != nil {
					t.Fatal(err)
				}
				n, ct := sample()
				if err := s.PutNetwork(n, nil); err != nil {
					t.Fatal(err)
				}
				if err := spoil(dir); err != nil {
					t.Fatal(err)
				}
				want := 0
				if change {
					want = 1
					if err := s.PutContainer(ct, nil, nil); err != nil {
						t.Fatal(err)
					}
					before, err := Peek(dir) // as after kill -9
					if err == nil {
						t.Errorf("nobody holds the file's lock: %+v", before)
					}
				}
				if err := s.Close(); err != nil {
					t.Fatal(err)
				}
				next, c, err := Open(dir)
				if err != nil {
					t.Fatal(err)
				}
				defer next.Close()
				if len(c.Networks) != 1 || len(c.Containers) != want || c.Identity != s.Identity() || c.Damage != nil {
					t.Errorf("%d networks, %d containers, identity %q, damage %+v", len(c.Networks), len(c.Containers), c.Identity, c.Damage)
				}
			})
		}
	}
}
