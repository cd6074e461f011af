package main

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// TestCommandsAreDocumented: docs/cli.md has every command and every flag, by its
// letter at least. What extcap takes is Wireshark's to say.
func TestCommandsAreDocumented(t *testing.T) {
	text, err := os.ReadFile("../../docs/cli.md")
	if err != nil {
		t.Fatal(err)
	}
	doc := string(text)
	has := func(word string) bool {
		return regexp.MustCompile(`(^|[^\w-])` + regexp.QuoteMeta(word) + `([^\w-]|$)`).MatchString(doc)
	}
	var walk func(c *cobra.Command, path string)
	walk = func(c *cobra.Command, path string) {
		if c.Hidden {
			return
		}
		if path != "vswitch" && !strings.Contains(doc, strings.TrimPrefix(path, "vswitch ")) {
			t.Errorf("docs/cli.md does not speak of %s", path)
		}
		c.LocalFlags().VisitAll(func(f *pflag.Flag) {
			known := has("--"+f.Name) || f.Shorthand != "" && has("-"+f.Shorthand)
			if !f.Hidden && f.Name != "help" && c.Name() != "extcap" && !known {
				t.Errorf("docs/cli.md does not speak of %s --%s", path, f.Name)
			}
		})
		for _, sub := range c.Commands() {
			walk(sub, path+" "+sub.Name())
		}
	}
	walk(newRoot(&cli{}), "vswitch")
}
