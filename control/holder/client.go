package holder

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// Config says how the daemon comes to its holder.
type Config struct {
	// Dir is the run directory, which the caller has locked.
	Dir string
	Log *slog.Logger
}

// restPause is how long a holder has to live for another to be started at once when it ends.
const restPause = time.Second

// Holder is the daemon's end. When its process dies it gives all to another. Its methods are
// safe for concurrent use, and all may be called on nil, which keeps nothing.
type Holder struct {
	cfg   Config
	alone time.Duration

	pid atomic.Int64 // of the holder, 0 until it has told

	mu     sync.Mutex // guards what follows
	conn   *net.UnixConn
	child  *os.Process   // of this process; nil: a daemon before has started it
	done   chan struct{} // answers of conn
	born   time.Time     // when conn was made
	items  map[string]item
	found  map[string]bool // names that the daemon before has left, and nobody has asked for
	closed bool
	all    bool  // by End
	failed error // why there is no holder
	watch  sync.WaitGroup
	stop   chan struct{}
}

// Open finds the holder of a daemon before, or starts one.
func Open(cfg Config) (*Holder, error) {
	h := &Holder{cfg: cfg, items: make(map[string]item), found: make(map[string]bool), stop: make(chan struct{})}
	h.mu.Lock()
	defer h.mu.Unlock()
	if err := h.findLocked(); err != nil {
		return nil, fmt.Errorf("holder: %w", err)
	}
	return h, nil
}

// findLocked connects with the holder there is, and takes what it has; otherwise it starts
// one.
func (h *Holder) findLocked() error {
	c, err := dial(h.cfg.Dir)
	if err == nil {
		if err = h.greetLocked(c); err == nil {
			return nil
		}
		h.forgetLocked()
		if errors.Is(err, os.ErrDeadlineExceeded) {
			err = errors.Join(err, kill(c))
		}
		c.Close()
		if h.cfg.Log != nil {
			h.cfg.Log.Warn("what a holder keeps is not taken over: there is another in its place", "err", err)
		}
		if _, err := End(h.cfg.Dir); err != nil {
			return err
		}
	}
	ended, err := endNameless(h.cfg.Dir)
	if err != nil {
		return err
	}
	if ended {
		h.log().Warn("a holder that nobody could reach has ended: somebody has removed its socket")
	}
	return h.startLocked()
}

func (h *Holder) greetLocked(c *net.UnixConn) error {
	if err := peer(c); err != nil {
		return err
	}
	if err := send(c, hello, -1, strconv.Itoa(version), many); err != nil {
		return err
	}
	// It may have just begun, or be on its way out with all it has. Containers wait meanwhile.
	for buf := make([]byte, maxMessage); ; {
		c.SetReadDeadline(time.Now().Add(2 * patience))
		m, err := receive(c, buf)
		if err != nil {
			return err
		}
		switch m.kind {
		case have:
			h.items[m.field(0)] = item{m.field(1), m.fd}
			h.found[m.field(0)] = true
		case haves:
			if len(m.fields) != 2*len(m.fds) {
				m.close()
				return errors.New("a message lacks descriptors")
			}
			for i, fd := range m.fds {
				name := m.fields[2*i]
				h.items[name], h.found[name] = item{m.fields[2*i+1], fd}, true
			}
		case ready:
			if ns, err := netns(); err != nil || ns != m.field(1) {
				return errors.Join(err, errors.New("it is in another network namespace"))
			}
			ms, _ := strconv.ParseInt(m.field(0), 10, 64)
			h.alone = time.Duration(ms) * time.Millisecond
			h.heard(m)
			c.SetReadDeadline(time.Time{})
			h.adoptLocked(c)
			return nil
		case refuse:
			m.close()
			return errors.New(m.field(0))
		default:
			m.close()
		}
	}
}

func (h *Holder) heard(m message) {
	pid, _ := strconv.ParseInt(m.field(2), 10, 64)
	h.pid.Store(pid)
}

// adoptLocked makes a connection the one that is used.
func (h *Holder) adoptLocked(c *net.UnixConn) {
	h.conn, h.done, h.born, h.failed = c, make(chan struct{}, 1), time.Now(), nil
	h.watch.Go(func() { h.follow(c, h.done) })
}

func (h *Holder) forgetLocked() {
	for name, it := range h.items {
		if it.fd >= 0 {
			unix.Close(it.fd)
		}
		delete(h.items, name)
		delete(h.found, name)
	}
}

// follow hears a holder until it ends, and starts another then.
func (h *Holder) follow(c *net.UnixConn, answered chan<- struct{}) {
	for buf := make([]byte, maxMessage); ; {
		m, err := receive(c, buf)
		if err != nil {
			break
		}
		m.close()
		switch m.kind {
		case done:
			answered <- struct{}{}
		case ready:
			h.heard(m)
		}
	}
	close(answered)
	h.mu.Lock()
	defer h.mu.Unlock()
	c.Close()
	if h.closed && !h.all || h.conn != c {
		return
	}
	if h.child != nil {
		_ = h.child.Kill() // it has nothing to do any more, if it has not ended itself
		_, _ = h.child.Wait()
		h.child = nil
	}
	if h.closed {
		return
	}
	h.conn = nil
	h.pid.Store(0)
	for {
		if pause := restPause - time.Since(h.born); pause > 0 {
			h.mu.Unlock()
			select {
			case <-h.stop:
			case <-time.After(pause):
			}
			h.mu.Lock()
		}
		if h.closed {
			return
		}
		h.born = time.Now()
		err := h.startLocked()
		if err == nil {
			h.log().Warn("the holder has ended: another has taken its place")
			return
		}
		if h.failed == nil {
			h.log().Error("the holder has ended, and another does not start: devices and sockets end with the daemon", "err", err)
		}
		h.failed = err
	}
}

func (h *Holder) log() *slog.Logger {
	if h.cfg.Log == nil {
		return slog.Default()
	}
	return h.cfg.Log
}

// Alone is for how long there was no daemon before this one.
func (h *Holder) Alone() time.Duration {
	if h == nil {
		return 0
	}
	return h.alone
}

// Left is how many names that begin so the daemon before has left and nobody has taken.
func (h *Holder) Left(prefix string) (n int) {
	if h == nil {
		return 0
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for name := range h.found {
		if strings.HasPrefix(name, prefix) {
			n++
		}
	}
	return n
}

// Take returns what the daemon before has left under a name: a duplicate of the descriptor, -1
// if there is none, and the value. It stays with the holder until Drop.
func (h *Holder) Take(name string) (fd int, value string, ok bool) {
	if h == nil {
		return -1, "", false
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.found[name] {
		return -1, "", false
	}
	delete(h.found, name)
	it := h.items[name]
	if it.fd < 0 {
		return -1, it.value, true
	}
	fd, err := unix.FcntlInt(uintptr(it.fd), unix.F_DUPFD_CLOEXEC, 0)
	return fd, it.value, err == nil
}

// Put has a duplicate of a descriptor, or with -1 the value alone, kept under a name, in place
// of what was there.
func (h *Holder) Put(name string, fd int, value string) error {
	if h == nil {
		return nil
	}
	if size := 1 + len(name) + len(separator) + len(value); size > maxMessage {
		return fmt.Errorf("holder: %s: %d bytes are more than a message has, %d", name, size, maxMessage)
	}
	own := -1
	if fd >= 0 {
		var err error
		if own, err = unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0); err != nil {
			return fmt.Errorf("holder: %w", err)
		}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.removeLocked(name)
	h.items[name] = item{value, own}
	if h.conn != nil && send(h.conn, put, own, name, value) != nil {
		h.replaceLocked()
	}
	return nil
}

// Drop has the holder let go of a name. It has when Drop returns.
func (h *Holder) Drop(name string) {
	if h == nil {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.dropLocked(name)
}

func (h *Holder) dropLocked(name string) {
	if !h.removeLocked(name) || h.conn == nil {
		return
	}
	if send(h.conn, drop, -1, name) == nil {
		select {
		case <-h.done: // closed when it has died
			return
		case <-time.After(patience):
		}
	}
	h.replaceLocked()
}

// replaceLocked ends a holder that does not do its work; follow starts another, with all
// there is.
func (h *Holder) replaceLocked() {
	h.conn.Close()
	if h.child != nil {
		_ = h.child.Kill()
		return
	}
	_ = killProcess(int(h.pid.Load()))
}

func (h *Holder) removeLocked(name string) bool {
	it, ok := h.items[name]
	delete(h.items, name)
	delete(h.found, name)
	if it.fd >= 0 && ok {
		unix.Close(it.fd)
	}
	return ok
}

// Settle drops what the daemon before has left and nobody has taken.
func (h *Holder) Settle() {
	if h == nil {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for name := range maps.Clone(h.found) {
		h.dropLocked(name)
	}
}

// Close leaves the holder alone with what it has; one that has nothing ends.
func (h *Holder) Close() error {
	if h == nil {
		return nil
	}
	return h.close(false)
}

// End ends the holder, too. Nothing of it is left when it returns.
func (h *Holder) End() error {
	if h == nil {
		return nil
	}
	return h.close(true)
}

func (h *Holder) close(all bool) error {
	h.mu.Lock()
	if h.closed {
		h.mu.Unlock()
		return nil
	}
	all = all || len(h.items) == 0
	h.closed, h.all = true, all
	close(h.stop)
	h.forgetLocked()
	switch {
	case h.conn == nil:
	case all && send(h.conn, end, -1) == nil:
		h.conn.SetReadDeadline(time.Now().Add(5 * patience)) // follow ends with the holder
	default:
		h.conn.Close()
	}
	h.mu.Unlock()
	h.watch.Wait()
	return nil
}
