package holder

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestKeepsForTheNext(t *testing.T) {
	l := newLab(t)
	h := l.open()
	if err := h.Put(Owner, -1, owner); err != nil {
		t.Fatal(err)
	}
	if h.Alone() != 0 {
		t.Errorf("alone for %v before it was there", h.Alone())
	}
	one, two, three := l.pipe(h, "one"), l.pipe(h, "two"), l.pipe(h, "three")
	h.Drop("two")
	l.ended(two)
	h.Close()
	l.noticed()
	time.Sleep(20 * time.Millisecond)

	next := l.open()
	if next.Alone() < 20*time.Millisecond {
		t.Errorf("alone for %v, want 20 ms and more", next.Alone())
	}
	l.taken(next, "one", one)
	if _, _, ok := next.Take("one"); ok {
		t.Error("what was taken is found again")
	}
	if _, _, ok := next.Take("two"); ok {
		t.Error("what was dropped is there")
	}
	if _, value, ok := next.Take(Owner); !ok || value != owner {
		t.Errorf("owner %q, %t", value, ok)
	}
	next.Settle() // nobody asked for three
	l.ended(three)

	again := l.pipe(next, "one") // in place of the first
	l.ended(one)
	next.Close()
	third := l.open()
	l.taken(third, "one", again)
	if _, _, ok := third.Take("three"); ok {
		t.Error("what was not taken is there")
	}
	if err := third.End(); err != nil {
		t.Error(err)
	}
	if l.there() {
		t.Error("the holder is there after its end")
	}
	l.ended(again)
}

// Without a daemon the holder ends with the last cable of its owner, and what it has with it.
func TestEndsWithTheLastCable(t *testing.T) {
	l := newLab(t)
	l.ip("link add veth1 type veth peer name far1")
	l.ip("link set veth1 alias vswitch:" + owner + ":db/eth0")
	h := l.open()
	h.Put(Owner, -1, owner)
	r := l.pipe(h, "one")
	h.Close()
	if err := os.WriteFile("/proc/sys/net/ipv4/ip_local_reserved_ports", []byte("100-200,300\n"), 0); err != nil {
		t.Fatal(err)
	}
	h = l.open()
	h.Put(Reserved, -1, "100-200")
	h.Close()
	l.ip("link del veth1")
	h = l.open() // it is there for one cable
	l.taken(h, "one", r)
	l.ip("link del veth0") // and as long as there is a daemon
	if !l.there() {
		t.Error("the holder has left its daemon")
	}
	l.ip("link add veth2 type veth peer name wait2") // no container has it yet
	l.ip("link set veth2 alias vswitch:" + owner + ":docker/eth0")
	t.Cleanup(func() { exec.Command("ip", "link", "del", "veth2").Run() })
	begin := time.Now()
	h.Close()
	l.ended(r)
	t.Logf("it took %v", time.Since(begin))
	l.eventually("the holder has ended", func() bool { return !l.there() })
	if _, err := os.Stat(filepath.Join(l.dir, SocketName)); err == nil {
		t.Error("its socket is left")
	}
	if b, _ := os.ReadFile("/proc/sys/net/ipv4/ip_local_reserved_ports"); strings.TrimSpace(string(b)) != "300" {
		t.Errorf("reserved ports %q, want 300", b)
	}
}

// A daemon that has told nothing of itself leaves no holder.
func TestEndsWithAnEarlyDaemon(t *testing.T) {
	l := newLab(t)
	h := l.open()
	r := l.pipe(h, "one")
	h.Close()
	l.ended(r)
	l.eventually("the holder has ended", func() bool { return !l.there() })
}

// A holder that dies has a successor with all that it had.
func TestF01AnotherTakesItsPlace(t *testing.T) {
	l := newLab(t)
	h := l.open()
	h.Put(Owner, -1, owner)
	r := l.pipe(h, "one")
	for range 2 {
		was := l.started(h)
		if err := syscall.Kill(was, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		l.eventually("there is another holder", func() bool {
			pid := pidOf(t, h)
			return pid != 0 && pid != was
		})
	}
	h.Close()
	h = l.open()
	l.taken(h, "one", r)

	// One that does not move is no holder either.
	stopped := l.started(h)
	if err := syscall.Kill(stopped, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	h.Drop("one")
	l.eventually("there is another holder", func() bool {
		pid := pidOf(t, h)
		return pid != 0 && pid != stopped
	})
	l.ended(r)
}

// One that could not be given all does not stay beside the one that is.
func TestHalfFilledDoesNotStay(t *testing.T) {
	l := newLab(t)
	h := l.open()
	h.Put(Owner, -1, owner)
	r := l.pipe(h, "one")
	was, before := l.started(h), children(t)
	h.mu.Lock()
	h.items["two"] = item{fd: 1 << 20} // open nowhere: it cannot be sent
	h.mu.Unlock()
	if err := syscall.Kill(was, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	l.eventually("another has not been given all", func() bool {
		h.mu.Lock()
		defer h.mu.Unlock()
		return h.failed != nil
	})
	h.mu.Lock()
	delete(h.items, "two")
	h.mu.Unlock()
	l.eventually("there is another holder", func() bool { pid := pidOf(t, h); return pid != 0 && pid != was })
	more := slices.DeleteFunc(children(t), func(pid int) bool { return slices.Contains(before, pid) })
	if len(more) != 1 || more[0] != pidOf(t, h) {
		t.Errorf("processes %v were begun, want %d alone", more, pidOf(t, h))
	}
	h.Close()
	l.taken(l.open(), "one", r)
}

// A value that no message has room for is refused, and takes nothing else away.
func TestTooLongToKeep(t *testing.T) {
	l := newLab(t)
	h := l.open()
	h.Put(Owner, -1, owner)
	r := l.pipe(h, "one")
	was := l.started(h)
	if err := h.Put("long", -1, strings.Repeat("x", maxMessage)); err == nil || !strings.Contains(err.Error(), "long") {
		t.Errorf("put: %v", err)
	}
	if err := h.Put("longest", -1, strings.Repeat("x", maxMessage-1-len("longest")-len(separator))); err != nil {
		t.Error(err)
	}
	h.Drop("nobody's") // by its answer all before is done
	if pid := pidOf(t, h); pid != was {
		t.Errorf("the holder is %d, was %d", pid, was)
	}
	h.Close()
	h = l.open()
	l.taken(h, "one", r)
	if _, value, ok := h.Take("longest"); !ok || len(value) < maxMessage-100 {
		t.Errorf("longest: %d bytes, %t", len(value), ok)
	}
}

// Both die: the next daemon finds the name of a socket and nobody there.
func TestF01BothDie(t *testing.T) {
	l := newLab(t)
	h := l.open()
	h.Put(Owner, -1, owner)
	r := l.pipe(h, "one")
	pid := l.started(h)
	h.Close()
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	l.ended(r)
	h = l.open()
	if _, _, ok := h.Take("one"); ok || h.Alone() != 0 {
		t.Errorf("found %t, alone for %v", ok, h.Alone())
	}
	if got := l.started(h); got == pid || got == 0 {
		t.Errorf("process %d", got)
	}
}

// The holder is nothing but itself: a session of its own, no descriptors of the daemon, no
// word of a service manager.
func TestDetached(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "/nowhere")
	l := newLab(t)
	h := l.open()
	pid := l.started(h)
	if sid, err := unix.Getsid(pid); err != nil || sid != pid {
		t.Errorf("session %d, %v, want %d", sid, err, pid)
	}
	// Once it answers it is no child on its way to be one.
	h.Put("one", -1, "")
	h.Drop("one")
	proc := fmt.Sprintf("/proc/%d/", pid)
	env, err := os.ReadFile(proc + "environ")
	if err != nil || strings.Contains(string(env), "NOTIFY_SOCKET") {
		t.Errorf("environment %q, %v", env, err)
	}
	if args, err := os.ReadFile(proc + "cmdline"); err != nil || string(args) != "vswitch\x00hold\x00" {
		t.Errorf("command line %q, %v", args, err)
	}
	fds, err := os.ReadDir(proc + "fd")
	if err != nil {
		t.Fatal(err)
	}
	var unknown []string
	for _, fd := range fds {
		at, err := os.Readlink(proc + "fd/" + fd.Name())
		switch {
		case err != nil, at == "/dev/null", strings.HasPrefix(at, "/sys/fs/cgroup/"), strings.HasPrefix(at, "anon_inode:[event"):
		case strings.HasPrefix(at, "socket:"):
		default:
			unknown = append(unknown, at)
		}
	}
	// /dev/null thrice, the runtime's two and its quota's, the listener and the daemon.
	if len(unknown) > 0 || len(fds) > 9 {
		t.Errorf("%d descriptors, of them %v", len(fds), unknown)
	}
	if cwd, err := os.Readlink(proc + "cwd"); err != nil || cwd != "/" {
		t.Errorf("works in %s, %v", cwd, err)
	}
}

// More than a queue of the kernel holds at a time.
func TestKeepsMany(t *testing.T) {
	l := newLab(t)
	h := l.open()
	h.Put(Owner, -1, owner)
	l.ip("link set lo up")
	var want []int
	for i := range 600 {
		s, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
		if err != nil {
			t.Fatal(err)
		}
		f, err := s.File()
		if err != nil {
			t.Fatal(err)
		}
		want = append(want, s.LocalAddr().(*net.UDPAddr).Port)
		if err := h.Put(fmt.Sprint("port ", i), int(f.Fd()), ""); err != nil {
			t.Fatal(err)
		}
		f.Close()
		s.Close()
	}
	h.Close()
	h = l.open()
	var got []int
	for i := range want {
		fd, _, ok := h.Take(fmt.Sprint("port ", i))
		if !ok {
			t.Fatalf("port %d is lost", i)
		}
		sa, err := unix.Getsockname(fd)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, sa.(*unix.SockaddrInet4).Port)
		unix.Close(fd)
	}
	if !slices.Equal(got, want) {
		t.Error("other sockets came back")
	}
}

// A holder that hangs keeps no daemon from starting, and vswitch down from ending it.
func TestF01HungHolder(t *testing.T) {
	for what, next := range map[string]func(l *lab){
		"the next daemon": func(l *lab) {
			h := l.open()
			h.mu.Lock()
			found := len(h.found)
			h.mu.Unlock()
			if found > 0 {
				t.Errorf("it has %d things of the one that hung", found)
			}
			h.Put(Owner, -1, owner)
			r := l.pipe(h, "two")
			h.Close()
			l.taken(l.open(), "two", r)
		},
		"down": func(l *lab) {
			if had, err := End(l.dir); !had || err != nil {
				t.Errorf("%t, %v", had, err)
			}
			if l.there() {
				t.Error("it is still there")
			}
		},
	} {
		t.Run(what, func(t *testing.T) {
			l := newLab(t)
			h := l.open()
			h.Put(Owner, -1, owner)
			r := l.pipe(h, "one")
			pid := l.started(h)
			h.Close()
			if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
				t.Fatal(err)
			}
			next(l)
			l.ended(r)
		})
	}
}

// Somebody removes the run directory, or the socket in it: the holder that nobody can reach holds
// no device back from the next daemon.
func TestF01HolderWithoutItsName(t *testing.T) {
	l := newLab(t)
	h := l.open()
	h.Put(Owner, -1, owner)
	r := l.pipe(h, "one")
	l.started(h)
	h.Close()
	if err := os.Remove(filepath.Join(l.dir, SocketName)); err != nil {
		t.Fatal(err)
	}
	h = l.open()
	l.ended(r)
	h.Put(Owner, -1, owner)
	r = l.pipe(h, "two")
	l.started(h)
	h.Close()
	h = l.open()
	l.taken(h, "two", r)
	h.Close()
	if err := os.Remove(filepath.Join(l.dir, SocketName)); err != nil {
		t.Fatal(err)
	}
	if had, err := End(l.dir); !had || err != nil {
		t.Errorf("%t, %v", had, err)
	}
	l.ended(r)
}
