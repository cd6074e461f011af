package deptest

import (
	"bytes"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const (
	maxLines      = 400 // a file is read in one sitting
	maxStageLines = 250 // a stage in one glance
)

// stages are the files of the stages and of what leaves their line, in the order
// in which a frame meets them.
var stages = []string{
	"mirror", "parse", "vlan", "guard", "guard_arp", "guard_nd", "guard_dhcp", "learn", "answer", "classify", "snoop", "storm", "prerouting", "fragment", "route", "waiting", "reply", "postrouting", "account", "egress", "turn",
}

// overdue files are longer than they may be. The list only gets shorter: a file
// may not grow beyond what stands here, and leaves the list when it was split.
var overdue = map[string]int{}

func TestFileLengths(t *testing.T) {
	limit := make(map[string]int)
	for _, s := range stages {
		limit["dataplane/"+s+".go"] = maxStageLines
	}
	seen := make(map[string]bool)
	for _, f := range sources(t) {
		seen[f.path] = true
		most := maxLines
		if l := limit[f.path]; l != 0 {
			most = l
		}
		was, late := overdue[f.path]
		switch {
		case bytes.HasPrefix(f.text, []byte("// Code generated ")): // nobody reads it, nor can split it
		case late && f.lines <= most:
			t.Errorf("%s has %d lines by now: take it off the list of overdue files", f.path, f.lines)
		case late && f.lines > was:
			t.Errorf("%s has grown from %d to %d lines: split it", f.path, was, f.lines)
		case !late && f.lines > most:
			t.Errorf("%s has %d lines: split it at a seam, at most %d are allowed", f.path, f.lines, most)
		}
	}
	for path := range limit {
		if !seen[path] {
			t.Errorf("%s does not exist: a stage's word is also its file's name", path)
		}
	}
	for path := range overdue {
		if !seen[path] {
			t.Errorf("%s does not exist any more: take it off the list of overdue files", path)
		}
	}
}

// The BPF programs have rules as Go has: a file is read in one sitting, and says under
// which licenses it is, which are not those of the rest.
func TestPrograms(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(root, "control/kernel/bpf/*.[ch]"))
	if err != nil || len(files) == 0 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(string(text), "/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */\n") {
			t.Errorf("%s does not begin with its licenses", f)
		}
		if n := strings.Count(string(text), "\n"); n > maxLines {
			t.Errorf("%s has %d lines: split it at a seam, at most %d are allowed", f, n, maxLines)
		}
	}
}

// Each package is explained in one place, where a reader looks first.
func TestPackageComments(t *testing.T) {
	comments, packages := make(map[string][]string), make(map[string]bool)
	for _, f := range sources(t) {
		if f.test {
			continue
		}
		packages[f.pkg] = true
		syntax, err := parser.ParseFile(token.NewFileSet(), f.path, f.text, parser.PackageClauseOnly|parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		if syntax.Doc != nil {
			comments[f.pkg] = append(comments[f.pkg], f.path)
		}
	}
	for pkg := range packages {
		if n := len(comments[pkg]); n != 1 {
			t.Errorf("package %s has %d package comments, want one: %s", pkg, n, strings.Join(comments[pkg], ", "))
		}
	}
}
