package relay

import (
	"container/list"
	"net"
	"net/netip"
	"sync"
	"time"
)

// flow names a UDP session: who asked which published port.
type flow struct{ client, local netip.AddrPort }

// session is a flow and the socket that speaks to the container for it.
type session struct {
	flow flow
	conn *net.UDPConn // connected to the container
	used time.Time    // guarded by sessions.mu
}

// sessions holds the live sessions. Its methods are safe for concurrent use.
type sessions struct {
	max int

	mu     sync.Mutex // guards what follows
	closed bool
	byFlow map[flow]*list.Element
	order  list.List // of *session, last used first
}

func newSessions(limit int) *sessions {
	return &sessions{max: limit, byFlow: make(map[flow]*list.Element)}
}

func (t *sessions) len() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.order.Len()
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
	s.used = now
	t.order.MoveToFront(e)
	return s
}

// add enters a session, in place of the idlest when there are too many. It
// reports false, and does nothing, after close.
func (t *sessions) add(s *session, now time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return false
	}
	if t.order.Len() >= t.max {
		t.removeLocked(t.order.Back())
	}
	s.used = now
	t.byFlow[s.flow] = t.order.PushFront(s)
	return true
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
	for e := t.order.Back(); e != nil && e.Value.(*session).used.Before(since); e = t.order.Back() {
		t.removeLocked(e)
	}
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
	_ = s.conn.Close()
}
