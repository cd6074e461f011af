package resolver

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/vswitch/vswitch/control/anyport"
)

// receiveBuffer is the most memory that questions may wait in, per family.
const receiveBuffer = 1 << 20

// The sockets of a resolver, in the order in which its process has them.
const (
	tcp4 = iota
	tcp6
	udp4
	udp6
	raw4
	raw6
	socketCount
)

// Sockets are open for a resolver: nobody reaches them but who is led to them.
type Sockets struct{ files [socketCount]*os.File }

// Listen opens the sockets in the network namespace of the calling thread. Where the host has no IPv6
// there are none of it.
func Listen() (_ *Sockets, err error) {
	s := new(Sockets)
	defer func() {
		if err != nil {
			err = fmt.Errorf("resolver: %w", errors.Join(err, s.Close()))
		}
	}()
	for i, open := range [socketCount]func() (*os.File, error){
		func() (*os.File, error) { return listenTCP("4", "127.0.0.1:0") },
		func() (*os.File, error) { return listenTCP("6", "[::1]:0") },
		func() (*os.File, error) { return listenUDP("4", "127.0.0.1:0") },
		func() (*os.File, error) { return listenUDP("6", "[::1]:0") },
		func() (*os.File, error) { return openRaw("4") },
		func() (*os.File, error) { return openRaw("6") },
	} {
		s.files[i], err = open()
		if i%2 == 1 && (errors.Is(err, unix.EAFNOSUPPORT) || errors.Is(err, unix.EADDRNOTAVAIL)) {
			err = nil // IPv6 is off
		}
		if err != nil {
			return nil, err
		}
	}
	return s, nil
}

func listenTCP(family, addr string) (*os.File, error) {
	var lc net.ListenConfig
	lc.SetMultipathTCP(false) // which a sockmap refuses
	l, err := lc.Listen(context.Background(), "tcp"+family, addr)
	if err != nil {
		return nil, err
	}
	defer l.Close()
	return l.(*net.TCPListener).File()
}

func listenUDP(family, addr string) (*os.File, error) {
	lc := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) (err error) {
		cerr := c.Control(func(fd uintptr) {
			if unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, receiveBuffer) != nil {
				_ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, receiveBuffer)
			}
			if family == "4" {
				err = unix.SetsockoptInt(int(fd), unix.SOL_IP, unix.IP_RECVORIGDSTADDR, 1)
			} else {
				err = unix.SetsockoptInt(int(fd), unix.SOL_IPV6, unix.IPV6_RECVORIGDSTADDR, 1)
			}
		})
		return errors.Join(cerr, err)
	}}
	c, err := lc.ListenPacket(context.Background(), "udp"+family, addr)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	return c.(*net.UDPConn).File()
}

func openRaw(family string) (*os.File, error) {
	s, err := anyport.Open(family)
	if err != nil {
		return nil, err
	}
	defer s.Close()
	return s.File()
}

// FDs are the descriptors of the sockets of TCP and UDP, of IPv4 and IPv6 each, -1 for those that are not
// there. They are borrowed until Close.
func (s *Sockets) FDs() (tcp, udp [2]int) {
	fd := func(f *os.File) int {
		if f == nil {
			return -1
		}
		return int(f.Fd())
	}
	return [2]int{fd(s.files[tcp4]), fd(s.files[tcp6])}, [2]int{fd(s.files[udp4]), fd(s.files[udp6])}
}

// Close lets go of them. A resolver has its own.
func (s *Sockets) Close() (err error) {
	for _, f := range s.files {
		if f != nil {
			err = errors.Join(err, f.Close())
		}
	}
	return err
}

// serve answers what comes by the sockets, which it owns, until they end.
func (r *Resolver) serve(s *Sockets) error {
	var pairs [2]pair
	var out [2]*anyport.Sender
	for family := range 2 {
		if s.files[udp4+family] == nil || s.files[tcp4+family] == nil || s.files[raw4+family] == nil {
			continue
		}
		in, err := net.FilePacketConn(s.files[udp4+family])
		if err != nil {
			return err
		}
		raw, err := net.FilePacketConn(s.files[raw4+family])
		if err != nil {
			return err
		}
		l, err := net.FileListener(s.files[tcp4+family])
		if err != nil {
			return err
		}
		udp, ok1 := in.(*net.UDPConn)
		ip, ok2 := raw.(*net.IPConn)
		if !ok1 || !ok2 {
			return errors.New("sockets of another kind")
		}
		out[family] = &anyport.Sender{IPConn: ip}
		pairs[family] = pair{udp, out[family]}
		r.serving.Go(func() { r.serveTCP(l) })
	}
	for range workers() {
		r.serving.Go(func() { r.work(out) })
	}
	for family, p := range pairs {
		if p.in != nil {
			r.serving.Go(func() { r.serveUDP(family, p) })
		}
	}
	return s.Close()
}
