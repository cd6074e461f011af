package host

import (
	"encoding/binary"
	"fmt"
	"sync"
	"syscall"
	"unsafe"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// conn is one rtnetlink or sock_diag socket. Requests on it take turns; it
// stays in the namespace it was opened in.
type conn struct {
	port uint32 // by which the kernel answers it

	mu  sync.Mutex // guards what follows, and a request with its answers
	fd  int        // -1: closed
	seq uint32
}

// answerSize is what the kernel puts into one answer at most, and a dump into each of its parts.
const answerSize = 64 << 10

// answers are buffers that the kernel writes into: one for each request would be more garbage
// than all else that a start makes.
var answers = sync.Pool{New: func() any { return new([answerSize]byte) }}

// dial opens a conn in the namespace of the calling thread.
func dial(family int) (*conn, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, family)
	if err != nil {
		return nil, fmt.Errorf("netlink: %w", err)
	}
	c := &conn{fd: fd}
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		c.close()
		return nil, fmt.Errorf("netlink: bind: %w", err)
	}
	at, err := unix.Getsockname(fd)
	if err != nil {
		c.close()
		return nil, fmt.Errorf("netlink: %w", err)
	}
	c.port = at.(*unix.SockaddrNetlink).Pid
	// Extended acknowledgements say in words what the kernel refuses. Linux
	// without them (before 4.12) is not served, so the error is of no interest.
	_ = unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_EXT_ACK, 1)
	return c, nil
}

// close waits for a request that is under way. Later ones fail.
func (c *conn) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	unix.Close(c.fd)
	c.fd = -1
}

// ask sends a request, and returns the answers of one type, 0: all. They are the caller's.
func (c *conn) ask(typ, flags int, answer uint16, data []nl.NetlinkRequestData) (msgs [][]byte, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.seq++
	req := nl.NetlinkRequest{
		NlMsghdr: unix.NlMsghdr{Type: uint16(typ), Flags: unix.NLM_F_REQUEST | uint16(flags), Seq: c.seq},
		Data:     data,
	}
	if err := unix.Sendto(c.fd, req.Serialize(), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return nil, err
	}
	buf := answers.Get().(*[answerSize]byte)
	defer answers.Put(buf)
	interrupted := false
	for {
		part, err := c.receive(buf[:])
		if err != nil {
			return nil, err
		}
		for len(part) > 0 {
			h, body, rest, ok := nextMessage(part)
			if !ok {
				return nil, unix.EBADMSG
			}
			if part = rest; h.Seq != c.seq || h.Pid != c.port {
				continue // of a request that failed half way
			}
			interrupted = interrupted || h.Flags&unix.NLM_F_DUMP_INTR != 0
			if h.Type == unix.NLMSG_DONE || h.Type == unix.NLMSG_ERROR {
				if err := refusalOf(&h, body); err != nil {
					return nil, err
				}
				if interrupted {
					return msgs, nl.ErrDumpInterrupted
				}
				return msgs, nil
			}
			if answer == 0 || h.Type == answer {
				msgs = append(msgs, body)
			}
			if h.Flags&unix.NLM_F_MULTI == 0 && flags&unix.NLM_F_ACK == 0 {
				return msgs, nil
			}
		}
	}
}

// receive returns a copy of what the kernel has answered.
func (c *conn) receive(buf []byte) ([]byte, error) {
	for {
		n, _, err := unix.Recvfrom(c.fd, buf, 0)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return nil, err
		}
		return append([]byte(nil), buf[:n]...), nil
	}
}

// nextMessage takes the first of some messages off. rest is what follows.
func nextMessage(b []byte) (h unix.NlMsghdr, body, rest []byte, ok bool) {
	if len(b) < unix.NLMSG_HDRLEN {
		return h, nil, nil, false
	}
	h = *(*unix.NlMsghdr)(unsafe.Pointer(unsafe.SliceData(b)))
	n := int(h.Len)
	if n < unix.NLMSG_HDRLEN || n > len(b) {
		return h, nil, nil, false
	}
	return h, b[unix.NLMSG_HDRLEN:n:n], b[min(aligned(n), len(b)):], true
}

// aligned is where what follows so many bytes begins (NLMSG_ALIGN, NLA_ALIGN).
func aligned(n int) int { return (n + 3) &^ 3 }

// refusalOf is the error in an acknowledgement or at the end of a dump, with the kernel's words
// if it has any.
func refusalOf(h *unix.NlMsghdr, body []byte) error {
	if len(body) < 4 {
		return nil
	}
	n := int32(binary.NativeEndian.Uint32(body))
	if n == 0 {
		return nil
	}
	err := error(syscall.Errno(-n))
	if h.Flags&unix.NLM_F_ACK_TLVS == 0 {
		return err
	}
	// After the number comes what was asked, of which the head alone is told where
	// NLM_F_CAPPED is set, and at the end of a dump nothing.
	body = body[4:]
	if h.Type == unix.NLMSG_ERROR && len(body) >= unix.NLMSG_HDRLEN {
		asked := unix.NLMSG_HDRLEN
		if h.Flags&unix.NLM_F_CAPPED == 0 {
			asked = int(binary.NativeEndian.Uint32(body))
		}
		body = body[min(aligned(asked), len(body)):]
	}
	_ = attrs(body, 0, func(typ uint16, v []byte) {
		if typ == unix.NLMSGERR_ATTR_MSG {
			err = fmt.Errorf("%w: %s", err, text(v))
		}
	})
	return err
}
