package main

import (
	"bufio"
	"cmp"
	"encoding/json"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// test is a test function that carries rows.
type test struct {
	name string
	dir  string // of its package, relative to the module
	file string // likewise
	line int
	rows []string
}

var (
	testName = regexp.MustCompile(`^Test((?:[NLCSF][0-9]{2,3})+)[A-Z]`)
	rowName  = regexp.MustCompile(`[NLCSF][0-9]{2,3}`)
)

// rowsOf returns the rows that a test's name carries.
func rowsOf(name string) []string {
	m := testName.FindStringSubmatch(name)
	if m == nil {
		return nil
	}
	var ids []string
	for _, id := range rowName.FindAllString(m[1], -1) {
		ids = append(ids, id[:1]+"-"+id[1:])
	}
	return ids
}

// findTests reads the test files of the module.
func findTests(root string) ([]test, error) {
	var all []test
	err := filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if base := d.Name(); name != root && (strings.HasPrefix(base, ".") || base == "testdata" || base == "bin") {
				return fs.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(name, "_test.go") {
			return nil
		}
		fset := token.NewFileSet()
		f, err := parser.ParseFile(fset, name, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, name)
		if err != nil {
			return err
		}
		rel = filepath.ToSlash(rel)
		for _, d := range f.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if !ok || fn.Recv != nil {
				continue
			}
			if rows := rowsOf(fn.Name.Name); rows != nil {
				all = append(all, test{fn.Name.Name, path.Dir(rel), rel, fset.Position(fn.Pos()).Line, rows})
			}
		}
		return nil
	})
	slices.SortFunc(all, func(a, b test) int {
		return cmp.Or(cmp.Compare(a.name, b.name), cmp.Compare(a.dir, b.dir))
	})
	return all, err
}

// results are the ends of tests, "pass", "fail" or "skip", by package directory
// and name. Of several runs the worst counts.
type results map[[2]string]string

const module = "github.com/vswitch/vswitch/"

// readResults reads the output of go test -json (go doc test2json).
func readResults(r io.Reader) (results, error) {
	res := make(results)
	d := json.NewDecoder(bufio.NewReader(r))
	for {
		var e struct{ Action, Package, Test string }
		if err := d.Decode(&e); errors.Is(err, io.EOF) {
			return res, nil
		} else if err != nil {
			return nil, err
		}
		if e.Test == "" || strings.Contains(e.Test, "/") {
			continue
		}
		k := [2]string{strings.TrimPrefix(e.Package, module), e.Test}
		switch e.Action {
		case "pass", "skip", "fail":
			if rank(e.Action) > rank(res[k]) {
				res[k] = e.Action
			}
		}
	}
}

func rank(result string) int { return slices.Index([]string{"", "pass", "skip", "fail"}, result) }
