package host

import (
	"fmt"
	"sync"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// reading is one dump of the host's links. It takes the kernel 15 ms where there are a thousand
// veths: for each it looks for the number of the other end's namespace among all of them.
type reading struct {
	read  func() ([][]byte, error)
	links func() ([]Link, error)
}

func newReading(read func() ([][]byte, error)) *reading {
	r := &reading{read: sync.OnceValues(read)}
	r.links = sync.OnceValues(func() ([]Link, error) {
		msgs, err := r.read()
		return parseLinks(msgs), err
	})
	return r
}

const skipStats = 1 << 3 // RTEXT_FILTER_SKIP_STATS

// readAllLinks asks for no statistics: to count what a thousand links have carried takes as long
// as all else that is told of them.
func (c *conn) readAllLinks() ([][]byte, error) {
	msgs, err := c.dump(unix.RTM_GETLINK, unix.RTM_NEWLINK, nl.NewIfInfomsg(unix.AF_UNSPEC),
		attr32(unix.IFLA_EXT_MASK, skipStats))
	if err != nil {
		return nil, fmt.Errorf("read the interfaces: %w", err)
	}
	return msgs, nil
}

// ReadAhead begins to read the links for who calls ReadOnce soon, beside all else.
func (h *Host) ReadAhead() {
	r := newReading(func() ([][]byte, error) {
		c, err := dialAt(h.ns.fd, unix.NETLINK_ROUTE)
		if err != nil {
			return nil, err
		}
		defer c.close()
		return c.readAllLinks()
	})
	h.ahead.Store(r)
	h.reads.Go(func() { _, _ = r.links() })
}

// ReadOnce has Links, Tunnels and what asks for all links tell of one reading until end is
// called: at a start they are asked for again and again. Watch, which begins with Resync, tells
// of changes since.
func (h *Host) ReadOnce() (end func()) {
	r := h.ahead.Swap(nil)
	if r == nil {
		r = newReading(h.route.readAllLinks)
	}
	h.once.Store(r)
	return func() { h.once.CompareAndSwap(r, nil) }
}

// allLinks are the messages of all links, which nobody changes.
func (h *Host) allLinks() ([][]byte, error) {
	if r := h.once.Load(); r != nil {
		return r.read()
	}
	return h.route.readAllLinks()
}
