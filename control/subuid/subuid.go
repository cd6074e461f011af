// Package subuid says whose a number of a user is: the user's own, or a subordinate one that he has
// for user namespaces (subuid(5)).
package subuid

import (
	"bytes"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Table knows who has which numbers of users for user namespaces of his own: whoever has
// 65,536 of them is one user all the same. It is safe for concurrent use.
type Table struct {
	path, users string // of the two files

	mu     sync.Mutex // guards what follows
	asked  time.Time
	stamp  [2]time.Time // when the files were changed
	ranges []numbers
}

type numbers struct {
	first, count, owner uint32
}

// pause is how long what was read is taken as it is.
const pause = 10 * time.Second

// Open reads /etc/subuid, now and when it has changed. Without it nobody has any.
func Open() *Table {
	return &Table{path: "/etc/subuid", users: "/etc/passwd"}
}

// Owner is whose a number is: the number itself, or who has it as a subordinate one.
func (s *Table) Owner(uid uint32) uint32 {
	s.mu.Lock()
	defer s.mu.Unlock()
	if now := time.Now(); now.Sub(s.asked) >= pause {
		s.asked = now
		s.readLocked()
	}
	for _, r := range s.ranges {
		if uid-r.first < r.count {
			return r.owner
		}
	}
	return uid
}

func (s *Table) readLocked() {
	var stamp [2]time.Time
	for i, path := range []string{s.path, s.users} {
		if fi, err := os.Stat(path); err == nil {
			stamp[i] = fi.ModTime()
		}
	}
	if stamp == s.stamp {
		return
	}
	s.stamp, s.ranges = stamp, nil
	text, err := os.ReadFile(s.path)
	if err != nil {
		return
	}
	users := make(map[string]uint32)
	passwd, _ := os.ReadFile(s.users) // owners may be numbers, too
	for line := range bytes.Lines(passwd) {
		if f := strings.Split(string(line), ":"); len(f) > 2 {
			if n, err := strconv.ParseUint(f[2], 10, 32); err == nil {
				users[f[0]] = uint32(n)
			}
		}
	}
	for line := range bytes.Lines(text) {
		f := strings.Split(strings.TrimSpace(string(line)), ":")
		if len(f) != 3 {
			continue
		}
		owner, known := users[f[0]]
		if n, err := strconv.ParseUint(f[0], 10, 32); !known && err == nil {
			owner, known = uint32(n), true
		}
		first, err1 := strconv.ParseUint(f[1], 10, 32)
		count, err2 := strconv.ParseUint(f[2], 10, 32)
		if known && err1 == nil && err2 == nil {
			s.ranges = append(s.ranges, numbers{uint32(first), uint32(count), owner})
		}
	}
}
