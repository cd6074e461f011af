package resolver

import (
	"encoding/json"
	"errors"
	"net"
	"os"
	"runtime"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vswitch/vswitch/control/bare"
	"github.com/vswitch/vswitch/control/names"
)

// command is the one argument of a program that is a resolver.
const command = "resolve"

// A resolver is the program of its daemon, begun anew, as a holder is.
func init() {
	bare.Become(command, run, func(err error) []byte {
		b, _ := json.Marshal(report{Failed: err.Error()})
		return b
	})
}

// run is the resolver's process: it answers until nobody has the other end of its first file. The others are
// its sockets.
func run(files []*os.File) error {
	c, err := net.FileConn(files[0])
	if err != nil {
		return err
	}
	zone := new(names.Zone)
	reports := make(chan report, 64)
	tell := func(r report) {
		select {
		case reports <- r:
		default:
		}
	}
	told, err := newTold(c)
	if err != nil {
		return err
	}
	r := New(Config{Zone: zone, Told: told.wait, Changed: func(s Server) { tell(report{Server: &s}) }})
	go send(c, reports)
	for buf := make([]byte, maxMessage); ; told.applied() {
		n, err := told.next(buf)
		if err != nil || n == 0 {
			return nil // the daemon has ended, and the holder too
		}
		var m message
		if json.Unmarshal(buf[:n], &m) != nil {
			continue
		}
		if m.Begin {
			if err := r.serve(files[1:]); err != nil {
				return err
			}
			for _, f := range files[1:] {
				f.Close() // nil is allowed
			}
			go r.tellStats(tell)
			continue
		}
		m.apply(zone)
	}
}

// told is what the daemon says. Who attaches a container may ask for its name at once, before this process
// has read of it.
type told struct {
	raw      syscall.RawConn
	applying sync.Mutex // held from next to applied
}

func newTold(c net.Conn) (*told, error) {
	of, ok := c.(syscall.Conn)
	if !ok {
		return nil, errors.New("the resolver's first file is no socket")
	}
	raw, err := of.SyscallConn()
	return &told{raw: raw}, err
}

// next waits for a message. No question is answered meanwhile that waits for it, until applied.
func (t *told) next(buf []byte) (n int, err error) {
	failed := t.raw.Read(func(fd uintptr) bool {
		t.applying.Lock()
		for n, err = unix.Read(int(fd), buf); err == unix.EINTR; n, err = unix.Read(int(fd), buf) {
		}
		if err == unix.EAGAIN {
			t.applying.Unlock()
			return false
		}
		return true
	})
	return n, errors.Join(failed, err)
}

func (t *told) applied() { t.applying.Unlock() }

// wait returns when all is known that the daemon had said by then, or after a tenth of a second.
func (t *told) wait() {
	var one [1]byte
	for range 100 {
		unread := 0
		t.applying.Lock()
		_ = t.raw.Control(func(fd uintptr) { unread, _, _ = unix.Recvfrom(int(fd), one[:], unix.MSG_PEEK|unix.MSG_DONTWAIT) })
		t.applying.Unlock()
		if unread <= 0 {
			return
		}
		time.Sleep(time.Millisecond)
	}
}

// send sends reports. While nobody reads them they are lost.
func send(c net.Conn, reports <-chan report) {
	for r := range reports {
		c.SetWriteDeadline(time.Now().Add(100 * time.Millisecond))
		_ = write(c, r)
	}
}

// tellStats tells how it does, while that changes.
func (r *Resolver) tellStats(tell func(report)) {
	var last []byte
	for range time.Tick(time.Second) {
		s := r.Stats()
		if b, _ := json.Marshal(s); string(b) != string(last) {
			last = b
			tell(report{Stats: &s})
		}
	}
}

// workers is how many questions are read at once.
func workers() int { return min(runtime.GOMAXPROCS(0), 4) }
