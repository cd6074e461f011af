package subuid

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

// TestSubordinates: numbers of a user namespace are their owner's, by name or by number, and
// a file that changes is read again.
func TestSubordinates(t *testing.T) {
	dir := t.TempDir()
	s := &Table{path: filepath.Join(dir, "subuid"), users: filepath.Join(dir, "passwd")}
	want := func(uid, owner uint32) {
		t.Helper()
		if got := s.Owner(uid); got != owner {
			t.Errorf("%d is %d's, want %d's", uid, got, owner)
		}
	}
	want(100000, 100000) // nobody has any
	for name, text := range map[string]string{
		"passwd": "root:x:0:0:root:/root:/bin/sh\nada:x:1000:1000::/home/ada:/bin/sh\nx\n",
		"subuid": "ada:100000:65536\n1001:165536:65536\nnosuch:300000:10\nbad\nada:x:1\nada:4294967295:1\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want(100000, 100000) // as it was read a moment ago
	s.asked = time.Time{}
	for uid, owner := range map[uint32]uint32{
		0: 0, 1000: 1000, 99999: 99999, 100000: 1000, 165535: 1000, 165536: 1001, 231071: 1001, 231072: 231072, 300000: 300000, 1<<32 - 1: 1000,
	} {
		want(uid, owner)
	}
}
