package gen

import (
	"context"
	"encoding/binary"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// Ports on which a server answers.
const (
	BulkPort    = 7001
	PingPort    = 7002
	ConnectPort = 7003
	SourcePort  = 7004
)

// DiscardPort is where raw frames go: to nobody, they are counted at the
// interface.
const DiscardPort = 7009

// Serve starts the other end of every load on the addresses in ns; Close ends it. UDP is
// answered at PingPort.
func Serve(ctx context.Context, ns Namespace, at ...netip.Addr) (*Agent, error) {
	a, err := start(ns, Spec{Role: roleServe, At: at})
	if err != nil {
		return nil, err
	}
	if err := a.answer(ctx, 5*time.Second, nil); err != nil {
		a.Close()
		return nil, err
	}
	return a, nil
}

// serve listens on all ports and returns; the conversations go on.
func serve(at []netip.Addr) error {
	for _, addr := range at {
		if err := serveAt(addr); err != nil {
			return err
		}
	}
	return nil
}

func serveAt(addr netip.Addr) error {
	for port, talk := range map[uint16]func(int){BulkPort: drain, PingPort: echo, ConnectPort: once, SourcePort: source} {
		fd, err := listen(netip.AddrPortFrom(addr, port))
		if err != nil {
			return err
		}
		go accept(fd, talk, port == ConnectPort)
	}
	return serveUDP(netip.AddrPortFrom(addr, PingPort))
}

// accept hands connections to talk. Short ones are served by the accepting
// thread: a thread each would be most of their cost.
func accept(listener int, talk func(fd int), short bool) {
	lockThread()
	for {
		fd, _, err := unix.Accept4(listener, unix.SOCK_CLOEXEC)
		if err == unix.EINTR || err == unix.ECONNABORTED {
			continue
		}
		if err != nil {
			return
		}
		if short {
			talk(fd)
			continue
		}
		go func() {
			lockThread() // and never unlocked: the thread ends with it
			talk(fd)
		}()
	}
}

// receipt is what drain sends back: bytes received and nanoseconds from the
// first of them to the end of the stream, big endian.
const receiptSize = 16

// drain reads to the end of the stream and answers with a receipt.
func drain(fd int) {
	defer unix.Close(fd)
	buf := make([]byte, 256<<10)
	var total uint64
	var first time.Time
	for {
		n, err := read(fd, buf)
		if err != nil {
			return
		}
		if n == 0 {
			break
		}
		if total == 0 {
			first = time.Now()
		}
		total += uint64(n)
	}
	var receipt [receiptSize]byte
	binary.BigEndian.PutUint64(receipt[:], total)
	binary.BigEndian.PutUint64(receipt[8:], uint64(time.Since(first)))
	write(fd, receipt[:])
}

// source sends until the other end closes.
func source(fd int) {
	defer unix.Close(fd)
	if limit(fd) != nil {
		return
	}
	for buf := make([]byte, writeSize); ; {
		if _, err := write(fd, buf); err != nil {
			return
		}
	}
}

// echo returns every byte as it comes.
func echo(fd int) {
	defer unix.Close(fd)
	unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
	var b [1]byte
	for {
		if n, err := read(fd, b[:]); n == 0 || err != nil {
			return
		}
		if _, err := write(fd, b[:]); err != nil {
			return
		}
	}
}

// once answers one byte and closes first, as an HTTP/1.0 server does, so that
// TIME_WAIT and its port stay on this side and the client never runs out.
func once(fd int) {
	defer unix.Close(fd)
	if limit(fd) != nil {
		return
	}
	var b [1]byte
	if n, err := read(fd, b[:]); n == 0 || err != nil {
		return
	}
	write(fd, b[:])
}
