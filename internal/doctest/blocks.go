package doctest

import (
	"fmt"
	"regexp"
	"strings"
)

// Step is one thing to type.
type Step struct {
	Line    int // of the document
	Command string
	Script  bool   // has to succeed; Output means nothing
	Output  string // expected, without a final newline
}

// Parse finds the steps of a Markdown document.
func Parse(text string) (steps []Step, err error) {
	var (
		lang  string // of the block we are in
		open  int    // its line, 0: in none
		lines []string
	)
	for i, line := range strings.Split(text, "\n") {
		rest, fence := strings.CutPrefix(line, "```")
		switch {
		case !fence:
			if open > 0 {
				lines = append(lines, line)
			}
		case open == 0:
			lang, open, lines = strings.TrimSpace(rest), i+1, nil
		default:
			switch lang {
			case "sh":
				steps = append(steps, Step{Line: open + 1, Command: strings.Join(lines, "\n"), Script: true})
			case "console":
				more, err := console(lines, open+1)
				if err != nil {
					return nil, err
				}
				steps = append(steps, more...)
			}
			open = 0
		}
	}
	if open > 0 {
		return nil, fmt.Errorf("line %d: the block has no end", open)
	}
	return steps, nil
}

// console reads commands and their output. A command goes on behind a backslash.
func console(lines []string, at int) (steps []Step, err error) {
	for i := 0; i < len(lines); i++ {
		command, is := strings.CutPrefix(lines[i], "# ")
		if !is {
			if len(steps) == 0 {
				return nil, fmt.Errorf("line %d: output without a command: begin a command with %q", at+i, "# ")
			}
			s := &steps[len(steps)-1]
			s.Output = strings.TrimPrefix(s.Output+"\n"+lines[i], "\n")
			continue
		}
		step := Step{Line: at + i, Command: command}
		for strings.HasSuffix(step.Command, "\\") && i+1 < len(lines) {
			i++
			step.Command += "\n" + lines[i]
		}
		steps = append(steps, step)
	}
	return steps, nil
}

// changing is what differs from run to run, and what stands for it.
var changing = []struct {
	re *regexp.Regexp
	by string
}{
	{regexp.MustCompile(`\b\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:?\d\d)`), "TIME"},
	{regexp.MustCompile(`\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b`), "UUID"},
	{regexp.MustCompile(`\b([0-9a-f]{2}:){5}[0-9a-f]{2}\b`), "MAC"},
	{regexp.MustCompile(`\bveth[0-9a-f]{11}\b`), "veth"},
	{regexp.MustCompile(`\bvs-[0-9a-f]{10}\b`), "vs"},
	{regexp.MustCompile(`\b([0-9a-f]{64}|[0-9a-f]{32}|[0-9a-f]{12})\b`), "ID"},
	{regexp.MustCompile(`\b\d+(\.\d+)?(ns|us|µs|ms|s|m\d+s|h\d+m\d+s|d)\b`), "AGE"},
	{regexp.MustCompile(`\bpid (\d+)\b`), "pid N"},
	{regexp.MustCompile(`[ \t]+`), " "},
	{regexp.MustCompile(`(?m) $`), ""},
}

// Plain takes out of a text what differs from run to run.
func Plain(text string) string {
	for _, c := range changing {
		text = c.re.ReplaceAllString(text, c.by)
	}
	return strings.Trim(text, "\n")
}

// Matches reports whether output is what a document expects.
func Matches(expected, output string) bool {
	return matchLines(strings.Split(Plain(expected), "\n"), strings.Split(Plain(output), "\n"))
}

func matchLines(want, got []string) bool {
	if len(want) == 0 {
		return len(got) == 0
	}
	if want[0] == "..." {
		return matchLines(want[1:], got) || len(got) > 0 && matchLines(want, got[1:])
	}
	return len(got) > 0 && matchLine(want[0], got[0]) && matchLines(want[1:], got[1:])
}

func matchLine(want, got string) bool {
	parts := strings.Split(want, "...")
	for i := range parts {
		parts[i] = regexp.QuoteMeta(parts[i])
	}
	return regexp.MustCompile(`\A` + strings.Join(parts, ".*") + `\z`).MatchString(got)
}
