package netlab

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// NS is one network namespace. Its methods are safe for concurrent use, except
// Close.
type NS struct {
	name string
	fd   int
	nl   *netlink.Handle
}

// New makes an empty network namespace with lo up. The name appears in messages
// only and need not be unique.
func New(name string) (*NS, error) {
	n := &NS{name: name, fd: -1}
	if err := n.make(); err != nil {
		n.Close()
		return nil, fmt.Errorf("namespace %s: %w", name, err)
	}
	return n, nil
}

func (n *NS) make() error {
	var err error
	if n.fd, err = unshared(); err != nil {
		return err
	}
	if n.nl, err = netlink.NewHandleAt(netns.NsHandle(n.fd), unix.NETLINK_ROUTE); err != nil {
		return fmt.Errorf("netlink: %w", err)
	}
	return n.SetUp("lo")
}

// unshared returns a descriptor of a fresh network namespace.
func unshared() (fd int, err error) {
	back, err := enter(func() error { return unix.Unshare(unix.CLONE_NEWNET) })
	if err != nil {
		return -1, fmt.Errorf("unshare: %w", err)
	}
	defer back()
	return unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
}

// enter locks the goroutine to its thread and changes the thread's namespace by
// change. back undoes both. Should the thread be unable to return it stays
// locked, and the runtime ends it together with the goroutine instead of
// running others in the wrong namespace.
func enter(change func() error) (back func(), err error) {
	runtime.LockOSThread()
	home, err := unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err == nil {
		if err = change(); err != nil {
			unix.Close(home)
		}
	}
	if err != nil {
		runtime.UnlockOSThread()
		return nil, err
	}
	return func() {
		if unix.Setns(home, unix.CLONE_NEWNET) == nil {
			runtime.UnlockOSThread()
		}
		unix.Close(home)
	}, nil
}

// Do runs fn in n, on the calling goroutine, which is locked to its thread
// meanwhile. Goroutines that fn starts run outside of n; descriptors that fn
// opens stay inside.
func (n *NS) Do(fn func() error) error {
	back, err := enter(func() error { return unix.Setns(n.fd, unix.CLONE_NEWNET) })
	if err != nil {
		return n.wrap("enter", err)
	}
	defer back()
	return fn()
}

// Name returns the name given to New.
func (n *NS) Name() string { return n.name }

// Path names the namespace in the file system, for other processes too, as long
// as this process lives and n is open.
func (n *NS) Path() string { return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), n.fd) }

// FD is borrowed until Close.
func (n *NS) FD() int { return n.fd }

// Close lets go of the namespace. The kernel removes it with its last process,
// socket or descriptor.
func (n *NS) Close() error {
	if n.nl != nil {
		n.nl.Close()
		n.nl = nil
	}
	if n.fd < 0 {
		return nil
	}
	fd := n.fd
	n.fd = -1
	return os.NewSyscallError("close", unix.Close(fd))
}

// Command prepares a command that runs in n, by way of nsenter(1), which
// becomes the command: the pid is the command's own.
func (n *NS) Command(name string, arg ...string) *exec.Cmd {
	return exec.Command("nsenter", append([]string{"--net=" + n.Path(), "--", name}, arg...)...)
}

// Start starts cmd in n. It needs no other program, as a child inherits the
// namespace of the thread it was forked from. Pdeathsig must not be set: it
// would mean the end of that thread.
func (n *NS) Start(cmd *exec.Cmd) error { return n.Do(cmd.Start) }

// Listen is net.Listen inside n, for addresses in numbers. TCP is plain TCP, not
// MPTCP.
func (n *NS) Listen(network, addr string) (l net.Listener, err error) {
	var lc net.ListenConfig
	lc.SetMultipathTCP(false)
	err = n.Do(func() error {
		l, err = lc.Listen(context.Background(), network, addr)
		return err
	})
	return l, err
}

// ListenPacket is net.ListenPacket inside n, for addresses in numbers.
func (n *NS) ListenPacket(network, addr string) (c net.PacketConn, err error) {
	err = n.Do(func() error {
		c, err = net.ListenPacket(network, addr)
		return err
	})
	return c, err
}

// Dial is net.DialTimeout inside n, for addresses in numbers.
func (n *NS) Dial(network, addr string, timeout time.Duration) (c net.Conn, err error) {
	d := net.Dialer{Timeout: timeout}
	d.SetMultipathTCP(false)
	err = n.Do(func() error {
		c, err = d.Dial(network, addr)
		return err
	})
	return c, err
}

// DialFrom is Dial with a local address, "" for any: "10.0.0.2:4000", ":53".
func (n *NS) DialFrom(network, local, addr string, timeout time.Duration) (c net.Conn, err error) {
	d := net.Dialer{Timeout: timeout}
	d.SetMultipathTCP(false)
	if local != "" {
		if d.LocalAddr, err = resolve(network, local); err != nil {
			return nil, n.wrap("dial from "+local, err)
		}
	}
	err = n.Do(func() error {
		c, err = d.Dial(network, addr)
		return err
	})
	return c, err
}

func resolve(network, addr string) (net.Addr, error) {
	if len(network) >= 3 && network[:3] == "udp" {
		return net.ResolveUDPAddr(network, addr)
	}
	return net.ResolveTCPAddr(network, addr)
}

func (n *NS) wrap(what string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("namespace %s: %s: %w", n.name, what, err)
}
