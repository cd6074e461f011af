package relay

import (
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vswitch/vswitch/control/anyport"
	"github.com/vswitch/vswitch/control/places"
)

// pair is a session and the container's end of it, which keeps few datagrams.
func pair(t *testing.T, client uint16) (ses *session, container net.Conn) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	var ends [2]net.Conn
	for i, fd := range fds {
		f := os.NewFile(uintptr(fd), "end")
		if ends[i], err = net.FileConn(f); err != nil {
			t.Fatal(err)
		}
		f.Close()
		t.Cleanup(func() { ends[i].Close() })
	}
	f := flow{netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), client), netip.MustParseAddrPort("127.0.0.1:53")}
	return &session{flow: f, who: User{uint32(client), true}, conn: ends[0].(socket)}, ends[1]
}

// TestFullSession: a session whose socket takes nothing more keeps no other waiting, and what it
// loses is counted.
func TestFullSession(t *testing.T) {
	r := &Relay{sessions: newSessions(10), backlog: newBacklog(backlogBytes), conns: places.New[User](1)}
	r.cfg.Resolve = func(uint8, netip.AddrPort) (to netip.AddrPort, ok bool) { return } // after the end
	full, _ := pair(t, 1)
	other, container := pair(t, 2)
	for _, ses := range []*session{full, other} {
		if _, ok := r.sessions.add(ses, time.Now()); !ok {
			t.Fatal("no place")
		}
	}
	done := make(chan struct{})
	go func() { defer close(done); r.carry() }()
	t.Cleanup(func() { r.backlog.close(); r.sessions.close(); <-done })
	const flood = 2000 // more than any socket keeps
	for range flood {
		r.backlog.put(datagram{flow: full.flow, who: full.who, payload: make([]byte, 64), out: new(anyport.Sender)})
	}
	r.backlog.put(datagram{flow: other.flow, who: other.who, payload: []byte("hello"), out: new(anyport.Sender)})
	container.SetReadDeadline(time.Now().Add(20 * time.Second))
	b := make([]byte, 100)
	if n, err := container.Read(b); err != nil || string(b[:n]) != "hello" {
		t.Fatalf("got %q, %v", b[:n], err)
	}
	if n := r.backlog.dropped(); n > 0 {
		t.Fatalf("%d found no room before", n)
	}
	for deadline := time.Now().Add(20 * time.Second); r.Stats().Dropped == 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("nothing is counted as lost")
		}
	}
}
