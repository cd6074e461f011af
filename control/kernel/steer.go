package kernel

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"github.com/vswitch/vswitch/dataplane"
	"github.com/vswitch/vswitch/dataplane/header"
)

// Fields of struct bpf_sk_lookup (linux/bpf.h).
const (
	lookupFamily    = 8
	lookupProtocol  = 12
	lookupLocalIP4  = 40 // network order
	lookupLocalIP6  = 44 // network order
	lookupLocalPort = 60 // host order
)

// Keys of the map of sockets: protocol index * 2, plus one for IPv6.
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
// process ends.
//
// What else reaches the host's stack for a published port, from a container to its
// gateway say, is steered as well; what comes by a guarded uplink does not get so
// far. A port in a wildcard slot is steered on every local address of the family,
// 127.0.0.0/8 and ::1 included. Established connections and connected UDP sockets come first, all
// others, bound to the port or not, come after. A TCP listener must not be
// MPTCP: the kernel refuses it with EOPNOTSUPP.
func (k *Kernel) Steer(tcp4, tcp6, udp4, udp6 int) (_ io.Closer, err error) {
	s, err := newSteering(k.planes, [sockCount]int{tcp4, tcp6, udp4, udp6})
	if err != nil {
		return nil, fmt.Errorf("steer published ports: %w", err)
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

// steering is an attached sk_lookup program and the sockets it chooses from.
type steering struct {
	sockets *ebpf.Map
	program *ebpf.Program
	link    io.Closer
}

func newSteering(p *planes, fds [sockCount]int) (_ *steering, err error) {
	s := &steering{}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Close())
		}
	}()
	s.sockets, err = ebpf.NewMap(&ebpf.MapSpec{
		Name: "vsw_relay", Type: ebpf.SockMap, KeySize: 4, ValueSize: 8, MaxEntries: sockCount,
	})
	if err != nil {
		return nil, err
	}
	for i, fd := range fds {
		if fd < 0 {
			continue
		}
		if err = s.sockets.Put(uint32(i), uint64(fd)); err != nil {
			return nil, fmt.Errorf("socket %d: %w", fd, err)
		}
	}
	s.program, err = ebpf.NewProgram(steerProgram(p, s.sockets))
	return s, err
}

// Close gives the published ports back to the host.
func (s *steering) Close() error {
	var err error
	if s.link != nil {
		err = s.link.Close()
	}
	return errors.Join(err, s.program.Close(), s.sockets.Close())
}

// steerProgram assigns a socket to what goes to a published port. Whatever fails
// leaves the choice to the usual lookup.
func steerProgram(p *planes, sockets *ebpf.Map) *ebpf.ProgramSpec {
	const skPass = 1
	var c code
	c.emit(
		asm.Mov.Reg(asm.R6, asm.R1),
		asm.LoadMem(asm.R0, asm.R6, lookupProtocol, asm.Word),
		asm.Mov.Imm(asm.R8, int32(dataplane.ClaimProto(header.ProtoTCP))),
		asm.JEq.Imm(asm.R0, int32(header.ProtoTCP), "port"),
		asm.Mov.Imm(asm.R8, int32(dataplane.ClaimProto(header.ProtoUDP))),
		asm.JNE.Imm(asm.R0, int32(header.ProtoUDP), "pass"),
	)
	c.at("port")
	c.emit(
		asm.LoadMem(asm.R7, asm.R6, lookupLocalPort, asm.Word),
		asm.And.Imm(asm.R7, 0xffff),
		asm.LoadMem(asm.R1, asm.R6, lookupFamily, asm.Word),
	)
	c.wildcard(asm.R1, unix.AF_INET)
	c.word(asm.R0)
	c.bit(p.published.FD(), "published", "pass")

	c.emit(
		asm.LoadMem(asm.R0, asm.R6, lookupFamily, asm.Word),
		asm.JNE.Imm(asm.R0, unix.AF_INET, "ipv6"),
		asm.LoadMem(asm.R0, asm.R6, lookupLocalIP4, asm.Word),
	)
	c.mapped(asm.R0)
	c.emit(asm.Ja.Label("address"))
	c.at("ipv6")
	for at := int16(0); at < 16; at += 4 {
		c.emit(
			asm.LoadMem(asm.R0, asm.R6, lookupLocalIP6+at, asm.Word),
			asm.StoreMem(asm.R10, stackAddress+at, asm.R0, asm.Word),
		)
	}
	c.at("address")
	c.lookup(p.addrs.FD(), stackAddress, "pass")
	c.emit(asm.LoadMem(asm.R0, asm.R0, 0, asm.Word))
	c.word(asm.R0)
	c.bit(p.published.FD(), "published", "pass")
	c.emit(asm.Ja.Label("pass"))

	c.at("published")
	c.emit(
		asm.LSh.Imm(asm.R8, 1),
		asm.LoadMem(asm.R0, asm.R6, lookupFamily, asm.Word),
		asm.JEq.Imm(asm.R0, unix.AF_INET, "socket"),
		asm.Add.Imm(asm.R8, 1),
	)
	c.at("socket")
	c.emit(asm.StoreMem(asm.R10, stackWord, asm.R8, asm.Word))
	c.lookup(sockets.FD(), stackWord, "pass")
	c.emit(
		asm.Mov.Reg(asm.R7, asm.R0),
		asm.Mov.Reg(asm.R1, asm.R6),
		asm.Mov.Reg(asm.R2, asm.R7),
		asm.Mov.Imm(asm.R3, 0),
		asm.FnSkAssign.Call(),
		asm.Mov.Reg(asm.R1, asm.R7),
		asm.FnSkRelease.Call(),
	)
	c.at("pass")
	c.ret(skPass)
	s := spec("vsw_steer", ebpf.SkLookup, c.ins)
	s.AttachType = ebpf.AttachSkLookup
	return s
}
