package doctest

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParse(t *testing.T) {
	doc := "# Title\n\n```sh\na\nb\n```\ntext\n```json\n# not a command\n```\n```console\n# one \\\n  two\nout 1\n\nout 2\n# three\n```\n"
	got, err := Parse(doc)
	want := []Step{
		{Line: 4, Command: "a\nb", Script: true},
		{Line: 12, Command: "one \\\n  two", Output: "out 1\n\nout 2"},
		{Line: 17, Command: "three"},
	}
	if d := cmp.Diff(want, got); err != nil || d != "" {
		t.Errorf("%v (-want +got):\n%s", err, d)
	}
	for _, bad := range []string{"```sh\nx\n", "```console\nout\n```\n"} {
		if steps, err := Parse(bad); err == nil {
			t.Errorf("%q: %+v, want an error", bad, steps)
		}
	}
}

func TestMatches(t *testing.T) {
	for _, tc := range []struct {
		want, got string
		ok        bool
	}{
		{"", "", true},
		{"", "x", false},
		{"hello", "hello\n", true},
		{"hello", "hello world", false},
		{"NAME  AGE\nweb   1s", "NAME   AGE\nweb    1m5s\n", true},
		{"web  02:00:00:00:00:01  vethfcbb052798a", "web 0a:00:00:00:00:0f   veth0123456789a", true},
		{"web  10.1.0.2", "web  10.1.0.3", false},
		{"a\n...\nz", "a\nb\nc\nz", true},
		{"a\n...\nz", "a\nz", true},
		{"a\n...\nz", "a\nb", false},
		{"...\nz", "a\nb\nz", true},
		{"a\n...", "a", true},
		{"a\n...", "b", false},
		{"port ... is held", "port 80/tcp is held", true},
		{"port ... is held", "port 80/tcp\nis held", false},
		{"a.c", "abc", false},
		{"a\nb", "ab", false},
		{"id 0123456789abcdef0123456789abcdef", "id fedcba9876543210fedcba9876543210", true},
	} {
		if got := Matches(tc.want, tc.got); got != tc.ok {
			t.Errorf("expected %q, output %q: %v, want %v", tc.want, tc.got, got, tc.ok)
		}
	}
}
