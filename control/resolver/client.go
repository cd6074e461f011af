package resolver

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"runtime"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vswitch/vswitch/control/anyport"
	"github.com/vswitch/vswitch/control/bare"
	"github.com/vswitch/vswitch/control/names"
)

// patience is how long the resolver may take to read what it is told. It has time.
const patience = 5 * time.Second

// ClientConfig is what the daemon's end needs.
type ClientConfig struct {
	// Sockets are borrowed until Close.
	Sockets *anyport.Sockets
	// Keep has the daemon's end of the socket kept open while there is no daemon, in place of the one before,
	// with which that resolver ends. nil: it ends with the daemon.
	Keep func(fd int) error
	// Changed is told when a server outside fails, or answers again. It must not block.
	Changed func(Server)
	Log     *slog.Logger
}

// Client is the daemon's end of a resolver. When its process dies it starts another, and tells it all
// again. Its methods are safe for concurrent use.
type Client struct {
	cfg  ClientConfig
	zone names.Zone

	mu     sync.Mutex // guards what follows
	conn   net.Conn   // nil: none runs
	child  *os.Process
	stats  Stats
	failed string // why the last one has ended, as it said
	closed bool

	stop  chan struct{} // closed by Close
	ended chan struct{} // closed by follow
}

// Start starts a resolver, which answers after Begin.
func Start(cfg ClientConfig) (*Client, error) {
	c := &Client{cfg: cfg, stop: make(chan struct{}), ended: make(chan struct{})}
	conn, err := c.startLocked()
	if err != nil {
		return nil, fmt.Errorf("resolver: %w", err)
	}
	c.conn = conn
	go c.follow(conn)
	return c, nil
}

// startLocked starts the process.
func (c *Client) startLocked() (net.Conn, error) {
	mine, theirs, err := bare.Socketpair(socketBuffer)
	if err != nil {
		return nil, err
	}
	defer theirs.Close()
	defer mine.Close()
	conn, err := net.FileConn(mine)
	if err != nil {
		return nil, err
	}
	p, err := bare.Command{
		Kind: command, Threads: runtime.NumCPU() / 2, Files: append([]*os.File{theirs}, c.cfg.Sockets.Files()...),
	}.Start()
	if err == nil && c.cfg.Keep != nil {
		if err = c.cfg.Keep(int(mine.Fd())); err != nil {
			_ = p.Kill()
			_, _ = p.Wait()
		}
	}
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	c.child = p // follow waits for it, nobody for one that outlives the daemon
	return conn, nil
}

// follow hears a resolver until it ends, and starts another then.
func (c *Client) follow(conn net.Conn) {
	defer close(c.ended)
	for rest := bare.NewRest(); ; {
		for buf := make([]byte, maxMessage); ; {
			n, err := conn.Read(buf)
			if err != nil || n == 0 {
				break
			}
			var r report
			if json.Unmarshal(buf[:n], &r) == nil {
				c.heard(r)
			}
		}
		conn.Close()
		c.mu.Lock()
		c.conn = nil
		closed, child := c.closed, c.child
		c.mu.Unlock()
		if closed {
			return
		}
		_ = child.Kill() // it does not read, if it has not ended
		_, _ = child.Wait()
		c.mu.Lock()
		why := c.failed
		c.mu.Unlock()
		c.cfg.Log.Warn("the resolver has ended: another takes its place", "err", why)
		for {
			if !rest.Wait(c.stop) {
				return
			}
			next, err := c.again()
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if err == nil {
				conn = next
				break
			}
			c.cfg.Log.Error("no resolver starts: containers' names are not answered", "err", err)
		}
	}
}

// again starts another process and tells it all.
func (c *Client) again() (net.Conn, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, net.ErrClosed
	}
	conn, err := c.startLocked()
	if err != nil {
		return nil, err
	}
	c.conn = conn
	networks, containers := c.zone.All()
	for i := range networks {
		c.sendLocked(message{Network: &networks[i]})
	}
	for i := range containers {
		c.sendLocked(message{Container: &containers[i]})
	}
	c.sendLocked(message{Begin: true})
	return conn, nil
}

func (c *Client) heard(r report) {
	if r.Stats != nil {
		c.mu.Lock()
		c.stats = *r.Stats
		c.mu.Unlock()
	}
	if r.Failed != "" {
		c.mu.Lock()
		c.failed = r.Failed
		c.mu.Unlock()
	}
	if r.Server != nil && c.cfg.Changed != nil {
		c.cfg.Changed(*r.Server)
	}
}

// sendLocked tells the process something. One that does not read is ended by follow.
func (c *Client) sendLocked(m message) {
	if c.conn == nil {
		return
	}
	c.conn.SetWriteDeadline(time.Now().Add(patience))
	if write(c.conn, m) != nil {
		_ = c.child.Kill()
	}
}

func (c *Client) tell(m message) {
	c.mu.Lock()
	defer c.mu.Unlock()
	m.apply(&c.zone)
	c.sendLocked(m)
}

// PutNetwork, DropNetwork, PutContainer and DropContainer tell who is called what.
func (c *Client) PutNetwork(n names.Network)     { c.tell(message{Network: &n}) }
func (c *Client) DropNetwork(id string)          { c.tell(message{DropNetwork: id}) }
func (c *Client) PutContainer(t names.Container) { c.tell(message{Container: &t}) }
func (c *Client) DropContainer(id string)        { c.tell(message{DropContainer: id}) }

// Begin says that all has been told that there is: from now on it answers.
func (c *Client) Begin() { c.tell(message{Begin: true}) }

// Stats is how it did a second ago.
func (c *Client) Stats() Stats {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.stats
}

// Close lets go of the resolver, which goes on as long as somebody keeps the socket.
func (c *Client) Close() {
	c.mu.Lock()
	c.closed = true
	close(c.stop)
	if c.conn != nil {
		c.conn.Close()
	}
	c.mu.Unlock()
	<-c.ended
}

// End ends the resolver of a daemon before by the socket that was kept for it, which it takes, and
// waits for that: its sockets have ports that a container may have published.
func End(fd int) {
	defer unix.Close(fd)
	_ = unix.Shutdown(fd, unix.SHUT_WR)
	const hangs = 3 * time.Second // then it goes on
	for buf, begun := make([]byte, maxMessage), time.Now(); time.Since(begun) < hangs; {
		_, _ = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 100)
		n, err := unix.Read(fd, buf) // what it has still said, and its end
		if n <= 0 && err != unix.EINTR && err != unix.EAGAIN {
			return
		}
	}
}
