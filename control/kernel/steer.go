package kernel

import (
	"errors"
	"fmt"
	"net/netip"
	"os"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"github.com/vswitch/vswitch/dataplane/flowmap"
	"github.com/vswitch/vswitch/dataplane/header"
)

// Keys of the map of sockets, as steer.h has them.
const (
	sockTCP4 = iota
	sockTCP6
	sockUDP4
	sockUDP6
	sockCount

	resolverSockets = sockCount // the first of the resolver's, in the same order
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
	sockets, gateways *ebpf.Map
	program           *ebpf.Program
	link              link.Link
}

// maps are those that no other program has.
func (s *Steering) maps() map[string]**ebpf.Map {
	return map[string]**ebpf.Map{programsMapVswRelay: &s.sockets, programsMapVswGateways: &s.gateways}
}

// Resolve sends what containers ask at port 53 of the gateways that AnswerAt names to the given sockets: TCP
// listeners and unconnected UDP sockets, of IPv4 and IPv6 each, borrowed for the call; -1 leaves that
// protocol and family to the host.
func (s *Steering) Resolve(tcp, udp [2]int) error {
	for i, fd := range [sockCount]int{tcp[0], tcp[1], udp[0], udp[1]} {
		if err := s.put(resolverSockets+i, fd); err != nil {
			return fmt.Errorf("steer questions for names: %w", err)
		}
	}
	return nil
}

// AnswerAt says of an address of the host that is a gateway by which protocols names are answered there;
// by neither, what the host asks from it is the host's all the same.
func (s *Steering) AnswerAt(gateway netip.Addr, tcp, udp bool) error {
	var is uint32
	if tcp {
		is |= 1 << flowmap.ClaimProto(header.ProtoTCP)
	}
	if udp {
		is |= 1 << flowmap.ClaimProto(header.ProtoUDP)
	}
	if err := s.gateways.Put(header.AddrFrom(gateway), is); err != nil {
		return fmt.Errorf("answer names at %s: %w", gateway, err)
	}
	return nil
}

// NoGateway forgets one. An address that is none is no error.
func (s *Steering) NoGateway(gateway netip.Addr) error {
	if err := s.gateways.Delete(header.AddrFrom(gateway)); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
		return fmt.Errorf("forget gateway %s: %w", gateway, err)
	}
	return nil
}

// put gives a socket its number, or with -1 takes the one that has it out.
func (s *Steering) put(number, fd int) (err error) {
	if fd >= 0 {
		err = s.sockets.Put(uint32(number), uint64(fd))
	} else if err = s.sockets.Delete(uint32(number)); errors.Is(err, ebpf.ErrKeyNotExist) || errors.Is(err, unix.EINVAL) { // there was none
		err = nil
	}
	if err != nil {
		return fmt.Errorf("socket %d: %w", fd, err)
	}
	return nil
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
		for name, m := range s.maps() {
			if *m, err = newMap(spec, name); err != nil {
				return nil, err
			}
		}
	}
	for i, fd := range fds {
		if err = s.put(i, fd); err != nil {
			return nil, err
		}
	}
	if s.program == nil {
		s.program, err = k.program(programsProgVswSteer, s.maps())
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
	missing := s.maps()
	for _, id := range ids {
		if err == nil {
			err = adoptMap(id, missing)
		}
	}
	if err != nil || len(missing) > 0 {
		for _, m := range s.maps() {
			(*m).Close() // a nil map is allowed
			*m = nil
		}
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
	return errors.Join(err, s.program.Close(), s.sockets.Close(), s.gateways.Close())
}
