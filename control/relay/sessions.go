package relay

import (
	"container/list"
	"errors"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vswitch/vswitch/control/places"
)

// flow names a UDP session: who asked which published port.
type flow struct{ client, local netip.AddrPort }

// session is a flow and the socket that speaks to the container for it.
type session struct {
	flow flow
	who  User
	to   netip.AddrPort // of the container
	conn socket         // connected to that
	at   uint32         // its place
	last time.Time      // when it was used; guarded by sessions.mu
}

type socket interface {
	net.Conn
	syscall.Conn
}

// send gives the container a datagram, or fails at once: net.Conn's Write waits without end
// while the socket's buffer is full, and every session with it.
func (s *session) send(payload []byte) error {
	raw, err := s.conn.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = raw.Write(func(fd uintptr) bool {
		// The first attempt may only report that an earlier one was refused.
		if _, failed = unix.Write(int(fd), payload); failed != nil && failed != unix.EAGAIN {
			_, failed = unix.Write(int(fd), payload)
		}
		return true
	})
	return errors.Join(err, failed)
}

// Used implements places.Guest, in microseconds.
func (s *session) Used() uint32 { return uint32(s.last.Sub(began).Microseconds()) }

// sessions holds the live sessions. Its methods are safe for concurrent use.
type sessions struct {
	mu     sync.Mutex // guards what follows
	closed bool
	places *places.Places[User] // of *session
	byFlow map[flow]*list.Element
	order  list.List // of *session, last used first
}

func newSessions(limit int) *sessions {
	return &sessions{places: places.New[User](limit), byFlow: make(map[flow]*list.Element)}
}

// get returns the session of a flow, nil if there is none.
func (t *sessions) get(f flow, now time.Time) *session {
	t.mu.Lock()
	defer t.mu.Unlock()
	e, ok := t.byFlow[f]
	if !ok {
		return nil
	}
	return t.touchLocked(e, now)
}

// touch says that a session was used.
func (t *sessions) touch(s *session, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if e, ok := t.byFlow[s.flow]; ok && e.Value == s {
		t.touchLocked(e, now)
	}
}

func (t *sessions) touchLocked(e *list.Element, now time.Time) *session {
	s := e.Value.(*session)
	s.last = now
	t.order.MoveToFront(e)
	return s
}

// add enters a session, in the place of another when there are too many, and says whether its
// user had all that one may have. It reports false for ok, and does nothing,
// after close.
func (t *sessions) add(s *session, now time.Time) (full, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return false, false
	}
	s.last = now
	full = t.places.Full(s.who)
	at, gave := t.places.Take(s, s.who, places.Open)
	s.at = at
	if gave, ok := gave.(*session); ok {
		t.removeLocked(t.byFlow[gave.flow])
	}
	t.byFlow[s.flow] = t.order.PushFront(s)
	return full, true
}

// remove ends a session.
func (t *sessions) remove(s *session) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if e, ok := t.byFlow[s.flow]; ok && e.Value == s {
		t.removeLocked(e)
	}
}

// expire ends the sessions that were not used since.
func (t *sessions) expire(since time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for e := t.order.Back(); e != nil && e.Value.(*session).last.Before(since); e = t.order.Back() {
		t.removeLocked(e)
	}
}

// removeIf ends the sessions that are gone.
func (t *sessions) removeIf(gone func(*session) bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for e := t.order.Front(); e != nil; {
		this := e
		e = e.Next()
		if gone(this.Value.(*session)) {
			t.removeLocked(this)
		}
	}
}

// all are the sessions, last used first.
func (t *sessions) all() (list []*session) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for e := t.order.Front(); e != nil; e = e.Next() {
		list = append(list, e.Value.(*session))
	}
	return list
}

// close ends every session for good.
func (t *sessions) close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closed = true
	for e := t.order.Back(); e != nil; e = t.order.Back() {
		t.removeLocked(e)
	}
}

// removeLocked closes the socket, which ends the session's goroutine.
func (t *sessions) removeLocked(e *list.Element) {
	s := t.order.Remove(e).(*session)
	delete(t.byFlow, s.flow)
	t.places.Leave(s.at, s)
	_ = s.conn.Close()
}
