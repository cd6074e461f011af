package relay

import (
	"time"

	"golang.org/x/sys/unix"
)

// What a connection takes at most: a socket at each side, and a pipe for each direction
// while it carries something (splice(2)).
const (
	connFiles = 6
	mostConns = 4096
	leastKept = 8 // whatever the limit is
)

// Limits are how many connections and sessions there may be where a process may have so many
// files open: connections take half of them at most and sessions an eighth. The rest is for
// ports, readers of the API and the page.
func Limits(files uint64) (conns, sessions int) {
	files = min(files, 1<<30)
	conns = min(int(files)/2/connFiles, mostConns)
	sessions = min(int(files)/8, mostConns)
	return max(conns, leastKept), max(sessions, leastKept)
}

// openFiles is how many files this process may have open. The Go runtime has raised the soft
// limit to the hard one.
func openFiles() uint64 {
	var l unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &l); err != nil {
		return 1024 // the kernel's default
	}
	return l.Cur
}

// User is whose a client's socket is: the number of the user, or nobody's, if no program
// has it any more. All that are nobody's count as one user.
type User struct {
	UID   uint32
	Known bool
}

// Reached says that a user has all that one may have: each new one ends his idlest.
type Reached struct {
	Who   User
	Proto uint8
	Held  int // connections or sessions
}

// reachedPause is how long nothing is said after Reached was called.
const reachedPause = time.Minute

func (r *Relay) reachedLocked(proto uint8, who User, held int) {
	now := time.Now()
	if last, ok := r.told[proto]; ok && now.Sub(last) < reachedPause {
		return
	}
	r.told[proto] = now
	r.cfg.Reached(Reached{Who: who, Proto: proto, Held: held})
}
