package web

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestReadToken(t *testing.T) {
	file := filepath.Join(t.TempDir(), "token")
	if _, err := ReadToken(file); err == nil || !strings.Contains(err.Error(), "make one") {
		t.Errorf("no file: %v", err)
	}
	for _, tc := range []struct {
		text string
		mode fs.FileMode
		want string // of the token, or of the error
	}{
		{token + "\nnot this\n", 0o600, token},
		{"  " + token + " \r\n", 0o640, token},
		{"short\n", 0o600, "at least 16"},
		{"", 0o600, "at least 16"},
		{"\n" + token, 0o600, "at least 16"},
		{token, 0o644, "chmod 0640"},
		{"0123456789abcdef\x1b]0;x", 0o600, "letters and digits"},
	} {
		if err := errors.Join(os.WriteFile(file, []byte(tc.text), tc.mode), os.Chmod(file, tc.mode)); err != nil {
			t.Fatal(err)
		}
		got, err := ReadToken(file)
		if got != tc.want && (err == nil || !strings.Contains(err.Error(), tc.want)) {
			t.Errorf("%q: got %q, %v; want %q", tc.text, got, err, tc.want)
		}
		if err != nil && strings.Contains(err.Error(), token) {
			t.Error("the message gives the token away")
		}
	}
}

// The token of a state directory is made once, is its owner's alone, and stays.
func TestOwnToken(t *testing.T) {
	dir := t.TempDir()
	first, made, err := OwnToken(dir)
	if err != nil || len(first) != 64 || !made {
		t.Fatalf("got %q, made %v, %v", first, made, err)
	}
	fi, err := os.Stat(filepath.Join(dir, TokenFile))
	if err != nil || fi.Mode() != 0o600 {
		t.Errorf("the file has mode %v, %v; want 0600", fi.Mode(), err)
	}
	if again, made, err := OwnToken(dir); again != first || made || err != nil {
		t.Errorf("then %q, made %v, %v; want the same", again, made, err)
	}
	if list, err := os.ReadDir(dir); len(list) != 1 || err != nil {
		t.Errorf("the directory holds %v, %v", list, err)
	}
	if other, _, err := OwnToken(t.TempDir()); other == first || err != nil {
		t.Errorf("another directory has %q, %v", other, err)
	}
	if kept, made, err := OwnToken(filepath.Join(dir, "nosuch")); len(kept) != 64 || made || err == nil || strings.Contains(err.Error(), "\n") {
		t.Errorf("no directory: %q, made %v, %v; want one for now", kept, made, err)
	}
}

// A file of the daemon's own that is damaged keeps nobody from starting.
func TestOwnTokenIsDamaged(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, TokenFile)
	for _, text := range []string{"", "0123", "\x00\x00\x00", "\n" + token} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		fresh, made, err := OwnToken(dir)
		if len(fresh) != 64 || !made || err == nil || strings.Contains(err.Error(), "\n") {
			t.Errorf("%q: got %q, made %v, %v", text, fresh, made, err)
		}
		if again, made, err := OwnToken(dir); again != fresh || made || err != nil {
			t.Errorf("%q: then %q, made %v, %v", text, again, made, err)
		}
	}
}
