package readers

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/vswitch/vswitch/control/places"
)

// largeHead is how many bytes of a request's head are nobody's concern: a browser sends the
// cookies of every port of the host.
const largeHead = 64 << 10

// errLargeHead ends a connection whose next request has a large head, while the reader has
// as many of those as one may have.
var errLargeHead = errors.New("as many requests with large heads as there may be are under way")

// Listener accepts connections of readers: so many at a time, of one reader half of them.
// Where no more may be, the idlest one of who has the most ends. Root on a unix socket is not
// counted.
type Listener struct {
	net.Listener
	r   *Readers
	who func(net.Conn) Reader

	rates  *rates
	mu     sync.Mutex // guards conns
	conns  *places.Places[Reader]
	opened time.Time
}

// Listen makes l a listener of readers with so many connections; who is their reader.
func (r *Readers) Listen(l net.Listener, most int, who func(net.Conn) Reader) *Listener {
	return &Listener{Listener: l, r: r, who: who, conns: places.New[Reader](most), rates: newRates(connectBurst, connectPause), opened: time.Now()}
}

// Accept implements net.Listener. Its connections are *Conn. A connection of a reader who
// connects too often is reset.
func (l *Listener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		k := &Conn{Conn: c, l: l, Reader: l.who(c)}
		k.touch()
		if k.Root() {
			return k, nil
		}
		if _, ok := l.rates.wait(k.Reader, time.Now(), 0); ok {
			l.place(k)
			return k, nil
		}
		if tcp, ok := c.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0)
		}
		_ = c.Close()
	}
}

// place gives a connection its place.
func (l *Listener) place(k *Conn) {
	l.mu.Lock()
	at, gave := l.conns.Take(k, k.Reader, places.Open)
	k.at = at
	l.mu.Unlock()
	if gave != nil {
		_ = gave.(*Conn).Conn.Close() // who waits for it hears of that and closes it
	}
}

// Conn is a connection of a reader.
type Conn struct {
	net.Conn
	Reader
	l    *Listener
	at   uint32 // its place, 0: not counted
	last atomic.Int64
	once sync.Once

	head    atomic.Int64 // bytes that came since the last request was read
	mu      sync.Mutex   // guards release
	release func()       // of a large head
}

// Context is ctx of the connection's requests, for http.Server.ConnContext.
func (c *Conn) Context(ctx context.Context) context.Context {
	return context.WithValue(With(ctx, c.Reader), connKey{}, c)
}

type connKey struct{}

// Process is the process of this host that opened the connection of a request to the API's
// socket, 0 when it is not known.
func Process(ctx context.Context) (pid int) {
	if c, ok := ctx.Value(connKey{}).(*Conn); ok {
		withCred(c.Conn, func(cred *syscall.Ucred) { pid = int(cred.Pid) })
	}
	return pid
}

// Used implements places.Guest, in milliseconds.
func (c *Conn) Used() uint32 { return uint32(c.last.Load()) }

func (c *Conn) touch() { c.last.Store(time.Since(c.l.opened).Milliseconds()) }

// Read implements net.Conn.
func (c *Conn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.touch()
	if n > 0 && c.Page && c.head.Add(int64(n)) > largeHead {
		if err := c.large(); err != nil {
			return 0, err
		}
	}
	return n, err
}

func (c *Conn) large() (err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.release != nil {
		return nil
	}
	if c.release, err = c.l.r.Take(c.Reader, Heads, 1); err != nil {
		return errLargeHead
	}
	return nil
}

// read says that a request was read and what was large in it is gone.
func (c *Conn) read() {
	c.head.Store(0)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.release != nil {
		c.release()
		c.release = nil
	}
}

// Write implements net.Conn.
func (c *Conn) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	c.touch()
	return n, err
}

// Close implements net.Conn.
func (c *Conn) Close() error {
	c.once.Do(func() {
		c.read()
		if c.at != 0 {
			c.l.mu.Lock()
			defer c.l.mu.Unlock()
			c.l.conns.Leave(c.at, c)
		}
	})
	return c.Conn.Close()
}

// Peer is the reader at the other end of a unix socket.
func Peer(c net.Conn) (who Reader) {
	withCred(c, func(cred *syscall.Ucred) { who = Reader{UID: cred.Uid, Known: true} })
	return who
}

// withCred calls fn with whom the kernel has noted at the other end of a unix socket.
func withCred(c net.Conn, fn func(*syscall.Ucred)) {
	u, ok := c.(*net.UnixConn)
	if !ok {
		return
	}
	raw, err := u.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Control(func(fd uintptr) {
		if cred, err := syscall.GetsockoptUcred(int(fd), syscall.SOL_SOCKET, syscall.SO_PEERCRED); err == nil {
			fn(cred)
		}
	})
}

// Visitor finds the readers of a TCP listener: whose is asked for the user of a socket of this
// host, such as others.SocketUsers.Of. One who may take any address of loopback is one reader
// all the same.
func Visitor(whose func(proto uint8, from, to netip.AddrPort) (uid uint32, ok bool)) func(net.Conn) Reader {
	return func(c net.Conn) Reader {
		who := Reader{Page: true}
		from, ok1 := c.RemoteAddr().(*net.TCPAddr)
		to, ok2 := c.LocalAddr().(*net.TCPAddr)
		if !ok1 || !ok2 {
			return who
		}
		if who.UID, who.Known = whose(syscall.IPPROTO_TCP, from.AddrPort(), to.AddrPort()); who.Known {
			return who
		}
		addr := from.AddrPort().Addr().Unmap().WithZone("")
		if addr.IsLoopback() {
			return who
		}
		bits := 32
		if addr.Is6() {
			bits = 64
		}
		who.From, _ = addr.Prefix(bits)
		return who
	}
}
