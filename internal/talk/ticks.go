package talk

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vswitch/vswitch/internal/netlab"
)

// Size is the payload of every tick, by which frames are known.
const Size = 700

// patience is how long a tick waits for its echo.
const patience = 20 * time.Second

// Ticks is a conversation with an echo: each tick waits for the echo of the one before.
type Ticks struct {
	What string
	Conn net.Conn // of who ticks

	heard atomic.Int64
	stop  func()
	close func()
	done  chan struct{}
	err   error // once done is closed
}

// Begin begins a conversation with an echo. It lasts until the end of the test, End or Close.
func Begin(t testing.TB, what string, from *netlab.NS, network, at string) *Ticks {
	t.Helper()
	c, err := Dial(from, network, at)
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	return tick(t, what, c, func() { c.Close() })
}

// Answered begins a connection in which the server ticks and the client is the echo. The
// server listens at port, to which the address at leads.
func Answered(t testing.TB, what string, from *netlab.NS, at string, server *netlab.NS, port string) *Ticks {
	t.Helper()
	near, far, err := Pair(from, at, server, port)
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	echoed := make(chan struct{})
	go func() {
		defer close(echoed)
		_, _ = io.Copy(near, near)
		near.Close()
	}()
	return tick(t, what, far, func() {
		near.Close()
		far.Close()
		<-echoed
	})
}

func tick(t testing.TB, what string, c net.Conn, closes func()) *Ticks {
	end := make(chan struct{})
	k := &Ticks{What: what, Conn: c, stop: sync.OnceFunc(func() { close(end) }), close: closes, done: make(chan struct{})}
	t.Cleanup(k.Close)
	go func() {
		defer close(k.done)
		k.err = k.run(end)
	}()
	return k
}

// Pair are both ends of a TCP connection.
func Pair(from *netlab.NS, at string, server *netlab.NS, port string) (near, far net.Conn, err error) {
	l, err := server.Listen("tcp", ":"+port)
	if err != nil {
		return nil, nil, err
	}
	defer l.Close()
	if near, err = Dial(from, "tcp", at); err != nil {
		return nil, nil, err
	}
	if far, err = l.Accept(); err != nil {
		near.Close()
	}
	return near, far, err
}

// Dial connects, and tries again for a while: an address may be on its way.
func Dial(from *netlab.NS, network, at string) (c net.Conn, err error) {
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		left := time.Until(deadline)
		if left < 0 {
			return nil, err
		}
		if c, err = from.Dial(network, at, left); err == nil {
			return c, nil
		}
	}
}

func (k *Ticks) run(end <-chan struct{}) error {
	in, out := make([]byte, Size), make([]byte, Size)
	for n := uint64(1); ; n++ {
		select {
		case <-end:
			return nil
		case <-time.After(5 * time.Millisecond):
		}
		binary.BigEndian.PutUint64(out, n)
		if _, err := k.Conn.Write(out); err != nil {
			return err
		}
		k.Conn.SetReadDeadline(time.Now().Add(patience))
		if _, err := io.ReadFull(k.Conn, in); err != nil {
			return fmt.Errorf("tick %d: %w", n, err)
		}
		if got := binary.BigEndian.Uint64(in); got != n {
			return fmt.Errorf("tick %d was answered by %d", n, got)
		}
		k.heard.Add(1)
	}
}

// Heard is how many ticks have been answered.
func (k *Ticks) Heard() int64 { return k.heard.Load() }

// Ended reports whether the conversation has failed.
func (k *Ticks) Ended() bool {
	select {
	case <-k.done:
		return true
	default:
		return false
	}
}

// End ends the conversation, and leaves the connection. It returns why it has failed.
func (k *Ticks) End() error {
	k.stop()
	<-k.done
	return k.err
}

// Close ends the connection, too.
func (k *Ticks) Close() {
	k.stop()
	k.close()
	<-k.done
}
