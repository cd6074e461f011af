package relay

import (
	"cmp"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/vswitch/vswitch/control/anyport"
	"github.com/vswitch/vswitch/control/bare"
)

// Holder keeps descriptors by name (control/holder).
type Holder interface {
	Take(name string) (fd int, value string, ok bool)
	Put(name string, fd int, value string) error
	Drop(name string)
}

// nobody keeps nothing.
type nobody struct{}

func (nobody) Take(string) (int, string, bool) { return -1, "", false }
func (nobody) Put(string, int, string) error   { return nil }
func (nobody) Drop(string)                     {}

// program is what a program's file is known by: as long as a process has it no other has these numbers.
func program() (string, error) {
	var st syscall.Stat_t
	if err := syscall.Stat("/proc/self/exe", &st); err != nil {
		return "", &os.PathError{Op: "stat", Path: "/proc/self/exe", Err: err}
	}
	return fmt.Sprintf("%d:%d", st.Dev, st.Ino), nil
}

// The names of a relay and of its sockets with the holder, and what the value of a door may end with.
func doorOf(slot int) string      { return fmt.Sprintf("relay %d door", slot) }
func processOf(slot int) string   { return fmt.Sprintf("relay %d process", slot) }
func heldAs(socket string) string { return "relay " + socket }

// value is what the next daemon has to know of a relay, with its door.
func (m *remote) value() string {
	s := fmt.Sprintf("%s %s %d", version, m.program, m.born)
	if m.finishes {
		s += " finishes"
	}
	return s
}

// find connects with the relays of daemons before.
func (c *Client) find() {
	for slot := range mostRelays {
		door, value, ok := c.cfg.Holder.Take(doorOf(slot))
		pid, _, ok2 := c.cfg.Holder.Take(processOf(slot))
		m := &remote{slot: slot, pid: pid}
		f := strings.Fields(value)
		var err error
		if ok {
			m.door, err = connOf(os.NewFile(uintptr(door), "door"))
		}
		if !ok || !ok2 || err != nil { // a daemon was killed while it entered or took them out
			if m.door != nil {
				m.door.Close()
			}
			if pid >= 0 {
				syscall.Close(pid)
			}
			c.cfg.Holder.Drop(doorOf(slot))
			c.cfg.Holder.Drop(processOf(slot))
			continue
		}
		if len(f) < 3 || f[0] != version || bare.Ended(pid, 0) || m.connect() != nil {
			c.dropLocked(m)
			continue
		}
		m.program, m.finishes = f[1], len(f) > 3
		m.born, _ = strconv.ParseInt(f[2], 10, 64)
		c.finishing = append(c.finishing, m)
	}
	slices.SortFunc(c.finishing, func(a, b *remote) int { return cmp.Compare(a.born, b.born) })
}

// listen opens the sockets and reports whether a relay that was found has all of them.
func (c *Client) listen() (whole bool, err error) {
	left := 0
	c.sockets, err = anyport.Listen(receiveBuffer, func(name string) *os.File {
		fd, _, ok := c.cfg.Holder.Take(heldAs(name))
		if !ok {
			return nil
		}
		if c.cfg.Stale && len(c.finishing) == 0 && strings.HasPrefix(name, "udp") {
			syscall.Close(fd)
			return nil // another takes its place
		}
		left++
		return os.NewFile(uintptr(fd), name)
	})
	if err != nil {
		return false, err
	}
	all := 0
	err = c.sockets.Each(func(name string, f *os.File) error {
		all++
		return c.cfg.Holder.Put(heldAs(name), int(f.Fd()), "")
	})
	return left == all, err
}

func (c *Client) keepLocked(m *remote) error {
	f, err := m.door.File()
	if err != nil {
		return err
	}
	defer f.Close()
	return c.cfg.Holder.Put(doorOf(m.slot), int(f.Fd()), m.value())
}

// dropLocked ends a process with all that it carries.
func (c *Client) dropLocked(m *remote) {
	c.cfg.Holder.Drop(doorOf(m.slot))
	c.cfg.Holder.Drop(processOf(m.slot))
	_ = m.end()
}
