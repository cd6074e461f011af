package anyport

import (
	"context"
	"errors"
	"net"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// The sockets of one who serves traffic that is led there, in the order of Files.
const (
	tcp4 = iota
	tcp6
	udp4
	udp6
	raw4
	raw6
	socketCount
)

var socketNames = [socketCount]string{"tcp4", "tcp6", "udp4", "udp6", "raw4", "raw6"}

// Sockets are open for a process that serves what is led to them: TCP listeners, UDP sockets that tell where a
// datagram was sent, and those that answer. The ports that they are bound to mean nothing.
type Sockets struct{ files [socketCount]*os.File }

// Listen opens the sockets in the network namespace of the calling thread, but those that left has, by their
// names, which become the result's. Where the host has no IPv6 there are none of it. So many bytes of
// datagrams may wait in a UDP socket.
func Listen(receiveBuffer int, left func(name string) *os.File) (_ *Sockets, err error) {
	s := new(Sockets)
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Close())
		}
	}()
	for i, open := range [socketCount]func() (*os.File, error){
		func() (*os.File, error) { return listenTCP("4", "127.0.0.1:0") },
		func() (*os.File, error) { return listenTCP("6", "[::1]:0") },
		func() (*os.File, error) { return listenUDP("4", "127.0.0.1:0", receiveBuffer) },
		func() (*os.File, error) { return listenUDP("6", "[::1]:0", receiveBuffer) },
		func() (*os.File, error) { return openRaw("4") },
		func() (*os.File, error) { return openRaw("6") },
	} {
		if left != nil {
			s.files[i] = left(socketNames[i])
		}
		if s.files[i] != nil {
			continue
		}
		s.files[i], err = open()
		gone := errors.Is(err, unix.EADDRNOTAVAIL)
		switch {
		case i%2 == 1 && (gone || errors.Is(err, unix.EAFNOSUPPORT)):
			err = nil // IPv6 is off
		case gone:
			return nil, errors.New("127.0.0.1 is not there: ip link set lo up")
		case err != nil:
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

func listenUDP(family, addr string, receiveBuffer int) (*os.File, error) {
	lc := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) (err error) {
		cerr := c.Control(func(fd uintptr) {
			// Beyond rmem_max, as many share the buffer.
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
	s, err := Open(family)
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

// Files are all of them, nil where there is none, borrowed until Close.
func (s *Sockets) Files() []*os.File { return s.files[:] }

// Each calls fn for each, with its name.
func (s *Sockets) Each(fn func(name string, f *os.File) error) (err error) {
	for i, f := range s.files {
		if f != nil {
			err = errors.Join(err, fn(socketNames[i], f))
		}
	}
	return err
}

// Close lets go of them. Who has duplicates keeps those.
func (s *Sockets) Close() error {
	return s.Each(func(_ string, f *os.File) error { return f.Close() })
}

// Family is what serves one family.
type Family struct {
	TCP *net.TCPListener
	UDP *net.UDPConn
	Out *Sender
}

// Close closes what there is.
func (f *Family) Close() (err error) {
	if f.TCP != nil {
		err = f.TCP.Close()
	}
	if f.UDP != nil {
		err = errors.Join(err, f.UDP.Close())
	}
	if f.Out != nil {
		err = errors.Join(err, f.Out.Close())
	}
	return err
}

// Families are IPv4 and IPv6, each zero where it lacks a socket, of the files that Files has told of. Those
// are borrowed for the call.
func Families(files []*os.File) (all [2]Family, err error) {
	defer func() {
		if err != nil {
			err = errors.Join(err, all[0].Close(), all[1].Close())
		}
	}()
	if len(files) != socketCount {
		return all, errors.New("sockets of another number")
	}
	for i := range all {
		f := &all[i]
		if files[tcp4+i] == nil || files[udp4+i] == nil || files[raw4+i] == nil {
			continue
		}
		l, err1 := net.FileListener(files[tcp4+i])
		in, err2 := net.FilePacketConn(files[udp4+i])
		raw, err3 := net.FilePacketConn(files[raw4+i])
		f.TCP, _ = l.(*net.TCPListener)
		f.UDP, _ = in.(*net.UDPConn)
		ip, _ := raw.(*net.IPConn)
		if ip != nil {
			f.Out = &Sender{ip}
		}
		if err := errors.Join(err1, err2, err3); err != nil {
			return all, err
		}
		if f.TCP == nil || f.UDP == nil || f.Out == nil {
			return all, errors.New("sockets of another kind")
		}
	}
	return all, nil
}
