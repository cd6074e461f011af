package holder

import (
	"fmt"
	"maps"
	"net"
	"os"
	"slices"
	"strconv"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// life is what a daemon says from its start to its end, with the descriptors of pipes.
var life = []struct {
	kind byte
	name string
}{{hello, ""}, {put, "one"}, {put, "two"}, {drop, "old"}, {put, "one"}, {drop, "two"}, {put, "old"}, {drop, "nobody's"}, {end, ""}}

// said is a daemon that speaks by hand, and what the holder has to have of it.
type said struct {
	l     *lab
	c     *net.UnixConn
	buf   []byte
	hears string
	pid   int // of the holder
	kept  map[string]*os.File
	gone  []*os.File // pipes that the holder has no end of any more
}

// What a daemon hears before it dies.
const (
	nothing    = "nothing"       // nor has the holder heard anything
	notReady   = "all but ready" // nor has the holder heard what comes after hello
	everything = "everything"
)

// answered reads to the message that answers, or to the one before and then the holder hears
// no more.
func (s *said) answered(kind byte) {
	s.l.t.Helper()
	if s.hears == nothing || s.hears == notReady && kind != ready {
		return
	}
	for {
		if s.hears == notReady {
			if peeked(s.l.t, s.c) == kind {
				s.signal(syscall.SIGSTOP)
				return
			}
		}
		m, err := receive(s.c, s.buf)
		if err != nil {
			s.l.t.Fatal(err)
		}
		m.close()
		if m.kind == kind {
			return
		}
	}
}

// peeked is of which kind the next message is.
func peeked(t *testing.T, c *net.UnixConn) byte {
	t.Helper()
	raw, err := c.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var b [1]byte
	err = raw.Read(func(fd uintptr) bool {
		_, _, err := unix.Recvfrom(int(fd), b[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
		return err != unix.EAGAIN
	})
	if err != nil {
		t.Fatal(err)
	}
	return b[0]
}

func (s *said) says(kind byte, name string) {
	s.l.t.Helper()
	fd, fields := -1, []string{name}
	was := s.kept[name]
	if was != nil && kind != hello {
		s.gone = append(s.gone, was)
		delete(s.kept, name)
	}
	switch kind {
	case hello:
		fields = []string{strconv.Itoa(version)}
	case put:
		r, w, err := os.Pipe()
		if err != nil {
			s.l.t.Fatal(err)
		}
		defer w.Close()
		s.l.t.Cleanup(func() { r.Close() })
		s.kept[name] = r
		fd, fields = int(w.Fd()), []string{name, "of " + name}
	}
	if err := send(s.c, kind, fd, fields...); err != nil {
		s.l.t.Fatal(err)
	}
	switch kind {
	case hello:
		s.answered(ready)
	case drop:
		s.answered(done)
	}
}

// left is a holder that a daemon has left with one descriptor.
func (l *lab) left(hears string) *said {
	l.t.Helper()
	h := l.open()
	if err := h.Put(Owner, -1, owner); err != nil {
		l.t.Fatal(err)
	}
	s := &said{l: l, buf: make([]byte, maxMessage), hears: hears, pid: l.started(h), kept: map[string]*os.File{"old": l.pipe(h, "old")}}
	h.Close()
	var err error
	if s.c, err = dial(l.dir); err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() { s.c.Close() })
	return s
}

// found wants the next daemon to find what there is, and nobody to have the rest.
func (l *lab) found(h *Holder, kept map[string]*os.File, gone []*os.File) {
	l.t.Helper()
	h.mu.Lock()
	found := maps.Clone(h.found)
	h.mu.Unlock()
	delete(found, Owner)
	names, want := slices.Sorted(maps.Keys(found)), slices.Sorted(maps.Keys(kept))
	if !slices.Equal(names, want) {
		l.t.Errorf("found %q, want %q", names, want)
		return
	}
	for name, r := range kept {
		l.taken(h, name, r)
	}
	for _, r := range gone {
		l.ended(r)
	}
}

// signal sends one to the holder.
func (s *said) signal(sig syscall.Signal) {
	s.l.t.Helper()
	if err := syscall.Kill(s.pid, sig); err != nil {
		s.l.t.Fatal(err)
	}
}

// A daemon dies after each of its messages, whatever it has heard until then: the next one finds all that was said so far, and the
// descriptors of all else are closed.
func TestF01DaemonDiesAfterEachMessage(t *testing.T) {
	for _, hears := range []string{nothing, notReady, everything} {
		for n := range len(life) + 1 {
			t.Run(fmt.Sprintf("%d heard %s", n, hears), func(t *testing.T) {
				l := newLab(t)
				s := l.left(hears)
				if hears == nothing {
					s.signal(syscall.SIGSTOP)
				}
				for _, m := range life[:n] {
					s.says(m.kind, m.name)
				}
				s.c.Close()
				s.signal(syscall.SIGCONT)
				ended := n == len(life)
				if ended {
					s.gone, s.kept = slices.AppendSeq(s.gone, maps.Values(s.kept)), nil
				}
				h := l.open()
				if _, owned := h.items[Owner]; owned == ended {
					t.Errorf("it has an owner: %t", owned)
				}
				l.found(h, s.kept, s.gone)
				if err := h.End(); err != nil {
					t.Error(err)
				}
				for _, r := range s.kept {
					l.ended(r)
				}
			})
		}
	}
}

// A daemon that dies while the holder tells it what there is has taken nothing of it.
func TestF01DaemonDiesWhileItIsGreeted(t *testing.T) {
	l := newLab(t)
	s := l.left(nothing)
	for n := range 8 { // owner, old, ready, and one more, for who hears one at a time and for others
		if n > 0 {
			var err error
			if s.c, err = dial(l.dir); err != nil {
				t.Fatal(err)
			}
		}
		says := []string{strconv.Itoa(version), many}[:1+n/4]
		if err := send(s.c, hello, -1, says...); err != nil {
			t.Fatal(err)
		}
		for range min(n%4, 3) {
			m, err := receive(s.c, s.buf)
			if err != nil {
				t.Fatal(err)
			}
			m.close()
		}
		s.c.Close()
		h := l.open()
		l.found(h, s.kept, nil)
		h.Close()
	}
}

// The holder dies before each message of a daemon: another has all that was said, then and
// later, and what was dropped is closed.
func TestF01HolderDiesBeforeEachMessage(t *testing.T) {
	for n := range 5 {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			l := newLab(t)
			h := l.open()
			kept := make(map[string]*os.File)
			var gone []*os.File
			steps := []func(){
				func() { h.Put(Owner, -1, owner) },
				func() { kept["one"] = l.pipe(h, "one") },
				func() { gone = append(gone, kept["one"]); kept["one"] = l.pipe(h, "one") },
				func() { kept["two"] = l.pipe(h, "two") },
				func() { h.Drop("one"); gone = append(gone, kept["one"]); delete(kept, "one") },
			}
			var was int
			for i, step := range steps {
				if i == n {
					was = l.started(h)
					if err := syscall.Kill(was, syscall.SIGKILL); err != nil {
						t.Fatal(err)
					}
				}
				step()
			}
			l.eventually("there is another holder", func() bool {
				pid := pidOf(t, h)
				return pid != 0 && pid != was
			})
			h.Close()
			next := l.open()
			l.found(next, kept, gone)
			if err := next.End(); err != nil {
				t.Error(err)
			}
		})
	}
}
