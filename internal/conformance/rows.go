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
	others          []string // as the peers of its part
	tests           []test
	why             string // notApplicable or open, "" when a test is expected
	reason          string
}

// part is a table of rows whose IDs begin with the same letter.
type part struct {
	letter byte
	title  string
	peers  []string // who else is looked at
}

var parts = []part{
	{'N', "NAT", []string{"Linux", "VPP", "OVS"}},
	{'L', "Layer 2 and the host", []string{"Linux", "VPP", "OVS"}},
	{'C', "Known vulnerabilities", []string{"Linux", "VPP", "OVS"}},
	{'S', "Attackers beside the packets' way", []string{"Linux", "Docker", "OVS", "Cilium"}},
	{'F', "Faults", []string{"Linux", "Docker", "OVS"}},
}

// partOf is the part of a row by its ID, nil when there is none.
func partOf(id string) *part {
	for i := range parts {
		if id != "" && parts[i].letter == id[0] {
			return &parts[i]
		}
	}
	return nil
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
	err := eachLine("rows.tsv", rowsFile, func(f []string) error {
		p := partOf(f[0])
		switch {
		case p == nil:
			return fmt.Errorf("%s is of no part", f[0])
		case len(f) != 3+len(p.peers):
			return fmt.Errorf("%d fields, want %d", len(f), 3+len(p.peers))
		case l.find(f[0]) != nil:
			return fmt.Errorf("row %s is there twice", f[0])
		}
		l = append(l, &row{id: f[0], level: f[1], text: f[2], others: f[3:]})
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
		err = eachLine(filepath.Base(name), string(b), func(f []string) error {
			if len(f) != 3 {
				return fmt.Errorf("%d fields, want 3", len(f))
			}
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
func eachLine(name, text string, fn func([]string) error) error {
	for i, line := range strings.Split(text, "\n") {
		if line == "" || line[0] == '#' {
			continue
		}
		if err := fn(strings.Split(line, "\t")); err != nil {
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
