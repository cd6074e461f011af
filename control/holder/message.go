package holder

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// SocketName is the holder's socket in the run directory.
const SocketName = "holder.sock"

// version is that of the messages. A holder answers a version that it does not know by
// refuse, and every version knows hello and end.
const version = 1

// A message is a byte that says what it is, and text.
const (
	hello  = 'h' // version, many; answered by have, have, ..., ready
	put    = 'p' // name, value and at most one descriptor; not answered
	drop   = 'd' // name; answered by done
	end    = 'e' // remove and drop everything; answered by the end of the connection
	have   = 'v' // name, value and at most one descriptor
	haves  = 'V' // name and value of each of its descriptors; for who says many with hello
	ready  = 'r' // for how many milliseconds there was no daemon, the netns, the process
	done   = 'o' // answers drop
	refuse = 'n' // why
)

// Bounds of a message: a name, and the value that goes with it.
const maxMessage = 16 << 10

// many says that haves are understood, of so many descriptors: a message for each socket of a
// thousand containers wakes both ends a thousand times.
const (
	many    = "many"
	atOnce  = 100
	maxText = maxMessage / atOnce / 2 // of a name with its value
)

// separator is between the fields of a message.
const separator = "\x00"

// patience is how long the other end may take. It has nothing else to do.
const patience = 2 * time.Second

// message is what was received. Its descriptor is -1 when there was none, or many.
type message struct {
	kind   byte
	fields []string
	fd     int
	fds    []int // of haves
}

func (m *message) field(i int) string {
	if i < len(m.fields) {
		return m.fields[i]
	}
	return ""
}

// close closes descriptors that nobody took.
func (m *message) close() {
	for _, fd := range m.fds {
		unix.Close(fd)
	}
	m.fds = nil
	if m.fd >= 0 {
		unix.Close(m.fd)
		m.fd = -1
	}
}

func send(c *net.UnixConn, kind byte, fd int, fields ...string) error {
	if fd < 0 {
		return sendAll(c, kind, nil, fields...)
	}
	return sendAll(c, kind, []int{fd}, fields...)
}

func sendAll(c *net.UnixConn, kind byte, fds []int, fields ...string) error {
	b := append([]byte{kind}, strings.Join(fields, separator)...)
	if len(b) > maxMessage {
		return fmt.Errorf("a message of %d bytes is too long", len(b))
	}
	var rights []byte
	if len(fds) > 0 {
		rights = unix.UnixRights(fds...)
	}
	c.SetWriteDeadline(time.Now().Add(patience))
	_, _, err := c.WriteMsgUnix(b, rights, nil)
	return err
}

// receive waits for the next message; buf is for it alone.
func receive(c *net.UnixConn, buf []byte) (m message, err error) {
	oob := make([]byte, unix.CmsgSpace(4*atOnce))
	n, oobn, flags, _, err := c.ReadMsgUnix(buf, oob)
	m.fd = -1
	if err != nil {
		return m, err
	}
	m.fds = descriptors(oob[:oobn])
	switch {
	case n == 0:
		m.close()
		return m, net.ErrClosed // the end of the connection: a message has a byte
	case flags&(unix.MSG_TRUNC|unix.MSG_CTRUNC) != 0:
		m.close()
		return m, errors.New("a message is too long")
	}
	m.kind, m.fields = buf[0], strings.Split(string(buf[1:n]), separator)
	if m.kind != haves && len(m.fds) > 0 {
		first := m.fds[0]
		m.fds = m.fds[1:]
		m.close() // one at a time
		m.fd = first
	}
	return m, nil
}

func descriptors(oob []byte) (fds []int) {
	list, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil
	}
	for i := range list {
		if got, err := unix.ParseUnixRights(&list[i]); err == nil {
			fds = append(fds, got...)
		}
	}
	return fds
}

// credOf is who is at the other end. Of a holder that is who listened last: it, or, as long as it has
// not begun, the daemon that starts it.
func credOf(c *net.UnixConn) (cred *unix.Ucred, err error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return nil, err
	}
	if cerr := raw.Control(func(fd uintptr) {
		cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); cerr != nil {
		return nil, cerr
	}
	return cred, os.NewSyscallError("SO_PEERCRED", err)
}

// peer checks who is at the other end.
func peer(c *net.UnixConn) error {
	cred, err := credOf(c)
	if err != nil {
		return err
	}
	if int(cred.Uid) != os.Geteuid() {
		return fmt.Errorf("process %d of user %d is at the other end, want user %d", cred.Pid, cred.Uid, os.Geteuid())
	}
	return nil
}

// netns names the network namespace of the caller's thread. The process's is that of its
// first thread, which may be elsewhere.
func netns() (string, error) {
	const path = "/proc/thread-self/ns/net"
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return "", &os.PathError{Op: "stat", Path: path, Err: err}
	}
	return fmt.Sprintf("%d:%d", st.Dev, st.Ino), nil
}
