package state

import (
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Damage is what was wrong with what is stored. Everything was put right that it does not
// list as lost.
type Damage struct {
	// File is the damaged one, and Problem what is wrong there.
	File, Problem string
	// Source says where what was damaged came from, empty: nowhere.
	Source string
	// Lost are the records that nobody has any more, as far as they are known, as
	// "container 1f3c".
	Lost []string
	// Incomplete: there may have been records that nobody knows of, or some are lost.
	Incomplete bool
	// Anonymous: the identity of the state directory is among them.
	Anonymous bool
}

// Summary says it on one line.
func (d *Damage) Summary() string {
	s := fmt.Sprintf("%s was damaged (%s)", d.File, d.Problem)
	if d.Source != "" {
		s += ": what it had is taken from " + d.Source
	}
	switch {
	case len(d.Lost) > 0:
		s += ": lost are " + strings.Join(d.Lost, ", ")
	case d.Incomplete:
		s += ": what it had beside that is lost"
	}
	return s
}

// keyAt is the record of sums that says of which change the file is.
const keyAt = "at"

// file is what state.db says.
type file struct {
	records records
	bad     []string // records that are there with other contents, or are missing
	faults  []string // of what holds them: the file has to be made anew
	commit  uint64   // 0: unknown
	// old: a program without checksums wrote it last. Its records are as they are.
	old bool
}

func readFile(b []byte) *file {
	pages := readPages(b)
	f := &file{records: make(records), faults: pages.faults}
	for _, name := range buckets {
		bucket, ok := pages.buckets[name]
		if !ok {
			f.faults = append(f.faults, "bucket "+name+" is missing")
		}
		for k, v := range bucket {
			f.records[recordKey(name, k)] = v
		}
	}
	sums, ok := pages.buckets[inSums]
	if !ok {
		f.old = len(f.faults) == 0
		return f
	}
	at := sums[keyAt]
	if len(at) == 20 && binary.BigEndian.Uint32(at[16:]) == sum(keyAt, at[:16]) {
		f.commit = binary.BigEndian.Uint64(at)
		f.old = binary.BigEndian.Uint64(at[8:]) != pages.txid
	} else {
		f.faults = append(f.faults, "it does not say of which change it is")
	}
	if f.old {
		return f
	}
	for k, v := range f.records {
		if s := sums[k]; len(s) != 4 || binary.BigEndian.Uint32(s) != sum(k, v) {
			f.bad = append(f.bad, k)
			delete(f.records, k)
		}
	}
	for k := range sums {
		if _, ok := f.records[k]; !ok && k != keyAt && !slices.Contains(f.bad, k) {
			f.bad = append(f.bad, k)
		}
	}
	return f
}

// atValue is the value of keyAt.
func atValue(commit, txid uint64) []byte {
	v := binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, commit), txid)
	return binary.BigEndian.AppendUint32(v, sum(keyAt, v))
}

func sumValue(key string, value []byte) []byte {
	return binary.BigEndian.AppendUint32(nil, sum(key, value))
}

// loaded is what both files say together.
type loaded struct {
	records records
	commit  uint64
	damage  *Damage
	// freshFile and freshCopy: the file has to be made anew, not only to be written to.
	freshFile, freshCopy bool
	stored               records // what the file has, unless it is made anew
	// lines and size are of the copy, unless it is made anew.
	lines uint64
	size  int64
}

// load reads two files, either of which may be nil for one that is not there.
func load(fileBytes, copyBytes []byte) loaded {
	var f *file
	if fileBytes != nil {
		f = readFile(fileBytes)
	}
	var c *copied
	if copyBytes != nil {
		c = readCopy(copyBytes)
	}
	return choose(f, c)
}

// choose puts both together. One alone of them that is damaged loses nothing.
func choose(f *file, c *copied) loaded {
	hasCopy := c != nil && c.whole && c.commit > 0
	fileClean := f != nil && len(f.faults) == 0 && len(f.bad) == 0
	switch {
	case f == nil && c == nil:
		return loaded{records: make(records), freshFile: true, freshCopy: true}
	case fileClean && (f.old || !hasCopy || c.commit <= f.commit):
		l := loaded{records: f.records, commit: f.commit, stored: maps.Clone(f.records)}
		switch {
		case f.old: // its writer knew nothing of checksums and the copy
			l.freshFile, l.freshCopy = true, true
			if c != nil {
				l.commit = max(l.commit, c.commit)
			}
		case c == nil:
			l.freshCopy = true
			l.damage = &Damage{File: CopyName, Problem: "it is missing", Source: FileName}
		case !hasCopy || c.fault != "" || c.commit < f.commit:
			l.freshCopy = true
			problem := c.fault
			if problem == "" {
				problem = "its end is missing"
			}
			l.damage = &Damage{File: CopyName, Problem: problem, Source: FileName}
		default:
			l.lines, l.size = c.lines, c.size
		}
		return l
	case fileClean: // the process ended between the two
		return loaded{records: c.records, commit: c.commit, stored: f.records, freshCopy: c.fault != "", lines: c.lines, size: c.size}
	case hasCopy && (f == nil || c.commit >= f.commit) && (f == nil || !f.old) && (c.fault == "" || f != nil && f.commit > 0):
		// One that is cut off is followed only as far as the file says that there was no more.
		l := loaded{records: c.records, commit: c.commit, freshFile: true, freshCopy: c.fault != "", lines: c.lines, size: c.size}
		l.damage = &Damage{File: FileName, Problem: f.problem(), Source: CopyName}
		return l
	}
	return salvage(f, c)
}

// problem is the first thing that is wrong.
func (f *file) problem() string {
	switch {
	case f == nil:
		return "it is missing"
	case len(f.faults) > 0:
		return f.faults[0]
	}
	return "record " + f.bad[0] + " has a wrong checksum"
}

// salvage puts together what is left in two files neither of which is whole.
func salvage(f *file, c *copied) loaded {
	l := loaded{records: make(records), freshFile: true, freshCopy: true}
	l.damage = &Damage{File: FileName, Problem: f.problem(), Incomplete: true}
	if c != nil && (f == nil || !f.old) {
		l.commit = c.commit
		maps.Copy(l.records, c.records)
		if len(c.records) > 0 {
			l.damage.Source = CopyName + ", as far as that can be read"
		}
		if f == nil {
			l.damage.File, l.damage.Problem = CopyName, c.fault
			l.damage.Source = ""
		}
	}
	if f == nil {
		return l
	}
	// The file's records are the newer ones, and are checked one by one.
	maps.Copy(l.records, f.records)
	for _, k := range f.bad {
		if _, ok := l.records[k]; !ok && strings.Count(k, "/") == 1 {
			l.damage.lose(k)
		}
	}
	l.commit = max(l.commit, f.commit)
	l.damage.Incomplete = len(f.faults) > 0 || len(l.damage.Lost) > 0
	return l
}

// lose lists a record.
func (d *Damage) lose(k string) {
	d.Incomplete = true
	switch bucket, key := splitKey(k); bucket {
	case inContainers:
		d.Lost = append(d.Lost, "container "+key)
	case inNetworks:
		d.Lost = append(d.Lost, "network "+key)
	}
}
