package state

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	bolt "go.etcd.io/bbolt"
)

// everyDamage asks for every bit and every length; otherwise the tests of damage take one
// bit of every byte, and cuts at every page, at every line and between them.
var everyDamage = os.Getenv("VSWITCH_DAMAGE") == "every"

// site is a state directory with some containers, and what is stored there.
type site struct {
	file, copy []byte
	want       records
}

// newSite has so many containers that a bucket has a tree of its own, and changes of which
// the copy and the free pages of the file tell.
func newSite(t testing.TB, containers int) *site {
	t.Helper()
	dir := t.TempDir()
	s, _, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	n, ct := sample()
	if err := s.PutNetwork(n, &Latest{Network: 1, Port: 1}); err != nil {
		t.Fatal(err)
	}
	for i := range containers + 1 {
		ct.ID, ct.Name = fmt.Sprintf("%032x", i), fmt.Sprint("web", i)
		if err := s.PutContainer(ct, nil, &Latest{Network: 1, Port: i}); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.DeleteContainer(ct.ID); err != nil {
		t.Fatal(err)
	}
	want := maps.Clone(s.records)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return &site{read(t, dir, FileName), read(t, dir, CopyName), want}
}

func read(t testing.TB, dir, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func (s *site) has(r records) bool {
	return maps.EqualFunc(s.want, r, bytes.Equal)
}

// parallel calls fn for each number below n, each worker with bytes of its own.
func parallel(n int, whole []byte, fn func(b []byte, i int)) {
	var wg sync.WaitGroup
	var next atomic.Int64
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			b := bytes.Clone(whole)
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				fn(b, i)
			}
		})
	}
	wg.Wait()
}

// A bit that is damaged in one of the two files changes nothing that is stored.
func TestF20DamagedBit(t *testing.T) {
	s := newSite(t, 8)
	if l := load(s.file, s.copy); !s.has(l.records) || l.damage != nil || l.freshFile || l.freshCopy {
		t.Fatalf("whole files: damage %+v, fresh %v %v", l.damage, l.freshFile, l.freshCopy)
	}
	for name, whole := range map[string][]byte{FileName: s.file, CopyName: s.copy} {
		bits := 1
		if everyDamage {
			bits = 8
		}
		file, second := readFile(s.file), readCopy(s.copy)
		parallel(len(whole)*bits, whole, func(b []byte, i int) {
			at, bit := i/bits, i%bits
			if bits == 1 {
				bit = at % 8
			}
			b[at] ^= 1 << bit
			defer func() { b[at] ^= 1 << bit }()
			f, c := file, second
			if name == FileName {
				f = readFile(b)
			} else {
				c = readCopy(b)
			}
			l := choose(f, c)
			if !s.has(l.records) {
				t.Errorf("%s, bit %d of byte %d: other contents, damage %+v", name, bit, at, l.damage)
			}
		})
	}
}

// A file that is cut off, or has a page or a line of zeros, changes nothing that is stored.
func TestF20CutOff(t *testing.T) {
	s := newSite(t, 8)
	check := func(what string, l loaded) {
		if !s.has(l.records) || l.damage != nil && l.damage.Incomplete {
			t.Errorf("%s: other contents, damage %+v", what, l.damage)
		}
	}
	for n := 0; n <= len(s.file); n++ {
		if !everyDamage && n%509 != 0 && n%4096 > 1 {
			continue
		}
		check(fmt.Sprintf("%s of %d bytes", FileName, n), load(s.file[:n], s.copy))
	}
	for n := 0; n <= len(s.copy); n++ {
		if !everyDamage && n%97 != 0 && n > 0 && s.copy[n-1] != '\n' {
			continue
		}
		check(fmt.Sprintf("%s of %d bytes", CopyName, n), load(s.file, s.copy[:n]))
	}
	for at := 0; at < len(s.file); at += 4096 {
		b := bytes.Clone(s.file)
		clear(b[at : at+4096])
		check(fmt.Sprintf("page %d of zeros", at/4096), load(b, s.copy))
		for other := 0; other < len(s.file); other += 4096 {
			copy(b[at:], s.file[other:other+4096])
			check(fmt.Sprintf("page %d in place of %d", other/4096, at/4096), load(b, s.copy))
		}
	}
	check("no file", load(nil, s.copy))
	check("no copy", load(s.file, nil))
}

// A record that is damaged in both files, or in the only one there is, stops no other.
func TestF20BadRecordStopsNoOther(t *testing.T) {
	s := newSite(t, 8)
	name := []byte(`"name":"web3"`)
	b := bytes.ReplaceAll(s.file, name, []byte(`"name":"evil"`))
	l := load(b, nil)
	key := recordKey(inContainers, fmt.Sprintf("%032x", 3))
	want := maps.Clone(s.want)
	delete(want, key)
	if !maps.EqualFunc(want, l.records, bytes.Equal) {
		t.Errorf("%d records of %d, damage %+v", len(l.records), len(want), l.damage)
	}
	if l.damage == nil || !l.damage.Incomplete || len(l.damage.Lost) != 1 || !strings.Contains(l.damage.Summary(), fmt.Sprintf("lost are container %032x", 3)) {
		t.Errorf("damage %+v", l.damage)
	}
	// Both are damaged, but not in the same place.
	cut := s.copy[bytes.IndexByte(s.copy, '\n')+1:]
	if l := load(b, cut); !s.has(l.records) {
		t.Errorf("from a damaged copy: %d records of %d, %+v", len(l.records), len(s.want), l.damage)
	}
	for what, l := range map[string]loaded{"empty files": load([]byte{}, []byte{}), "an empty file": load([]byte{}, nil), "zeros": load(make([]byte, 1<<15), make([]byte, 100))} {
		if len(l.records) != 0 || l.damage == nil || !l.damage.Incomplete {
			t.Errorf("%s: %d records, %+v", what, len(l.records), l.damage)
		}
	}
}

// Open makes a damaged file anew, says so once, and works on; the damaged one is kept.
func TestF20OpenPutsItRight(t *testing.T) {
	s := newSite(t, 8)
	damage := func(b []byte, at int) []byte { b = bytes.Clone(b); b[at] ^= 4; return b }
	for what, files := range map[string]struct{ file, copy []byte }{
		"a meta page":    {damage(s.file, 16+48), s.copy},
		"another":        {damage(s.file, 4096+16+48), s.copy},
		"a record":       {bytes.ReplaceAll(s.file, []byte(`"web3"`), []byte(`"web5"`)), s.copy},
		"an empty file":  {[]byte{}, s.copy},
		"no file":        {nil, s.copy},
		"half a file":    {s.file[:len(s.file)/2], s.copy},
		"the copy":       {s.file, damage(s.copy, len(s.copy)/2)},
		"half a copy":    {s.file, s.copy[:len(s.copy)/2]},
		"an empty copy":  {s.file, []byte{}},
		"another's text": {[]byte("not a database"), s.copy},
	} {
		dir := t.TempDir()
		for name, b := range map[string][]byte{FileName: files.file, CopyName: files.copy} {
			if b != nil {
				if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
					t.Fatal(err)
				}
			}
		}
		st, c, err := Open(dir)
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		if !s.has(st.records) || len(c.Containers) != 8 || c.Damage == nil || strings.Contains(c.Damage.Summary(), "\n") || c.Refused != nil {
			t.Errorf("%s: %d containers, damage %+v, refused %v", what, len(c.Containers), c.Damage, c.Refused)
		}
		if err := errors.Join(st.PutContainer(Container{ID: "new"}, nil, nil), st.Close()); err != nil {
			t.Errorf("%s: %v", what, err)
		}
		l := load(read(t, dir, FileName), read(t, dir, CopyName))
		if l.damage != nil || l.freshFile || l.freshCopy || len(l.records) != len(s.want)+1 {
			t.Errorf("%s: afterwards damage %+v, %d records", what, l.damage, len(l.records))
		}
		if c.Damage.File == FileName && files.file != nil {
			if got := read(t, dir, DamagedName); !bytes.Equal(got, files.file) {
				t.Errorf("%s: the damaged file was not kept", what)
			}
		}
		if err := boltCheck(filepath.Join(dir, FileName)); err != nil {
			t.Errorf("%s: bbolt finds: %v", what, err)
		}
	}
}

// boltCheck is bbolt's own check of a file.
func boltCheck(path string) error {
	db, err := bolt.Open(path, 0o600, &bolt.Options{ReadOnly: true})
	if err != nil {
		return err
	}
	defer db.Close()
	return db.View(func(tx *bolt.Tx) error {
		var errs []error
		for err := range tx.Check() {
			errs = append(errs, err)
		}
		return errors.Join(errs...)
	})
}

// The process may end between any two writes: what was answered is there, and all of what
// was not, or nothing. Each file alone says so as well.
func TestF21EndsBetweenWrites(t *testing.T) {
	dir := t.TempDir()
	s, _, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for i := range 4 {
		before, want := maps.Clone(s.records), maps.Clone(s.records)
		old := read(t, dir, FileName)
		ops := []op{{recordKey(inContainers, fmt.Sprint("c", i)), bytes.Repeat([]byte("x"), 100*i+1)}, {keyLatest, fmt.Append(nil, i)}}
		want.apply(ops)
		oldCopy := read(t, dir, CopyName)
		if err := s.update(ops...); err != nil {
			t.Fatal(err)
		}
		file, second := read(t, dir, FileName), read(t, dir, CopyName)
		for n := len(oldCopy); n <= len(second); n++ {
			if !everyDamage && n%7 != 0 && n < len(second)-2 && n > len(oldCopy)+2 {
				continue
			}
			l := load(old, second[:n])
			wanted := before
			if n >= len(second)-1 {
				wanted = want
			}
			if !maps.EqualFunc(wanted, l.records, bytes.Equal) || l.damage != nil && l.damage.File != CopyName {
				t.Fatalf("change %d, %d bytes of %d of the copy: damage %+v", i, n-len(oldCopy), len(second)-len(oldCopy), l.damage)
			}
		}
		// bbolt writes its pages, and the page that makes them count last.
		for n := 2 * 4096; n <= len(file); n += 4096 {
			torn := bytes.Clone(file)
			copy(torn[:2*4096], old)
			if n < len(old) {
				copy(torn[n:], old[n:])
			}
			if l := load(torn, second); !maps.EqualFunc(want, l.records, bytes.Equal) {
				t.Fatalf("change %d, pages before %d are written: damage %+v", i, n/4096, l.damage)
			}
		}
	}
}

// A program without checksums reads the file and changes it; what it wrote counts, whatever
// the copy and the sums say.
func TestF03VersionBefore(t *testing.T) {
	s := newSite(t, 8)
	dir := t.TempDir()
	if err := errors.Join(os.WriteFile(filepath.Join(dir, FileName), s.file, 0o600), os.WriteFile(filepath.Join(dir, CopyName), s.copy, 0o600)); err != nil {
		t.Fatal(err)
	}
	plainFile(t, dir, func(tx *bolt.Tx) error {
		b := tx.Bucket([]byte(inContainers))
		if got := b.Stats().KeyN; got != 8 {
			t.Errorf("the version before reads %d containers, want 8", got)
		}
		return errors.Join(b.Delete(fmt.Appendf(nil, "%032x", 3)), b.Put(fmt.Appendf(nil, "%032x", 4), fmt.Appendf(nil, `{"id":"%032x","name":"four"}`, 4)), b.Put([]byte("5"), []byte(`{"id":"5","name":"five"}`)))
	})
	for range 2 {
		st, c, err := Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		names := make(map[string]bool)
		for _, ct := range c.Containers {
			names[ct.Name] = true
		}
		if len(names) != 8 || !names["four"] || !names["five"] || names["web3"] || c.Damage != nil {
			t.Errorf("containers %v, damage %+v", names, c.Damage)
		}
		if err := st.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// A page that changes under the daemon costs nothing: the next change makes the file anew.
func TestF20FileChangesUnderTheDaemon(t *testing.T) {
	dir := t.TempDir()
	s, _, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	n, ct := sample()
	for i := range 40 {
		ct.ID = fmt.Sprintf("%032x", i)
		if err := s.PutContainer(ct, nil, nil); err != nil {
			t.Fatal(err)
		}
	}
	path := filepath.Join(dir, FileName)
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt(bytes.Repeat([]byte{0xFF}, len(read(t, dir, FileName))-2*4096), 2*4096); err != nil {
		t.Fatal(err)
	}
	f.Close()
	if err := errors.Join(s.PutNetwork(n, nil), s.Close()); err != nil {
		t.Fatal(err)
	}
	_, c, err := Open(dir)
	if err != nil || len(c.Containers) != 40 || len(c.Networks) != 1 || c.Damage != nil {
		t.Errorf("%d containers, %d networks, damage %+v, %v", len(c.Containers), len(c.Networks), c.Damage, err)
	}
}
