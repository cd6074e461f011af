package visible

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

func TestText(t *testing.T) {
	for in, want := range map[string]string{
		"":                            "",
		"nginx: worker (1)":           "nginx: worker (1)",
		"größe 網路 🚀 e\u0301":          "größe 網路 🚀 e\u0301",
		`C:\n is no line break`:       `C:\n is no line break`,
		"\x1b]0;pwn\a\n\u009b3":       `\x1b]0;pwn\x07\n\u009b3`,
		"a\tb\rc\x00d\x7f":            `a\tb\rc\x00d\x7f`,
		"\xc2\x9b31m":                 `\u009b31m`,
		"\x9b31m \xff\xc3":            `\x9b31m \xff\xc3`,
		"abc\u202egnp.exe":            `abc\u202egnp.exe`,
		"\u2066x\u2069\u200f":         `\u2066x\u2069\u200f`,
		"zero\u200bwidth\u200d":       `zero\u200bwidth\u200d`,
		"line\u2028par\u2029nb\u00a0": `line\u2028par\u2029nb\u00a0`,
		"\ufeffmark \ufffd":           `\ufeffmark ` + "\ufffd",
		"tag\U000e0041 \U0010ffff":    `tag\U000e0041 \U0010ffff`,
	} {
		if got := Text(in); got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
	if n := testing.AllocsPerRun(100, func() { Text("printable text, größe") }); n != 0 {
		t.Errorf("printable text costs %v allocations", n)
	}
}

func TestLine(t *testing.T) {
	err := errors.Join(errors.New("first"), errors.New("second \x1b[2J"))
	if got, want := Line(err.Error()), `first; second \x1b[2J`; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func FuzzText(f *testing.F) {
	f.Add("\x1b[31m\u202e\xff\n")
	f.Fuzz(func(t *testing.T, s string) {
		got := Text(s)
		if !utf8.ValidString(got) || strings.ContainsFunc(got, func(r rune) bool { return !unicode.IsPrint(r) }) {
			t.Errorf("%q became %q", s, got)
		}
		if Text(got) != got {
			t.Errorf("%q is not stable: %q", got, Text(got))
		}
	})
}

func FuzzJSON(f *testing.F) {
	f.Add("\x1b[31m\u202e\u009b\x7f\U000e0041\xff\n")
	f.Fuzz(func(t *testing.T, s string) {
		text, err := json.MarshalIndent(map[string]string{s: s}, "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		got := JSON(text)
		if strings.ContainsFunc(string(got), func(r rune) bool { return r != '\n' && !unicode.IsPrint(r) }) {
			t.Errorf("%q became %q", text, got)
		}
		var was, is map[string]string
		if json.Unmarshal(text, &was) != nil || json.Unmarshal(got, &is) != nil {
			t.Fatalf("%q became %q, which is no JSON", text, got)
		}
		for k, v := range was {
			if is[k] != v {
				t.Errorf("%q is another value than %q", got, text)
			}
		}
	})
}
