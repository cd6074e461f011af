package host

import (
	"errors"
	"fmt"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// Netns is an open network namespace, with a netlink socket in it from its first
// use. While it is open the namespace lives on, even after its last process and
// mount: close it as soon as the work is done. Safe for concurrent use.
type Netns struct {
	path string // for messages
	fd   int
	stat unix.Stat_t

	mu     sync.Mutex // guards what follows
	conn   *conn
	closed bool
}

// OpenNetns opens a namespace by path (/run/netns/web, /proc/123/ns/net). The
// error wraps ErrNoNetns when nothing, or something else, is there.
func OpenNetns(path string) (*Netns, error) {
	// O_NONBLOCK: a FIFO at that path would hold us until somebody writes.
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	switch {
	case errors.Is(err, os.ErrNotExist), errors.Is(err, unix.ENOTDIR), errors.Is(err, unix.ESRCH):
		return nil, fmt.Errorf("%w at %s: check --netns, or make one with ip netns add", ErrNoNetns, path)
	case err != nil:
		return nil, fmt.Errorf("network namespace %s: %w", path, err)
	}
	n := &Netns{path: path, fd: fd}
	kind, err := unix.IoctlRetInt(fd, unix.NS_GET_NSTYPE)
	if err != nil || kind != unix.CLONE_NEWNET {
		_ = n.Close()
		return nil, fmt.Errorf("%w: %s is something else: check --netns", ErrNoNetns, path)
	}
	if err := unix.Fstat(fd, &n.stat); err != nil {
		_ = n.Close()
		return nil, fmt.Errorf("network namespace %s: %w", path, err)
	}
	return n, nil
}

// OpenNetnsPID opens the network namespace of a process.
func OpenNetnsPID(pid int) (*Netns, error) {
	n, err := OpenNetns(fmt.Sprintf("/proc/%d/ns/net", pid))
	if errors.Is(err, ErrNoNetns) {
		return nil, fmt.Errorf("%w: process %d does not run: check --pid", ErrNoNetns, pid)
	}
	return n, err
}

// ID names the namespace for as long as it exists: device and inode of the nsfs
// file. An inode is given again after the namespace is gone.
func (n *Netns) ID() (dev, inode uint64) { return uint64(n.stat.Dev), n.stat.Ino }

// FD is the namespace's descriptor, borrowed until Close.
func (n *Netns) FD() int { return n.fd }

// Close gives the namespace and its socket back.
func (n *Netns) Close() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed {
		return nil
	}
	n.closed = true
	if n.conn != nil {
		n.conn.close()
	}
	return unix.Close(n.fd)
}

// dial returns the namespace's netlink socket.
func (n *Netns) dial() (*conn, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed {
		return nil, fmt.Errorf("network namespace %s: %w", n.path, os.ErrClosed)
	}
	if n.conn == nil {
		c, err := dialAt(n.fd, unix.NETLINK_ROUTE)
		if err != nil {
			return nil, fmt.Errorf("network namespace %s: %w", n.path, err)
		}
		n.conn = c
	}
	return n.conn, nil
}

// IsHost reports whether n is the namespace of the process itself.
func (h *Host) IsHost(n *Netns) bool {
	return n.stat.Dev == h.ns.stat.Dev && n.stat.Ino == h.ns.stat.Ino
}
