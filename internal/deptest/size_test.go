package deptest

import (
	"go/ast"
	"strings"
	"testing"
)

// Bounds of what one has to know at once.
const (
	maxMethods      = 60   // of the Controller, none by embedding
	maxPackageLines = 4000 // of a package under control, tests left out
)

// Whatever happens ends at the Controller, and so everything tends to become a method of
// it. What needs only a part of it belongs to a type that has that part.
func TestControllerIsSmall(t *testing.T) {
	lines := make(map[string]int)
	methods := 0
	for _, f := range sources(t) {
		if f.test || !matches("control/...", f.pkg) {
			continue
		}
		lines[f.pkg] += f.lines
		if f.pkg != "control" {
			continue
		}
		ast.Inspect(f.syntax(t), func(n ast.Node) bool {
			switch d := n.(type) {
			case *ast.FuncDecl:
				if d.Recv != nil && strings.TrimPrefix(exprText(d.Recv.List[0].Type), "*") == "Controller" {
					methods++
				}
			case *ast.TypeSpec:
				if s, ok := d.Type.(*ast.StructType); ok && d.Name.Name == "Controller" {
					for _, field := range s.Fields.List {
						if len(field.Names) == 0 {
							t.Errorf("Controller embeds %s: give the field a name", exprText(field.Type))
						}
					}
				}
			}
			return true
		})
	}
	if methods == 0 || methods > maxMethods {
		t.Errorf("the Controller has %d methods, at most %d are allowed: give the new one to a type that has what it needs", methods, maxMethods)
	}
	for pkg, n := range lines {
		if n > maxPackageLines {
			t.Errorf("package %s has %d lines, at most %d are allowed: split it where one half needs little of the other", pkg, n, maxPackageLines)
		}
	}
}

// exprText is a type's name as it is written, with its stars.
func exprText(e ast.Expr) string {
	switch x := e.(type) {
	case *ast.StarExpr:
		return "*" + exprText(x.X)
	case *ast.SelectorExpr:
		return exprText(x.X) + "." + x.Sel.Name
	case *ast.Ident:
		return x.Name
	}
	return "?"
}
