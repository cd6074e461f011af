package relay

import (
	"encoding/json"
	"errors"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// version is that of the messages. A relay of another version is ended by the next daemon, with what it
// carries.
const version = "1"

// order is what the daemon tells a relay: one change, and then one question or wish.
type order struct {
	// Drop and Add are ways that are there no more, and others. With All there are no others. More: the
	// next order has another part of the change.
	Drop []Way `json:"drop,omitempty"`
	Add  []Way `json:"add,omitempty"`
	All  bool  `json:"all,omitempty"`
	More bool  `json:"more,omitempty"`
	// Ask is answered with the same number, when all before has been done.
	Ask uint64 `json:"ask,omitempty"`
	// Finish says that another relay takes what is new. It gets the sessions of UDP by the
	// descriptor that comes with this.
	Finish bool `json:"finish,omitempty"`
	// Heir says, with the end of the first change, that sessions of another relay come by the descriptor.
	Heir bool `json:"heir,omitempty"`
}

// changes reports whether an order has ways.
func (o *order) changes() bool { return o.All || o.More || len(o.Drop)+len(o.Add) > 0 }

// report is what a relay tells the daemon.
type report struct {
	Asked   uint64   `json:"asked,omitempty"`
	Stats   Stats    `json:"stats"` // where Asked is set
	Reached *Reached `json:"reached,omitempty"`
	Failing string   `json:"failing,omitempty"` // why no connection is accepted, or why there is no relay
}

// mostWays are in one order, which is at most maxMessage long.
const (
	mostWays   = 500
	maxMessage = 256 << 10
)

// socketBuffer is what may be told and is not read yet, as far as the kernel lets it be.
const socketBuffer = 4 << 20

// patience is how long the other end may take. It has time.
const patience = 5 * time.Second

// write sends a message, with a duplicate of a file unless that is nil.
func write(c *net.UnixConn, v any, f *os.File, within time.Duration) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	var rights []byte
	if f != nil {
		rights = unix.UnixRights(int(f.Fd()))
	}
	c.SetWriteDeadline(time.Now().Add(within))
	_, _, err = c.WriteMsgUnix(b, rights, nil)
	return err
}

// read waits for the next message, which it puts into v. buf is for it alone. The file that came with it is
// the caller's, or nil.
func read(c *net.UnixConn, buf []byte, v any) (*os.File, error) {
	oob := make([]byte, unix.CmsgSpace(4))
	n, oobn, flags, _, err := c.ReadMsgUnix(buf, oob)
	if err != nil {
		return nil, err
	}
	f := fileOf(oob[:oobn])
	switch {
	case n == 0:
		err = net.ErrClosed // a message has a byte
	case flags&(unix.MSG_TRUNC|unix.MSG_CTRUNC) != 0:
		err = errors.New("a message is too long")
	default:
		err = json.Unmarshal(buf[:n], v)
	}
	if err != nil && f != nil {
		f.Close()
		f = nil
	}
	return f, err
}

func fileOf(oob []byte) *os.File {
	list, err := unix.ParseSocketControlMessage(oob)
	if err != nil || len(list) == 0 {
		return nil
	}
	fds, err := unix.ParseUnixRights(&list[0])
	if err != nil || len(fds) == 0 {
		return nil
	}
	return os.NewFile(uintptr(fds[0]), "given") // there is room for one
}

// connOf is a connection of whole messages, in place of the file.
func connOf(f *os.File) (*net.UnixConn, error) {
	c, err := net.FileConn(f)
	f.Close()
	if err != nil {
		return nil, err
	}
	u, ok := c.(*net.UnixConn)
	if !ok {
		c.Close()
		return nil, errors.New("no unix socket")
	}
	return u, nil
}
