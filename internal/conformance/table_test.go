package main

import (
	"bytes"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const root = "../.."

// readModule reads the rows with the tests there are.
func readModule(t *testing.T) rowList {
	t.Helper()
	rows, err := readRows(root)
	if err != nil {
		t.Fatal(err)
	}
	tests, err := findTests(root)
	if err != nil {
		t.Fatal(err)
	}
	if err := rows.assign(tests); err != nil {
		t.Fatal(err)
	}
	return rows
}

func TestEveryRowHasATestOrAReason(t *testing.T) {
	for _, r := range readModule(t) {
		if len(r.tests) == 0 && r.why == "" {
			t.Errorf("%s (%s) has no test Test%s... and no line in docs/conformance.d", r.id, r.text, strings.ReplaceAll(r.id, "-", ""))
		}
		if len(r.tests) > 0 && r.why == notApplicable {
			t.Errorf("%s is held by %s and yet not applicable: %s", r.id, r.tests[0].name, r.reason)
		}
		if !slices.Contains([]string{"MUST", "SHOULD", "MAY"}, r.level) {
			t.Errorf("%s has level %q", r.id, r.level)
		}
	}
}

// The table names the tests and requirements that there are. How the tests end is
// for make conformance.
func TestTableIsUpToDate(t *testing.T) {
	b, err := os.ReadFile(root + "/docs/conformance.md")
	if err != nil {
		t.Fatal(err)
	}
	var want bytes.Buffer
	write(&want, readModule(t), results{})
	if d := cmp.Diff(namesOf(want.String()), namesOf(string(b))); d != "" {
		t.Errorf("docs/conformance.md is out of date: run make conformance (-want +got):\n%s", d)
	}
}

// A table that says of itself that a row fails is not for a release.
func TestNoRowFails(t *testing.T) {
	b, err := os.ReadFile(root + "/docs/conformance.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range strings.Split(string(b), "\n") {
		if f := strings.Split(line, " | "); len(f) >= 5 && (f[3] == "fail" || f[3] == "skip") {
			t.Errorf("%s: %s", f[0], f[3])
		}
	}
}

// namesOf leaves of a table what does not depend on results: row, level,
// requirement, tests.
func namesOf(table string) (lines []string) {
	for _, line := range strings.Split(table, "\n") {
		if f := strings.Split(line, " | "); len(f) >= 5 {
			lines = append(lines, strings.Join(append(f[:3], f[4]), " | "))
		}
	}
	return lines
}
