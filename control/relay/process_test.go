package relay_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/vswitch/vswitch/dataplane/header"
)

// TestP02RelayHasNoRights: the process is another user's, without capabilities and none to be had, on
// every thread, and has its sockets and no more.
func TestP02RelayHasNoRights(t *testing.T) {
	l := newDaemonLab(t)
	l.lead(header.ProtoTCP, 8080, l.serveTCP(echo))
	l.start()
	if err := say(l.dial("tcp", "127.0.0.1", 8080)); err != nil {
		t.Fatal(err)
	}
	pid := l.wantRelays(1)[0]
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid))
	if len(tasks) < 2 {
		t.Errorf("%d threads", len(tasks))
	}
	for _, at := range tasks {
		status, err := os.ReadFile(at)
		if err != nil {
			continue // it has ended
		}
		for _, want := range []string{
			"CapInh:\t0000000000000000\n", "CapPrm:\t0000000000000000\n", "CapEff:\t0000000000000000\n", "CapBnd:\t0000000000000000\n", "CapAmb:\t0000000000000000\n",
			"NoNewPrivs:\t1\n",
		} {
			if !strings.Contains(string(status), want) {
				t.Errorf("%s lacks %q:\n%s", at, want, status)
			}
		}
		if os.Getuid() == 0 && !strings.Contains(string(status), "Uid:\t65534\t65534\t65534\t65534\n") && !userNamespace() {
			t.Errorf("%s: it is not nobody's:\n%s", at, status)
		}
	}
	for _, fd := range descriptors(t, pid) {
		kind, _, _ := strings.Cut(fd, ":")
		// The Go runtime reads how many CPUs its cgroup may use.
		if kind != "socket" && kind != "pipe" && kind != "anon_inode" && fd != os.DevNull && !strings.HasPrefix(fd, "/sys/fs/cgroup/") {
			t.Errorf("it has %s", fd)
		}
	}
}

// userNamespace reports whether this is a user namespace that has no nobody.
func userNamespace() bool {
	b, err := os.ReadFile("/proc/self/uid_map")
	return err == nil && len(strings.Fields(string(b))) == 3 && strings.Fields(string(b))[2] == "1"
}

func descriptors(t *testing.T, pid int) (list []string) {
	t.Helper()
	fds, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, at := range fds {
		if to, err := os.Readlink(at); err == nil {
			list = append(list, to)
		}
	}
	return list
}

// TestRelayOutlivesDaemon: pairs and sessions go on while there is no daemon, new ones begin, and the next daemon has
// the same relay.
func TestRelayOutlivesDaemon(t *testing.T) {
	l := newDaemonLab(t)
	l.lead(header.ProtoTCP, 8080, l.serveTCP(echo))
	udp, err := l.container.ListenPacket("udp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	defer udp.Close()
	l.lead(header.ProtoUDP, 5353, uint16(udp.LocalAddr().(*net.UDPAddr).Port))
	first := l.start()
	pid := l.wantRelays(1)[0]
	c, u := l.dial("tcp", "127.0.0.1", 8080), l.dial("udp", "127.0.0.1", 5353)
	source := func() string {
		t.Helper()
		u.Write([]byte("x"))
		udp.SetReadDeadline(time.Now().Add(20 * time.Second))
		_, from, err := udp.ReadFrom(make([]byte, 9))
		if err != nil {
			t.Fatal(err)
		}
		return from.String()
	}
	was := source()
	if err := say(c); err != nil {
		t.Fatal(err)
	}
	if err := first.Close(true); err != nil {
		t.Fatal(err)
	}
	for _, goes := range []net.Conn{c, l.dial("tcp", "::1", 8080), l.dial("tcp", "127.0.0.1", 8080)} {
		if err := say(goes); err != nil {
			t.Errorf("while there is no daemon: %v", err)
		}
	}
	if now := source(); now != was {
		t.Errorf("while there is no daemon the session is %s, was %s", now, was)
	}
	second := l.start()
	if again := l.wantRelays(1)[0]; again != pid {
		t.Errorf("process %d, want the one before, %d", again, pid)
	}
	if st := second.Stats(); st.TCP != 3 || st.UDP != 1 {
		t.Errorf("stats %+v", st)
	}
	if err := errors.Join(say(c), say(l.dial("tcp", "127.0.0.1", 8080))); err != nil {
		t.Error(err)
	}
	if now := source(); now != was {
		t.Errorf("with the next daemon the session is %s, was %s", now, was)
	}
	if err := second.Close(false); err != nil {
		t.Fatal(err)
	}
	if !wasReset(c) {
		t.Error("a connection goes on when all has ended")
	}
	l.wantRelays(0)
}

// TestRelayIsToldWhatMoved: what leads elsewhere by the next daemon ends, whichever way it was told.
func TestRelayIsToldWhatMoved(t *testing.T) {
	l := newDaemonLab(t)
	port := l.serveTCP(echo)
	l.lead(header.ProtoTCP, 8080, port)
	stays := l.ways
	l.lead(header.ProtoTCP, 8081, port)
	first := l.start()
	begin := func() (stay, goes net.Conn) {
		t.Helper()
		stay, goes = l.dial("tcp", "127.0.0.1", 8080), l.dial("tcp", "127.0.0.1", 8081)
		if err := errors.Join(say(stay), say(goes)); err != nil {
			t.Fatal(err)
		}
		return stay, goes
	}
	a, b := begin()
	all := l.ways
	first.Lead(stays)
	b.SetReadDeadline(time.Now().Add(time.Second)) // it has ended already
	if !wasReset(b) {
		t.Error("a connection of a port that has gone goes on after Lead")
	}
	if err := say(a); err != nil {
		t.Error(err)
	}
	first.Lead(all)
	a, b = begin()
	if err := first.Close(true); err != nil {
		t.Fatal(err)
	}
	l.ways = stays
	l.start()
	b.SetReadDeadline(time.Now().Add(time.Second))
	if !wasReset(b) {
		t.Error("a connection of a port that went meanwhile goes on")
	}
	if err := say(a); err != nil {
		t.Error(err)
	}
}

// TestRelayOfTheVersionBefore finishes what it has, while the new one has what is new; sessions go on by the new
// one, and a port that goes ends both's.
func TestRelayOfTheVersionBefore(t *testing.T) {
	l := newDaemonLab(t)
	port := l.serveTCP(echo)
	l.lead(header.ProtoTCP, 8080, port)
	l.lead(header.ProtoTCP, 8081, port)
	udp, err := l.container.ListenPacket("udp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	defer udp.Close()
	l.lead(header.ProtoUDP, 5353, uint16(udp.LocalAddr().(*net.UDPAddr).Port))
	first := l.start()
	before := l.wantRelays(1)[0]
	c, d, u := l.dial("tcp", "127.0.0.1", 8080), l.dial("tcp", "::1", 8081), l.dial("udp", "127.0.0.1", 5353)
	source := func() string {
		t.Helper()
		u.Write([]byte("x"))
		b := make([]byte, 9)
		udp.SetReadDeadline(time.Now().Add(20 * time.Second))
		_, from, err := udp.ReadFrom(b)
		if err != nil {
			t.Fatal(err)
		}
		udp.WriteTo(b[:1], from)
		if _, err := io.ReadFull(u, b[:1]); err != nil {
			t.Errorf("no answer: %v", err)
		}
		return from.String()
	}
	was := source()
	if err := errors.Join(say(c), say(d)); err != nil {
		t.Fatal(err)
	}
	if err := first.Close(true); err != nil {
		t.Fatal(err)
	}
	l.shelf.rename("1", "0:0")
	second := l.start()
	l.wantRelays(2)
	more := l.dial("tcp", "127.0.0.1", 8080)
	if err := errors.Join(say(more), say(c), say(d)); err != nil {
		t.Error(err)
	}
	if now := source(); now != was {
		t.Errorf("the session is %s, was %s", now, was)
	}
	if st := second.Stats(); st.TCP != 3 || st.UDP != 1 {
		t.Errorf("stats of both %+v", st)
	}
	// One that finishes takes nothing new for the daemons after, either.
	if err := second.Close(true); err != nil {
		t.Fatal(err)
	}
	l.shelf.rename("1", "0:0")
	third := l.start()
	l.wantRelays(3)
	if err := errors.Join(say(more), say(c), say(d)); err != nil {
		t.Error(err)
	}
	third.Lead(l.ways[2:]) // without 8080
	if !wasReset(c) || !wasReset(more) {
		t.Error("a connection of a port that has gone goes on with a relay that finishes")
	}
	if err := say(d); err != nil {
		t.Error(err)
	}
	d.Close()
	for _, pid := range l.wantRelays(1) {
		if pid == before {
			t.Error("one that has finished stays")
		}
	}
	if now := source(); now != was {
		t.Errorf("the session is %s, was %s", now, was)
	}
}

// TestRelayOfAnotherProtocol cannot be told what ends, so it ends.
func TestRelayOfAnotherProtocol(t *testing.T) {
	l := newDaemonLab(t)
	l.lead(header.ProtoTCP, 8080, l.serveTCP(echo))
	first := l.start()
	before := l.wantRelays(1)[0]
	c := l.dial("tcp", "127.0.0.1", 8080)
	if err := say(c); err != nil {
		t.Fatal(err)
	}
	first.Close(true)
	l.shelf.rename("0", "0:0")
	l.start()
	if !wasReset(c) {
		t.Error("a connection goes on that nobody can end")
	}
	if err := say(l.dial("tcp", "127.0.0.1", 8080)); err != nil {
		t.Error(err)
	}
	if now := l.wantRelays(1)[0]; now == before {
		t.Error("it goes on")
	}
}
