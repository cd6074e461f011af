package relay_test

import (
	"errors"
	"io"
	"net"
	"os"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vswitch/vswitch/control/host/others"
	"github.com/vswitch/vswitch/control/relay"
	"github.com/vswitch/vswitch/dataplane/header"
	"github.com/vswitch/vswitch/internal/netlab/labtest"
)

// told keeps what a relay says of users who have reached their part.
type told struct {
	mu   sync.Mutex
	list []relay.Reached
}

func (k *told) reached(r relay.Reached) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.list = append(k.list, r)
}

func (k *told) all() []relay.Reached {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.Clone(k.list)
}

// settled waits until the relay has counted what its clients have seen already.
func settled(t *testing.T, l *lab, ok func(relay.Stats) bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !ok(l.relay.Stats()); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Errorf("stats %+v", l.relay.Stats())
			return
		}
	}
}

// askUsers has the relay of a lab ask the kernel whose its clients are.
func askUsers(t testing.TB, cfg relay.Config, k *told) *lab {
	labtest.NeedBPF(t)
	cfg.Reached = k.reached
	var users *others.SocketUsers
	l := newLabWith(t, cfg, func(cfg *relay.Config) (err error) {
		if users, err = others.OpenSocketUsers(); err == nil {
			cfg.Whose = users.Of
			t.Cleanup(func() { users.Close() })
		}
		return err
	})
	return l
}

// dialAs connects from the host as another user; the connection ends with the test.
func (l *lab) dialAs(uid int, network, addr string, port uint16) net.Conn {
	l.t.Helper()
	var c net.Conn
	be := func(uid int) error {
		_, _, e := syscall.RawSyscall(unix.SYS_SETRESUID, ^uintptr(0), uintptr(uid), ^uintptr(0)) // of this thread only
		if e != 0 {
			return e
		}
		return nil
	}
	err := l.Host.Do(func() error {
		if err := be(uid); err != nil {
			labtest.SkipRights(l.t, "not allowed to be another user: "+err.Error())
		}
		var err error
		d := net.Dialer{Timeout: 20 * time.Second}
		d.SetMultipathTCP(false)
		c, err = d.Dial(network, join(addr, port))
		return errors.Join(err, be(0))
	})
	if err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(20 * time.Second))
	return c
}

// say sends a byte and gets it back.
func say(c net.Conn) error {
	if _, err := c.Write([]byte("x")); err != nil {
		return err
	}
	_, err := io.ReadFull(c, make([]byte, 1))
	return err
}

// wasReset reports whether a connection has ended by a reset.
func wasReset(c net.Conn) bool {
	_, err := c.Read(make([]byte, 1))
	return errors.Is(err, unix.ECONNRESET) || errors.Is(err, unix.EPIPE)
}

// TestConnectionsOfOneUser: who opens more than half ends his own idlest ones, by any
// address, and others go on and get new ones.
func TestConnectionsOfOneUser(t *testing.T) {
	const most = 16
	var reached told
	l := askUsers(t, relay.Config{MaxConns: most}, &reached)
	l.publish(header.ProtoTCP, 8080, l.serveTCP(echo))
	mine := l.dialAs(1001, "tcp", "127.0.0.1", 8080)
	if err := say(mine); err != nil {
		t.Fatal(err)
	}
	var hog []net.Conn
	for i := range most/2 + 4 {
		c := l.dialAs(4242, "tcp", locals[i%len(locals)], 8080)
		if err := say(c); err != nil {
			t.Fatalf("connection %d: %v", i, err)
		}
		hog = append(hog, c)
		if i == most/2-1 {
			time.Sleep(time.Second) // the first one is used, those after it are idle
			if err := say(hog[0]); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := say(hog[0]); err != nil {
		t.Errorf("the one that was used gave its place: %v", err)
	}
	for i := 1; i <= 4; i++ {
		if !wasReset(hog[i]) {
			t.Errorf("the hog's connection %d goes on", i)
		}
	}
	if err := say(mine); err != nil {
		t.Errorf("another's connection: %v", err)
	}
	for _, uid := range []int{1001, 1002, 0} {
		if err := say(l.dialAs(uid, "tcp", "::1", 8080)); err != nil {
			t.Errorf("a new connection of user %d: %v", uid, err)
		}
	}
	if got := reached.all(); len(got) != 1 || got[0] != (relay.Reached{Who: relay.User{UID: 4242, Known: true}, Proto: header.ProtoTCP, Held: most / 2}) {
		t.Errorf("told %+v", got)
	}
	settled(t, l, func(st relay.Stats) bool { return st.GaveTCP == 4 && st.TCP == most/2+4 })
	for uid := range 40 { // of many users: who has the most gives
		if err := say(l.dialAs(5000+uid, "tcp", "127.0.0.1", 8080)); err != nil {
			t.Errorf("user %d: %v", 5000+uid, err)
		}
	}
	settled(t, l, func(st relay.Stats) bool { return st.TCP <= most })
}

// TestConnectionsThatOpen count as others do, and give first.
func TestConnectionsThatOpen(t *testing.T) {
	var reached told
	l := askUsers(t, relay.Config{MaxConns: 8, DialTimeout: time.Minute}, &reached)
	l.publish(header.ProtoTCP, 8080, l.serveTCP(echo))
	good := l.dialAs(4242, "tcp", "127.0.0.1", 8080)
	if err := say(good); err != nil {
		t.Fatal(err)
	}
	l.leadToNobody()
	var waiting []net.Conn
	for range 9 {
		waiting = append(waiting, l.dialAs(4242, "tcp", "127.0.0.1", 8080))
	}
	settled(t, l, func(st relay.Stats) bool { return st.GaveTCP >= 6 })
	ended := 0
	for deadline := time.Now().Add(20 * time.Second); ended < 6 && time.Now().Before(deadline); {
		ended = 0
		for _, c := range waiting {
			c.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
			if _, err := c.Read(make([]byte, 1)); !os.IsTimeout(err) {
				ended++
			}
		}
	}
	if ended != 6 {
		t.Errorf("%d of 9 that wait for nobody have ended, want 6: three have places", ended)
	}
	if err := say(good); err != nil {
		t.Errorf("one that was carried gave its place: %v", err)
	}
}

// TestSessionsOfOneUser is the same for UDP.
func TestSessionsOfOneUser(t *testing.T) {
	const most = 16
	var reached told
	l := askUsers(t, relay.Config{MaxSessions: most}, &reached)
	server, err := l.container.ListenPacket("udp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	l.publish(header.ProtoUDP, 5353, uint16(server.LocalAddr().(*net.UDPAddr).Port))
	source := func(c net.Conn) string { // how the container sees the session
		t.Helper()
		c.Write([]byte("x"))
		server.SetReadDeadline(time.Now().Add(20 * time.Second))
		_, from, err := server.ReadFrom(make([]byte, 9))
		if err != nil {
			t.Fatal(err)
		}
		return from.String()
	}
	mine := l.dialAs(1001, "udp", "127.0.0.1", 5353)
	was := source(mine)
	for i := range 3 * most {
		source(l.dialAs(4242, "udp", []string{"127.0.0.1", "::1"}[i%2], 5353))
	}
	if now := source(mine); now != was {
		t.Errorf("another's session gave its place: %s, then %s", was, now)
	}
	settled(t, l, func(st relay.Stats) bool { return st.UDP == most/2+1 && st.GaveUDP == 3*most-most/2 })
	if got := reached.all(); len(got) != 1 || got[0].Who.UID != 4242 || got[0].Proto != header.ProtoUDP {
		t.Errorf("told %+v", got)
	}
}
