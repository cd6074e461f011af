package main

import (
	_ "embed"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

//go:embed rows.tsv
var rowsFile string

// Rows without a test are of one of these kinds.
const (
	notApplicable = "n/a"  // does not concern a switch of this kind
	open          = "open" // does, and is not there yet
)

// row is one requirement.
type row struct {
	id, level, text string
	others          [3]string // Linux, VPP, OVS
	tests           []test
	why             string // notApplicable or open, "" when a test is expected
	reason          string
}

// rowList is all rows in the order of the table.
type rowList []*row

func (l rowList) find(id string) *row {
	for _, r := range l {
		if r.id == id {
			return r
		}
	}
	return nil
}

// readRows reads the rows, and the reasons of root/docs/conformance.d/*.tsv: row,
// kind and reason.
func readRows(root string) (rowList, error) {
	var l rowList
	err := eachLine("rows.tsv", rowsFile, 6, func(f []string) error {
		if l.find(f[0]) != nil {
			return fmt.Errorf("%s stands twice", f[0])
		}
		l = append(l, &row{id: f[0], level: f[1], text: f[2], others: [3]string(f[3:6])})
		return nil
	})
	if err != nil {
		return nil, err
	}
	files, err := filepath.Glob(filepath.Join(root, "docs/conformance.d/*.tsv"))
	if err != nil {
		return nil, err
	}
	for _, name := range files {
		b, err := os.ReadFile(name)
		if err != nil {
			return nil, err
		}
		err = eachLine(filepath.Base(name), string(b), 3, func(f []string) error {
			r := l.find(f[0])
			switch {
			case r == nil:
				return fmt.Errorf("%s is no row", f[0])
			case r.why != "":
				return fmt.Errorf("%s has a reason already", f[0])
			case f[1] != notApplicable && f[1] != open || f[2] == "":
				return fmt.Errorf("%s: want %s or %s, and a reason", f[0], notApplicable, open)
			}
			r.why, r.reason = f[1], f[2]
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return l, nil
}

// eachLine splits a table at tabs; lines that begin with # are comments.
func eachLine(name, text string, fields int, fn func([]string) error) error {
	for i, line := range strings.Split(text, "\n") {
		if line == "" || line[0] == '#' {
			continue
		}
		f := strings.Split(line, "\t")
		err := error(nil)
		if len(f) != fields {
			err = fmt.Errorf("%d fields, want %d", len(f), fields)
		} else {
			err = fn(f)
		}
		if err != nil {
			return fmt.Errorf("%s:%d: %w", name, i+1, err)
		}
	}
	return nil
}

// assign gives each test to its rows.
func (l rowList) assign(tests []test) error {
	for _, t := range tests {
		for _, id := range t.rows {
			r := l.find(id)
			if r == nil {
				return fmt.Errorf("%s in %s: there is no row %s", t.name, t.dir, id)
			}
			r.tests = append(r.tests, t)
		}
	}
	return nil
}
