package state

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
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

// A directory or a pipe that has the name of a file is put aside, whenever it comes there.
func TestF20SomethingElseHasTheName(t *testing.T) {
	for _, name := range []string{FileName, CopyName} {
		for what, spoil := range map[string]func(path string) error{
			"a directory":             func(path string) error { return errors.Join(os.Remove(path), os.Mkdir(path, 0o755)) },
			"a directory with a file": func(path string) error { return errors.Join(os.Remove(path), os.MkdirAll(path+"/in", 0o755)) },
			"a pipe":                  func(path string) error { return errors.Join(os.Remove(path), syscall.Mkfifo(path, 0o600)) },
		} {
			for _, open := range []bool{true, false} {
				t.Run(fmt.Sprintf("%s, %s, while it is open: %t", name, what, open), func(t *testing.T) {
					dir := t.TempDir()
					n, ct := sample()
					s, _, err := Open(dir)
					if err == nil {
						err = s.PutNetwork(n, nil)
					}
					if err != nil {
						t.Fatal(err)
					}
					if !open {
						if err := s.Close(); err != nil {
							t.Fatal(err)
						}
					}
					if err := spoil(filepath.Join(dir, name)); err != nil {
						t.Fatal(err)
					}
					if !open {
						var c Contents
						if s, c, err = Open(dir); err != nil || c.Refused != nil || c.Damage == nil || c.Damage.File != name || c.Damage.Problem != "it is no file" || len(c.Networks) != 1 {
							t.Fatalf("%d networks, damage %+v, refused %v, %v", len(c.Networks), c.Damage, c.Refused, err)
						}
					}
					if err := errors.Join(s.PutContainer(ct, nil, nil), s.Close()); err != nil {
						t.Fatal(err)
					}
					next, c, err := Open(dir)
					if err != nil || c.Damage != nil || len(c.Networks) != 1 || len(c.Containers) != 1 {
						t.Fatalf("%d networks, %d containers, damage %+v, %v", len(c.Networks), len(c.Containers), c.Damage, err)
					}
					if err := next.Close(); err != nil {
						t.Fatal(err)
					}
				})
			}
		}
	}
}

// What has a file's name is put aside each time, also a directory with something in it.
func TestF20PutAsideAgain(t *testing.T) {
	path := filepath.Join(t.TempDir(), FileName)
	for i := range 2 {
		if err := os.MkdirAll(filepath.Join(path, fmt.Sprint("in", i)), 0o750); err != nil {
			t.Fatal(err)
		}
		if err := putAside(path, path+".damaged"); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(filepath.Join(path+".damaged", fmt.Sprint("in", i))); err != nil {
			t.Error(err)
		}
	}
}
