package web

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

const (
	// TokenFile is the file in the state directory that holds the token which the
	// daemon has made for its page.
	TokenFile = "http-token"
	// minToken is the shortest secret in bytes: 16 random ones as hex are twice that.
	minToken = 16
)

// OwnToken returns the token that is kept in a state directory, so that bookmarks
// and browsers which know it outlive the daemon. The first call makes it, 256
// random bits as hex in a file that only its owner reads, and says so. The directory must be
// this process's alone. A file that is damaged is made anew, and a token that cannot be
// kept is the daemon's until its end: lost says so.
func OwnToken(dir string) (token string, made bool, lost error) {
	path := filepath.Join(dir, TokenFile)
	token, err := ReadToken(path)
	if err == nil {
		return token, false, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		lost = fmt.Errorf("token of the page: another is made: %w", err)
	}
	var b [32]byte
	rand.Read(b[:])
	token = hex.EncodeToString(b[:])
	if err := writeToken(path, token); err != nil {
		return token, false, fmt.Errorf("token of the page: it is not kept, the next daemon has another: %w", err)
	}
	return token, true, lost
}

// writeToken makes the file whole or not at all: half a token would keep the next
// start from serving.
func writeToken(path, token string) error {
	f, err := os.CreateTemp(filepath.Dir(path), TokenFile+"-*") // 0600
	if err != nil {
		return err
	}
	_, err = f.WriteString(token + "\n")
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}

// ReadToken reads the secret of a page from the first line of a file that nobody
// but its owner and group may read. The error of a file that is not there wraps
// fs.ErrNotExist.
func ReadToken(path string) (string, error) {
	fi, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("token file %s: %w: make one, such as with (umask 077; openssl rand -hex 32 >%s)", path, fs.ErrNotExist, path)
	}
	if err != nil {
		return "", fmt.Errorf("token file: %w", err)
	}
	if fi.Mode().Perm()&0o007 != 0 {
		return "", fmt.Errorf("token file %s: everybody may use it (mode %v): chmod 0640 it", path, fi.Mode().Perm())
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("token file: %w", err)
	}
	token, _, _ := strings.Cut(string(b), "\n")
	token = strings.TrimSpace(token)
	if len(token) < minToken {
		return "", fmt.Errorf("token file %s: its first line has %d characters: at least %d are wanted", path, len(token), minToken)
	}
	if strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return "", fmt.Errorf("token file %s: its first line has what a header cannot carry: use letters and digits", path)
	}
	return token, nil
}
