package main

import (
	"regexp"
	"strings"
	"testing"

	"github.com/vswitch/vswitch/control/reasons"
)

var commandInText = regexp.MustCompile(`vswitch ([a-z]+(?: [a-z]+)?)[^;,]*`)

// Every command that a drop's way out names exists, with its flags.
func TestRemediesNameCommands(t *testing.T) {
	root := newRoot(&cli{})
	named := 0
	for reason, fix := range reasons.Remedies() {
		for _, m := range commandInText.FindAllString(fix, -1) {
			words := strings.Fields(m)[1:]
			cmd, rest, err := root.Find(words)
			if err != nil || cmd == root {
				t.Errorf("%s: %q: no such command", reason, m)
				continue
			}
			named++
			for _, w := range rest {
				if name, ok := strings.CutPrefix(w, "--"); ok && cmd.Flags().Lookup(name) == nil {
					t.Errorf("%s: %q: %s has no flag --%s", reason, m, cmd.CommandPath(), name)
				}
			}
		}
	}
	if named < 20 {
		t.Errorf("%d commands found", named)
	}
}
