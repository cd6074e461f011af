// Package docs tests that what the documents say of the code is still so: the
// drop reasons, the files they name and the links between them.
package docs

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/vswitch/vswitch/dataplane"
)

const root = ".."

func read(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// section is a part of a document under one heading of level two.
type section struct{ title, text string }

func sections(text string) []section {
	var list []section
	for i, part := range strings.Split("\n"+text, "\n## ") {
		title, body, _ := strings.Cut(part, "\n")
		if i > 0 {
			list = append(list, section{strings.TrimSpace(title), body})
		}
	}
	return list
}

var reasonRow = regexp.MustCompile("(?m)^\\| `([a-z0-9-]+)` \\|(.+)\\|(.+)\\|$")

func TestFrameWalkNamesEveryDropReason(t *testing.T) {
	where := make(map[string]string) // reason -> section
	for _, s := range sections(read(t, "frame-walk.md")) {
		for _, m := range reasonRow.FindAllStringSubmatch(s.text, -1) {
			if where[m[1]] != "" {
				t.Errorf("frame-walk.md explains %s twice, in %s and %s", m[1], where[m[1]], s.title)
			}
			where[m[1]] = s.title
		}
	}
	for r := dataplane.NotDropped + 1; r < dataplane.NumDropReasons; r++ {
		name := r.String()
		stage, _, _ := strings.Cut(name, "-")
		if where[name] != stage {
			t.Errorf("frame-walk.md explains %s in section %q, want it in %q: add a row with what to do about it", name, where[name], stage)
		}
		delete(where, name)
	}
	for name, title := range where {
		t.Errorf("frame-walk.md, section %s, explains %s, which is no drop reason", title, name)
	}
}

// The order of the sections is that of the calls in turn.
func TestFrameWalkFollowsTheTurn(t *testing.T) {
	turn := read(t, filepath.Join(root, "dataplane", "turn.go"))
	_, turn, ok := strings.Cut(turn, "func (w *worker) turn() {")
	if !ok {
		t.Fatal("dataplane/turn.go has no func turn")
	}
	turn, _, _ = strings.Cut(turn, "\n}")
	var titles []string
	for _, s := range sections(read(t, "frame-walk.md")) {
		titles = append(titles, s.title)
	}
	last := -1
	for _, m := range regexp.MustCompile(`w\.([a-z]+)\(s\)`).FindAllStringSubmatch(turn, -1) {
		i := slices.Index(titles, m[1])
		if i <= last {
			t.Errorf("stage %s: at place %d of the sections %v, want it behind the stage before it", m[1], i, titles)
		}
		last = i
	}
	if last < 0 {
		t.Error("no stage found in func turn")
	}
}

// sourceFile is a file in code; an asterisk after it marks one that is to come.
var sourceFile = regexp.MustCompile("`((?:[a-z_]+/)*[a-z0-9_]+\\.go)`(\\*?)")

func TestNamedFilesExist(t *testing.T) {
	for _, doc := range documents(t) {
		for _, m := range sourceFile.FindAllStringSubmatch(read(t, doc), -1) {
			if _, err := os.Stat(filepath.Join(root, m[1])); err != nil && m[2] == "" {
				t.Errorf("%s names %s, which does not exist", doc, m[1])
			}
		}
	}
}

// documents are all Markdown files of the repository.
func documents(t *testing.T) []string {
	t.Helper()
	var list []string
	err := filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() && name != root && strings.HasPrefix(d.Name(), ".") {
			return fs.SkipDir
		}
		if err == nil && strings.HasSuffix(name, ".md") {
			list = append(list, name)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

var (
	codeBlock = regexp.MustCompile("(?ms)^```.*?^```")
	codeSpan  = regexp.MustCompile("`[^`\n]*`")
	link      = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	heading   = regexp.MustCompile(`(?m)^#+ +(.+)$`)
)

func TestLinksResolve(t *testing.T) {
	for _, doc := range documents(t) {
		text := codeSpan.ReplaceAllString(codeBlock.ReplaceAllString(read(t, doc), ""), "")
		for _, m := range link.FindAllStringSubmatch(text, -1) {
			target, anchor, _ := strings.Cut(m[1], "#")
			if strings.Contains(target, "://") || strings.HasPrefix(target, "mailto:") {
				continue
			}
			file := doc
			if target != "" {
				file = filepath.Join(filepath.Dir(doc), target)
			}
			if _, err := os.Stat(file); err != nil {
				t.Errorf("%s links to %s, which does not exist", doc, m[1])
				continue
			}
			if anchor != "" && strings.HasSuffix(file, ".md") && !slices.Contains(anchors(read(t, file)), anchor) {
				t.Errorf("%s links to %s: there is no such heading", doc, m[1])
			}
		}
	}
}

// anchors are the names that the headings of a document can be linked by, as
// GitHub makes them.
func anchors(text string) []string {
	var list []string
	for _, m := range heading.FindAllStringSubmatch(codeBlock.ReplaceAllString(text, ""), -1) {
		a := strings.Map(func(r rune) rune {
			switch {
			case r == ' ':
				return '-'
			case r == '-', r == '_', r >= '0' && r <= '9', r >= 'a' && r <= 'z':
				return r
			}
			return -1
		}, strings.ToLower(m[1]))
		list = append(list, a)
	}
	return list
}

var adrName = regexp.MustCompile(`^\d{4}-[a-z0-9-]+\.md$`)

func TestDecisionsHaveTheirParts(t *testing.T) {
	files, err := os.ReadDir("adr")
	if err != nil {
		t.Fatal(err)
	}
	numbers := make(map[string]string)
	for _, f := range files {
		name := f.Name()
		if !adrName.MatchString(name) {
			t.Errorf("adr/%s: want NNNN-some-words.md", name)
			continue
		}
		if other := numbers[name[:4]]; other != "" {
			t.Errorf("adr/%s has the number of %s", name, other)
		}
		numbers[name[:4]] = name
		var have []string
		for _, s := range sections(read(t, filepath.Join("adr", name))) {
			have = append(have, s.title)
		}
		if want := []string{"Context", "Decision", "Numbers", "Consequence"}; !slices.Equal(have, want) {
			t.Errorf("adr/%s: sections %v, want %v", name, have, want)
		}
	}
}

// The README says which Go a fresh machine needs; go.mod decides.
func TestReadmeNamesTheGoVersion(t *testing.T) {
	m := regexp.MustCompile(`(?m)^go (\d+\.\d+)`).FindStringSubmatch(read(t, filepath.Join(root, "go.mod")))
	if m == nil {
		t.Fatal("go.mod names no Go version")
	}
	if want := "Go " + m[1]; !strings.Contains(read(t, filepath.Join(root, "README.md")), want) {
		t.Errorf("README.md does not ask for %q, as go.mod does", want)
	}
}

var (
	stageRow   = regexp.MustCompile("(?m)^\\| `(dataplane/[a-z]+\\.go)` \\|.*\\|.*\\|((?: `[a-z]+`,?)*) \\|.*\\|$")
	stageWord  = regexp.MustCompile("`([a-z]+)`")
	reasonText = regexp.MustCompile(`(?m)^\t(Drop\w+): +"([a-z]+)-`)
	dropsFor   = regexp.MustCompile(`(?:return|drop\(\w+(?:\.\w+)*,) .*?(Drop[A-Z]\w+)`)
)

// The table of stages follows the turn, its files exist, and each drop reason is of one. A
// stage that names a reason of another's says so.
func TestArchitectureListsTheStages(t *testing.T) {
	prefixes := make(map[string]bool)
	for r := dataplane.NotDropped + 1; r < dataplane.NumDropReasons; r++ {
		stage, _, _ := strings.Cut(r.String(), "-")
		prefixes[stage] = true
	}
	turn := read(t, filepath.Join(root, "dataplane", "turn.go"))
	_, turn, _ = strings.Cut(turn, "func (w *worker) turn() {")
	rows := stageRow.FindAllStringSubmatch(read(t, "ARCHITECTURE.md"), -1)
	word := make(map[string]string) // of a reason
	for _, m := range reasonText.FindAllStringSubmatch(read(t, filepath.Join(root, "dataplane", "drop.go")), -1) {
		word[m[1]] = m[2]
	}
	if len(word) < 20 {
		t.Fatalf("drop.go has %d reasons", len(word))
	}
	last, listed, dropped := -1, make(map[string]bool), make(map[string]bool)
	for _, m := range rows {
		listed[m[1]] = true
		if _, err := os.Stat(filepath.Join(root, m[1])); err != nil {
			t.Errorf("ARCHITECTURE.md lists a stage without a file: %v", err)
		}
		stage := strings.TrimSuffix(filepath.Base(m[1]), ".go")
		if at := strings.Index(turn, "w."+stage+"(s)"); at >= 0 {
			if at < last {
				t.Errorf("ARCHITECTURE.md lists %s after what runs later", m[1])
			}
			last = at
		}
		says := make(map[string]bool)
		for _, w := range stageWord.FindAllStringSubmatch(m[2], -1) {
			if says[w[1]], dropped[w[1]] = true, true; !prefixes[w[1]] {
				t.Errorf("ARCHITECTURE.md: %s drops for %s, which no reason begins with", m[1], w[1])
			}
		}
		for _, d := range dropsFor.FindAllStringSubmatch(read(t, filepath.Join(root, m[1])), -1) {
			if w := word[d[1]]; w != "" && !says[w] {
				t.Errorf("ARCHITECTURE.md does not say that %s drops for %s, as it does by %s", m[1], w, d[1])
			}
		}
	}
	for prefix := range prefixes {
		if !dropped[prefix] {
			t.Errorf("ARCHITECTURE.md: no stage drops for %s", prefix)
		}
	}
	for _, m := range regexp.MustCompile(`w\.([a-z]+)\(s\)`).FindAllStringSubmatch(turn, -1) {
		if !listed["dataplane/"+m[1]+".go"] {
			t.Errorf("ARCHITECTURE.md lists no stage %s, which turn runs", m[1])
		}
	}
}

var featureFile = regexp.MustCompile("`([a-z0-9_/]+\\.(?:go|h))`(\\*?)")

// A feature has one room. Files marked new are not there yet, or the row is old.
func TestFeaturesTouchFewFiles(t *testing.T) {
	rows := 0
	for _, s := range sections(read(t, "ARCHITECTURE.md")) {
		if s.title != "What a feature touches" {
			continue
		}
		for line := range strings.Lines(s.text) {
			files := featureFile.FindAllStringSubmatch(line, -1)
			if !strings.HasPrefix(line, "| ") || len(files) == 0 {
				continue
			}
			rows++
			name := strings.TrimSpace(strings.Split(line, "|")[1])
			if len(files) > 6 {
				t.Errorf("%s touches %d files: give it a room of its own", name, len(files))
			}
			for _, f := range files {
				_, err := os.Stat(filepath.Join(root, f[1]))
				if exists := err == nil; exists == (f[2] == "*") {
					t.Errorf("%s: %s: exists is %v", name, f[1], exists)
				}
			}
		}
	}
	if rows < 7 {
		t.Errorf("%d features in ARCHITECTURE.md, want at least 7", rows)
	}
}
