package port

import (
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/vswitch/vswitch/dataplane/flowmap"
)

// Kind says what a Descriptor describes.
type Kind uint8

const (
	KindPacket Kind = iota + 1 // a Socket
	KindTAP                    // a queue of a TAP device
	kinds
)

// Descriptor is a port as it crosses the door of the data path: numbers, descriptors and
// memory, from which the other side makes a port of its own. The descriptors are borrowed
// for the call that has them; the port has duplicates, as it would have in another process.
type Descriptor struct {
	Kind  Kind
	Name  string // for messages
	FD    int    // of the socket, or of the device's queue
	Slots int    // of the ring that a socket has
	// Retaken says that a process before has read from the socket, and left it deaf. The port
	// begins with what comes from now on.
	Retaken bool
	// Packets: the device speaks IP without a header of the link.
	Packets bool
	// Filter is the program that the socket gets with the port. 0 or less: none, or the socket
	// has it.
	Filter int
	Queue  int            // frames that a TAP's queue holds, with Tally
	Stats  int            // of a TAP: net/dev of its namespace
	Tally  *flowmap.Tally // counted by the kernel's programs; nil: they do not look
}

// openers are the kinds that this program can open. A kind of port is added by Register.
var openers = map[Kind]func(Descriptor) (Port, error){
	KindPacket: func(d Descriptor) (Port, error) { return openPacket(d) },
	KindTAP:    func(d Descriptor) (Port, error) { return openTAP(d) },
}

// Register adds a kind of port, in an init function, and returns its number.
func Register(open func(Descriptor) (Port, error)) Kind {
	k := kinds + Kind(len(openers))
	openers[k] = open
	return k
}

// Open makes the port that d describes.
func Open(d Descriptor) (Port, error) {
	open := openers[d.Kind]
	if open == nil {
		return nil, fmt.Errorf("port %s: kind %d: this program has no such port", d.Name, d.Kind)
	}
	return open(d)
}

func duplicate(fd int) (int, error) {
	fd, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("duplicate its descriptor: %w", err)
	}
	return fd, nil
}
