package kernel

import (
	"errors"
	"fmt"
	"os"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// Keys of the map of sockets, as steer.h has them.
const (
	sockTCP4 = iota
	sockTCP6
	sockUDP4
	sockUDP6
	sockCount
)

// Steer sends the host's own traffic to published ports to the given sockets:
// two TCP listeners and two unconnected UDP sockets, IPv4 and IPv6, borrowed for
// the call; -1 leaves that protocol and family to the host. It acts on the
// network namespace of the calling thread until the result is closed or the
// process ends, unless another process has its link.
//
// left is the link of a process before, which is taken over in one step, or -1; the caller
// closes it.
//
// What else reaches the host's stack for a published port, from a container to its
// gateway say, is steered as well; what comes by a shielded uplink does not get so
// far. A port in a wildcard slot is steered on every local address of the family,
// 127.0.0.0/8 and ::1 included. Established connections and connected UDP sockets come first, all
// others, bound to the port or not, come after. A TCP listener must not be
// MPTCP: the kernel refuses it with EOPNOTSUPP.
func (k *Kernel) Steer(left, tcp4, tcp6, udp4, udp6 int) (_ *Steering, err error) {
	s, err := k.newSteering([sockCount]int{tcp4, tcp6, udp4, udp6})
	if err != nil {
		return nil, fmt.Errorf("steer published ports: %w", err)
	}
	if left >= 0 {
		if s.link, err = takeLink(left, s.program); err == nil {
			return s, nil
		}
	}
	ns, err := os.Open("/proc/thread-self/ns/net")
	if err == nil {
		defer ns.Close()
		s.link, err = link.AttachNetNs(int(ns.Fd()), s.program)
	}
	if err != nil {
		return nil, fmt.Errorf("steer published ports: %w", errors.Join(err, s.Close()))
	}
	return s, nil
}

// takeLink puts a program in place of the one of a link.
func takeLink(fd int, p *ebpf.Program) (link.Link, error) {
	own, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	l, err := link.NewFromFD(own) // it closes the descriptor where it is none of a link
	if err == nil {
		if err = l.Update(p); err != nil {
			err = errors.Join(err, l.Close())
		}
	}
	return l, err
}

// Steering is an attached sk_lookup program and the sockets it chooses from.
type Steering struct {
	sockets *ebpf.Map
	program *ebpf.Program
	link    link.Link
}

// FD is the link, borrowed until Close. As long as another process has it the program stays.
func (s *Steering) FD() (int, error) {
	l, ok := s.link.(interface{ FD() int })
	if !ok {
		return -1, errors.New("the link has no descriptor")
	}
	return l.FD(), nil
}

func (k *Kernel) newSteering(fds [sockCount]int) (_ *Steering, err error) {
	s := &Steering{}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Close())
		}
	}()
	if k.adopted {
		s.adopt(k)
	}
	if s.sockets == nil {
		spec, err := k.object()
		if err != nil {
			return nil, err
		}
		if s.sockets, err = newMap(spec, programsMapVswRelay); err != nil {
			return nil, err
		}
	}
	for i, fd := range fds {
		if fd < 0 {
			err = s.sockets.Delete(uint32(i))
			if errors.Is(err, ebpf.ErrKeyNotExist) || errors.Is(err, unix.EINVAL) { // there was none
				err = nil
			}
		} else {
			err = s.sockets.Put(uint32(i), uint64(fd))
		}
		if err != nil {
			return nil, fmt.Errorf("socket %d: %w", fd, err)
		}
	}
	if s.program == nil {
		s.program, err = k.program(programsProgVswSteer, map[string]**ebpf.Map{programsMapVswRelay: &s.sockets})
		if err == nil {
			err = k.keepProgram(heldSteer, s.program)
		}
	}
	return s, err
}

// heldSteer is the name of the program with the holder.
const heldSteer = "steer"

// adopt goes on with the program that was kept with the others, and its map.
func (s *Steering) adopt(k *Kernel) {
	p, stamp := k.takeProgram(heldSteer)
	if p == nil || stamp != k.stamp {
		p.Close() // a nil program is allowed
		return
	}
	info, err := p.Info()
	if err != nil {
		p.Close()
		return
	}
	ids, _ := info.MapIDs()
	for _, id := range ids {
		if err == nil {
			err = adoptMap(id, map[string]**ebpf.Map{programsMapVswRelay: &s.sockets})
		}
	}
	if err != nil || s.sockets == nil {
		s.sockets.Close() // a nil map is allowed
		s.sockets = nil
		p.Close()
		return
	}
	s.program = p
}

// Close gives the published ports back to the host.
func (s *Steering) Close() error {
	var err error
	if s.link != nil {
		err = s.link.Close()
	}
	return errors.Join(err, s.program.Close(), s.sockets.Close())
}
