package web

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"regexp"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write what is generated")

var (
	reasonRow = regexp.MustCompile("(?m)^\\| `([a-z0-9-]+)` \\|(.+)\\|(.+)\\|$")
	mdLink    = regexp.MustCompile(`\[([^\]]*)\]\([^)]*\)`)
)

// The page explains drop reasons in the words of docs/frame-walk.md, which it has
// with it: no link of it leads to another host.
func TestReasonsAreThoseOfTheFrameWalk(t *testing.T) {
	md, err := os.ReadFile("../../docs/frame-walk.md")
	if err != nil {
		t.Fatal(err)
	}
	plain := func(s string) string {
		return strings.TrimSpace(strings.ReplaceAll(mdLink.ReplaceAllString(s, "$1"), "`", ""))
	}
	type words struct {
		Means string `json:"means"`
		Do    string `json:"do"`
	}
	all := make(map[string]words)
	for _, m := range reasonRow.FindAllStringSubmatch(string(md), -1) {
		all[m[1]] = words{plain(m[2]), plain(m[3])}
	}
	if len(all) < 40 {
		t.Fatalf("only %d reasons found", len(all))
	}
	var b bytes.Buffer
	b.WriteString("// Written by go test ./control/web -update from docs/frame-walk.md.\nexport const reasons = ")
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", " ")
	if err := enc.Encode(all); err != nil {
		t.Fatal(err)
	}
	const file = "assets/js/reasons.js"
	if *update {
		if err := os.WriteFile(file, b.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(file)
	if err != nil || !bytes.Equal(got, b.Bytes()) {
		t.Errorf("%s is not what docs/frame-walk.md says (%v): run go test ./control/web -update", file, err)
	}
}
