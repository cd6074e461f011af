package state

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"syscall"
)

// CopyName is the name of the second copy in the state directory: a file of lines, each
// the checksum of the rest and one change of one record. It begins with all records there
// were and is made anew when most of it is of records that have changed since.
const CopyName = "state.copy"

// line is one of the copy.
type line struct {
	N      uint64 `json:"n"`           // of the line: one that is missing is missed
	Commit uint64 `json:"commit"`      // changes of one number come together
	Of     int    `json:"of"`          // how many changes that are still to come
	Key    string `json:"key"`         // bucket/key
	Value  []byte `json:"v,omitempty"` // absent: the record is gone
}

// copied is what a copy says.
type copied struct {
	records records
	commit  uint64 // that is there whole, 0: none
	whole   bool   // no line is damaged, unless it is of the last commit
	fault   string
	lines   uint64
	size    int64
}

func appendLine(b []byte, l line) []byte {
	v, err := json.Marshal(l)
	if err != nil {
		panic(err) // a struct of numbers and text
	}
	b = hex.AppendEncode(b, []byte{0, 0, 0, 0})
	s := crc32.Checksum(v, castagnoli)
	hex.Encode(b[len(b)-8:], []byte{byte(s >> 24), byte(s >> 16), byte(s >> 8), byte(s)})
	return append(append(append(b, ' '), v...), '\n')
}

func readLine(b []byte) (l line, ok bool) {
	var s [4]byte
	if len(b) < 9 || b[8] != ' ' {
		return l, false
	}
	if _, err := hex.Decode(s[:], b[:8]); err != nil {
		return l, false
	}
	want := uint32(s[0])<<24 | uint32(s[1])<<16 | uint32(s[2])<<8 | uint32(s[3])
	return l, crc32.Checksum(b[9:], castagnoli) == want && json.Unmarshal(b[9:], &l) == nil
}

// readCopy reads a copy. A commit that is not there whole is left out: nobody was told
// that it is stored. Of one that is damaged it returns what can be read.
func readCopy(b []byte) *copied {
	c := &copied{records: make(records), whole: true, size: int64(len(b))}
	var next uint64 = 1
	var pending []op
	for n := 1; len(b) > 0; n++ {
		text, rest, ended := bytes.Cut(b, []byte{'\n'})
		b = rest
		l, ok := readLine(text)
		if !ended {
			c.fault = fmt.Sprintf("line %d is cut off", n)
		}
		switch {
		case !ended && !ok:
		case !ok:
			c.fault = fmt.Sprintf("line %d has a wrong checksum", n)
			if len(b) > 0 {
				c.whole = false
			}
			continue
		}
		if !ok {
			break
		}
		if l.N != next {
			c.whole = false
			if c.fault == "" {
				c.fault = fmt.Sprintf("line %d is missing", next)
			}
			c.records.apply(pending) // the best there is
			pending = nil
		}
		next = l.N + 1
		pending = append(pending, op{l.Key, l.Value})
		if l.Of == 0 {
			c.records.apply(pending)
			pending, c.commit = nil, l.Commit
		}
	}
	c.lines = next - 1
	if len(pending) > 0 && c.fault == "" {
		c.fault = "the last change is not there whole"
	}
	return c
}

// copyFile is the open copy.
type copyFile struct {
	path string
	f    *os.File // nil: to be made anew
	n    uint64   // lines
	size int64
	live int64 // of that, when it was made anew
}

// maxStale is how much of a copy may be of records that have changed.
const maxStale = 256 << 10

// open has the copy open, and makes it anew where there is none or most of it is stale.
func (c *copyFile) open(commit uint64, r records) error {
	if c.f == nil && c.size > 0 {
		if f, err := os.OpenFile(c.path, os.O_RDWR, 0); err == nil {
			c.f = f
		}
	}
	if c.f == nil || c.size > 2*c.live+maxStale {
		return c.rewrite(commit, r)
	}
	return nil
}

// size is about that of a copy that is made anew.
func (r records) size() (n int64) {
	for k, v := range r {
		n += int64(len(k)+len(v)*4/3) + 64
	}
	return n
}

func (c *copyFile) encode(commit uint64, ops []op) (b []byte, n uint64) {
	n = c.n
	for i, o := range ops {
		n++
		b = appendLine(b, line{N: n, Commit: commit, Of: len(ops) - 1 - i, Key: o.key, Value: o.value})
	}
	return b, n
}

// append writes a commit and has it on disk. After an error nothing of it counts.
func (c *copyFile) append(commit uint64, ops []op) error {
	b, n := c.encode(commit, ops)
	_, err := c.f.WriteAt(b, c.size)
	if err == nil {
		err = syscall.Fdatasync(int(c.f.Fd()))
	}
	if err != nil {
		c.truncate(c.size)
		return err
	}
	c.n, c.size = n, c.size+int64(len(b))
	return nil
}

// mark is a place that undo returns to.
type mark struct {
	n    uint64
	size int64
}

func (c *copyFile) mark() mark { return mark{c.n, c.size} }

// undo takes back what was appended since.
func (c *copyFile) undo(m mark) {
	c.n, c.size = m.n, m.size
	c.truncate(m.size)
}

func (c *copyFile) truncate(size int64) {
	err := c.f.Truncate(size)
	if err == nil {
		err = syscall.Fdatasync(int(c.f.Fd())) // else a power cut brings back what was refused
	}
	if err != nil {
		c.close()
		c.size = 0 // made anew by the next change
	}
}

func (c *copyFile) close() {
	if c.f != nil {
		c.f.Close()
		c.f = nil
	}
}

// rewrite makes the copy anew. The one before stays until the new one is on disk.
func (c *copyFile) rewrite(commit uint64, r records) error {
	fresh := &copyFile{path: c.path}
	b, n := fresh.encode(commit, r.all())
	tmp := c.path + ".new"
	os.Remove(tmp)
	f, err := os.OpenFile(tmp, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	if _, err = f.Write(b); err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = putAside(c.path, c.path+".damaged")
	}
	if err == nil {
		err = os.Rename(tmp, c.path)
	}
	if err == nil {
		err = syncDir(filepath.Dir(c.path))
	}
	if err != nil {
		return errors.Join(err, f.Close(), os.Remove(tmp))
	}
	c.close()
	c.f, c.n, c.size, c.live = f, n, int64(len(b)), int64(len(b))
	return nil
}

// syncDir has renamed files on disk.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
