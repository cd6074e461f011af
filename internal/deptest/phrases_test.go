package deptest

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// phrases are turns that a reader stumbles over. They are counted in comments, messages
// and documents, tests left out. Each count may only fall, and the number here falls with it.
var phrases = []struct {
	instead string
	found   *regexp.Regexp
	count   int
}{
	{`"must" or "may" instead of "shall"`, regexp.MustCompile(`(?i)\bshall\b`), 0},
	{`"except" or "except for" instead of "but for"`, regexp.MustCompile(`(?i)\bbut for\b`), 0},
	{`the noun again instead of "those of"`, regexp.MustCompile(`(?i)\bthose of\b`), 43},
	{`"is", "lies" or "exists" instead of "stands"`, regexp.MustCompile(`(?i)\bstands?\b`), 67},
	{`"after" instead of "behind", of what comes later`, regexp.MustCompile(`(?i)\b(?:comes?|came|goes|went|follows?|queues?|position|place|frames?|records?|fragments?|stage) behind\b|\bbehind (?:it|them|each other|one another|the (?:batch|first|last|other|others|stage|next))\b`), 31},
	{`a subject with a name instead of "what ... is"`, regexp.MustCompile(`(?:^|[.;:(] )What [^.;:?]*\b(?:is|are|was|were|has|have|had|goes|comes|may|must|does|do)\b[^.?]*\.`), 106},
}

func TestPhrases(t *testing.T) {
	counts := make([]int, len(phrases))
	where := make([]map[string]int, len(phrases))
	for i := range where {
		where[i] = make(map[string]int)
	}
	for path, texts := range prose(t) {
		for _, text := range texts {
			for i, p := range phrases {
				if n := len(p.found.FindAllString(text, -1)); n > 0 {
					counts[i] += n
					where[i][path] += n
				}
			}
		}
	}
	for i, p := range phrases {
		switch n := counts[i]; {
		case n > p.count:
			t.Errorf("%s: %d places, at most %d are allowed: write the new ones otherwise (they are in %v)", p.instead, n, p.count, where[i])
		case n < p.count:
			t.Errorf("%s: %d places are left: write this number in the place of %d", p.instead, n, p.count)
		}
	}
}

// prose is the text of the module that people read, by file, one paragraph each.
func prose(t *testing.T) map[string][]string {
	t.Helper()
	all := make(map[string][]string)
	for _, f := range sources(t) {
		if !f.test {
			all[f.path] = goProse(t, &f)
		}
	}
	for _, pattern := range []string{"control/kernel/bpf/*.[ch]", "*.md", "docs/*.md", "docs/*/*.md", "docs/openapi.yaml"} {
		files, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil || len(files) == 0 {
			t.Fatalf("%s: %d files, %v", pattern, len(files), err)
		}
		for _, name := range files {
			text, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			switch filepath.Ext(name) {
			case ".md":
				all[name] = paragraphs(string(text))
				continue
			case ".yaml":
				all[name] = yamlProse(t, text)
				continue
			}
			for _, c := range cComment.FindAllString(string(text), -1) {
				all[name] = append(all[name], paragraphs(cMargin.ReplaceAllString(c, "\n"))...)
			}
		}
	}
	return all
}

var (
	cComment = regexp.MustCompile(`(?s)/\*.*?\*/`)
	cMargin  = regexp.MustCompile(`\n[ \t]*\*?[ \t]?`)
)

// goProse is the comments of a file and its strings that have a space.
func goProse(t *testing.T, s *source) (list []string) {
	t.Helper()
	f, err := parser.ParseFile(token.NewFileSet(), s.path, s.text, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range f.Comments {
		list = append(list, paragraphs(c.Text())...)
	}
	ast.Inspect(f, func(n ast.Node) bool {
		if lit, ok := n.(*ast.BasicLit); ok && lit.Kind == token.STRING && strings.Contains(lit.Value, " ") {
			list = append(list, paragraphs(strings.Trim(lit.Value, "\"`"))...)
		}
		return true
	})
	return list
}

// yamlProse is the texts of a document that have a space.
func yamlProse(t *testing.T, text []byte) (list []string) {
	t.Helper()
	var doc yaml.Node
	if err := yaml.Unmarshal(text, &doc); err != nil {
		t.Fatal(err)
	}
	var walk func(n *yaml.Node)
	walk = func(n *yaml.Node) {
		if n.Kind == yaml.ScalarNode && strings.Contains(n.Value, " ") {
			list = append(list, paragraphs(n.Value)...)
		}
		for _, child := range n.Content {
			walk(child)
		}
	}
	walk(&doc)
	if len(list) == 0 {
		t.Fatal("no text found")
	}
	return list
}

// paragraphs joins the lines that belong together.
func paragraphs(text string) (list []string) {
	for p := range strings.SplitSeq(text, "\n\n") {
		if p = strings.Join(strings.Fields(p), " "); p != "" {
			list = append(list, p)
		}
	}
	return list
}

// Each phrase is found where it is meant, and only there.
func TestPhrasesAreFound(t *testing.T) {
	for i, c := range []struct{ yes, no string }{
		{"It shall go.", "A marshalled frame."},
		{"All but for one.", "But forward it."},
		{"Counters, and those of drops.", "Those often seen."},
		{"The file stands here.", "A standard."},
		{"The frame behind it goes on; it goes behind the first.", "A container behind a port, behind NAT."},
		{"What comes late is dropped.", "What is it? It is dropped. It says what is wrong."},
	} {
		if !phrases[i].found.MatchString(c.yes) || phrases[i].found.MatchString(c.no) {
			t.Errorf("%s: %v is wrong about one of %q and %q", phrases[i].instead, phrases[i].found, c.yes, c.no)
		}
	}
}
