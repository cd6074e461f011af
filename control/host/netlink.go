package host

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// dialAt opens a conn in the namespace fd. A thread of its own enters it and
// comes back; if it cannot come back it ends with its goroutine, so that no other
// goroutine is ever run in the wrong namespace.
func dialAt(fd, family int) (c *conn, err error) {
	var wg sync.WaitGroup
	wg.Go(func() {
		runtime.LockOSThread()
		own, err1 := os.Open("/proc/thread-self/ns/net")
		if err1 != nil {
			runtime.UnlockOSThread()
			err = err1
			return
		}
		defer own.Close()
		if err1 := unix.Setns(fd, unix.CLONE_NEWNET); err1 != nil {
			runtime.UnlockOSThread()
			err = fmt.Errorf("enter the network namespace: %w", err1)
			return
		}
		c, err = dial(family)
		if unix.Setns(int(own.Fd()), unix.CLONE_NEWNET) == nil {
			runtime.UnlockOSThread()
		}
	})
	wg.Wait()
	return c, err
}

// serves reports whether the kernel itself has a socket of a netlink family. To open one
// of a family that it does not serve makes it look for a module.
func (h *Host) serves(family int) bool {
	b, err := io.ReadAll(io.NewSectionReader(h.families, 0, 1<<20))
	return err == nil && servesFamily(b, family)
}

// servesFamily reads what netlink_seq_show writes: a pointer, the family, the port ID, which
// is 0 of the kernel's own, and more.
func servesFamily(b []byte, family int) bool {
	for line := range bytes.Lines(b) {
		if f := strings.Fields(string(line)); len(f) > 2 && f[1] == strconv.Itoa(family) && f[2] == "0" {
			return true
		}
	}
	return false
}

// do sends one order and waits for its acknowledgement.
func (c *conn) do(typ, flags int, data ...nl.NetlinkRequestData) error {
	_, err := c.ask(typ, flags|unix.NLM_F_ACK, 0, data)
	return err
}

// get asks one question that has one answer of type answer.
func (c *conn) get(typ, answer int, data ...nl.NetlinkRequestData) ([]byte, error) {
	msgs, err := c.ask(typ, 0, uint16(answer), data)
	if err != nil {
		return nil, err
	}
	if len(msgs) == 0 {
		return nil, unix.ENODATA
	}
	return msgs[0], nil
}

// dump reads a whole table. The kernel marks a dump during which the table
// changed; that is read again, and the last one taken as it is: what it lacks
// arrives as an event.
func (c *conn) dump(typ, answer int, data ...nl.NetlinkRequestData) (msgs [][]byte, err error) {
	for range 4 {
		msgs, err = c.ask(typ, unix.NLM_F_DUMP, uint16(answer), data)
		if !errors.Is(err, nl.ErrDumpInterrupted) {
			return msgs, err
		}
	}
	return msgs, nil
}

// raw is a message part that is bytes already.
type raw []byte

func (r raw) Len() int          { return len(r) }
func (r raw) Serialize() []byte { return r }

func attr(typ int, value []byte) *nl.RtAttr { return nl.NewRtAttr(typ, value) }

func attr32(typ int, v uint32) *nl.RtAttr { return nl.NewRtAttr(typ, nl.Uint32Attr(v)) }

func attrString(typ int, s string) *nl.RtAttr { return nl.NewRtAttr(typ, nl.ZeroTerminated(s)) }

func attrAddr(typ int, a netip.Addr) *nl.RtAttr { return nl.NewRtAttr(typ, a.AsSlice()) }

// attrs calls fn for each attribute behind a header of n bytes, for none where one of them is
// malformed. Values are borrowed from msg.
func attrs(msg []byte, n int, fn func(typ uint16, value []byte)) error {
	if len(msg) < n {
		return unix.EINVAL
	}
	for _, check := range []bool{true, false} {
		for b := msg[n:]; len(b) >= unix.SizeofRtAttr; {
			size := int(binary.NativeEndian.Uint16(b))
			if size < unix.SizeofRtAttr || size > len(b) {
				return unix.EINVAL
			}
			if !check {
				fn(binary.NativeEndian.Uint16(b[2:])&^(unix.NLA_F_NESTED|unix.NLA_F_NET_BYTEORDER), b[unix.SizeofRtAttr:size])
			}
			b = b[min(aligned(size), len(b)):]
		}
	}
	return nil
}

func addrOf(value []byte) netip.Addr {
	a, _ := netip.AddrFromSlice(value)
	return a
}

func family(a netip.Addr) int {
	if a.Is4() {
		return unix.AF_INET
	}
	return unix.AF_INET6
}

func text(value []byte) string { return unix.ByteSliceToString(value) }
