package deptest

import (
	"go/ast"
	"strings"
	"testing"
)

// skipper is the file whose functions may end a test without a result.
const skipper = "internal/netlab/labtest/skip.go"

// A test that does not run where it could is worse than none. All of them skip by
// labtest, which fails instead where everything is there.
func TestSkipsFailUnderCI(t *testing.T) {
	used := 0
	for _, f := range sources(t) {
		if f.path == skipper || !f.test && f.pkg != "internal/netlab/labtest" && f.pkg != "internal/doctest" {
			continue
		}
		ours, others := skips(f.syntax(t))
		used += ours
		for _, call := range others {
			t.Errorf("%s calls %s: tests skip by labtest.Skip and what stands beside it in %s", f.path, call, skipper)
		}
	}
	if used < 10 {
		t.Errorf("%d skips found in all tests: this one looks at the wrong thing", used)
	}
}

// skips counts the calls of a file that skip by labtest and lists the others.
func skips(f *ast.File) (ours int, others []string) {
	ast.Inspect(f, func(n ast.Node) bool {
		s, ok := n.(*ast.SelectorExpr) // also one that is not called at once
		if !ok || !strings.HasPrefix(s.Sel.Name, "Skip") {
			return true
		}
		on := s.X
		if excuse, ok := on.(*ast.SelectorExpr); ok { // labtest.Racing.Skip
			on = excuse.X
		}
		switch id, _ := on.(*ast.Ident); {
		case id != nil && id.Name == "labtest":
			ours++
		case s.Sel.Name == "Skip", s.Sel.Name == "Skipf", s.Sel.Name == "SkipNow":
			others = append(others, s.Sel.Name)
		}
		return true
	})
	return ours, others
}

// The walk finds what it is for.
func TestSkipsAreFound(t *testing.T) {
	f := source{path: "x.go", text: []byte(`package x
func a(t *testing.T, l lab) {
	labtest.Skip(t, "a"); labtest.Racing.Skip(t, "b")
	t.Skip("c"); t.Skipf("d"); l.t.SkipNow(); defer t.SkipNow()
	f := t.Skip
	f("e")
}`)}
	ours, others := skips(f.syntax(t))
	if ours != 2 || len(others) != 5 {
		t.Errorf("found %d by labtest and %d others, %v, want 2 and 5", ours, len(others), others)
	}
}
