package host

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// DelLink removes an interface. index, unless 0, must be its index: a name that
// has meanwhile been given to another interface is left alone. That there is none
// is no error.
//
// The kernel waits tens of milliseconds for RCU when an interface goes.
// Concurrent calls share that wait.
func (h *Host) DelLink(name string, index int) error {
	l, err := h.route.link(name, index)
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	if l.Name != name {
		return nil
	}
	return h.doomed.remove(l)
}

// doomed are the interfaces to remove. One goroutine removes them, and those
// that arrive while it waits for the kernel go together in the next round.
type doomed struct {
	// A socket of its own: the requests of others need not wait as well.
	conn  *conn
	group uint32 // interface group that nobody else uses: a random number

	mu      sync.Mutex // guards what follows
	waiting []removal
	running bool
}

type removal struct {
	link Link
	done chan<- error
}

func newDoomed() *doomed { return &doomed{group: rand.Uint32() | 1<<31} }

func (d *doomed) remove(l Link) error {
	done := make(chan error, 1)
	d.mu.Lock()
	d.waiting = append(d.waiting, removal{l, done})
	if !d.running {
		d.running = true
		go d.run()
	}
	d.mu.Unlock()
	return <-done
}

func (d *doomed) run() {
	for {
		d.mu.Lock()
		round := d.waiting
		d.waiting = nil
		d.running = len(round) > 0
		d.mu.Unlock()
		if len(round) == 0 {
			return
		}
		together := len(round) > 1 && d.removeGroup(round) == nil
		for _, r := range round {
			if together {
				r.done <- nil
			} else {
				r.done <- d.conn.delLink(r.link.Name, r.link.Index)
			}
		}
	}
}

// removeGroup removes several interfaces with one order. The kernel removes
// either all of a group or, when it refuses one, none.
func (d *doomed) removeGroup(round []removal) error {
	for _, r := range round {
		err := d.conn.setLink(r.link.Index, 0, 0, attr32(unix.IFLA_GROUP, d.group))
		if err != nil && !errors.Is(err, unix.ENODEV) {
			return err
		}
	}
	err := d.conn.do(unix.RTM_DELLINK, 0, nl.NewIfInfomsg(unix.AF_UNSPEC), attr32(unix.IFLA_GROUP, d.group))
	if errors.Is(err, unix.ENODEV) { // all gone by themselves
		return nil
	}
	return err
}

func (c *conn) delLink(name string, index int) error {
	msg := nl.NewIfInfomsg(unix.AF_UNSPEC)
	msg.Index = int32(index)
	err := c.do(unix.RTM_DELLINK, 0, msg)
	if err != nil && !errors.Is(err, unix.ENODEV) {
		return fmt.Errorf("remove interface %s: %w", name, err)
	}
	return nil
}
