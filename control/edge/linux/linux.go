// Package linux is the edge of a switch by the Linux kernel: netlink (control/host), BPF
// programs (control/kernel), sockets that hold ports (control/reserve), and the relay. It
// puts these together and decides nothing about networks or containers.
package linux

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/vswitch/vswitch/control/edge"
	"github.com/vswitch/vswitch/control/holder"
	"github.com/vswitch/vswitch/control/host"
	"github.com/vswitch/vswitch/control/kernel"
	"github.com/vswitch/vswitch/control/relay"
	"github.com/vswitch/vswitch/control/reserve"
	"github.com/vswitch/vswitch/control/resolver"
	"github.com/vswitch/vswitch/dataplane/port"
)

// spareSockets are prepared for cables to come, 512 KiB each.
const spareSockets = 4

// Config says what Open opens. The zero value works.
type Config struct {
	// NoFlowTable keeps every frame in the daemon; otherwise the kernel carries on the
	// flows that were decided there.
	NoFlowTable bool
	MaxFlows    int // that are tracked at a time, 0: the default of package dataplane
	// OwnRanges: somebody has chosen the ports of masquerade, so that they are not parted with the
	// switches of others at an uplink.
	OwnRanges bool
	// NoTCX does without TCX, as on a kernel before Linux 6.6.
	NoTCX bool
	// Cgroup is the directory of a cgroup2 whose programs, and those below it, have a UDP
	// port of the host at once when they bind it, and connect to published ports without a
	// relay; CgroupAuto, or "" for none.
	Cgroup string
	// Holder keeps what outlives the process only as long as somebody has it open; nil: it ends
	// with the process. Close closes it.
	Holder *holder.Holder
	Log    *slog.Logger // nil: slog.Default()
}

// Edge is the network namespace of the process.
type Edge struct {
	*host.Host
	*kernel.Kernel // nil before Begin
	cfg            Config
	seals          []sealKind // the first for most cables, the last for those that share their ingress
	// sockets are prepared: to open one takes the kernel 9 ms (RCU), which an
	// attach then need not wait for.
	sockets   *port.Pool
	closePool func() error   // once
	owner     edge.Owner     // from Begin on, as ports
	ports     *reserve.Ports // nil before

	together bool // Together was called

	keep            atomic.Bool
	heldFor, heldIn string // see HeldFor

	consumers consumers
	uplinks   uplinks

	steering *kernel.Steering // from Steer on

	noBindHooks error
	localhost   localhost
}

var _ edge.Edge = (*Edge)(nil)

// Open opens sockets. It changes nothing that anybody else sees. The programs are loaded by Begin:
// whose they are says which maps they go on with.
func Open(cfg Config) (_ *Edge, err error) {
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	if err := checkCgroup(cfg.Cgroup); err != nil {
		return nil, err
	}
	e := &Edge{cfg: cfg}
	_, e.heldFor, _ = cfg.Holder.Take(holder.Owner)
	_, e.heldIn, _ = cfg.Holder.Take(heldIn)
	if fd, _, ok := cfg.Holder.Take(heldResolver); ok && fd >= 0 {
		resolver.End(fd)
	}
	if e.Host, err = host.New(); err != nil {
		return nil, err
	}
	if err := kernel.Allowed(); err != nil {
		return nil, errors.Join(err, e.Host.Close())
	}
	e.sockets = port.NewPool(spareSockets, 0, spares{cfg.Holder})
	e.closePool = sync.OnceValue(e.sockets.Close)
	e.Host.ReadAhead()
	if cfg.Holder.Left(kernel.HeldPrograms) == 0 {
		kernel.ReadAhead()
	}
	return e, nil
}

// Begin implements edge.Edge.
func (e *Edge) Begin(o edge.Owner) error {
	e.heldFor, e.heldIn = "", ""
	if err := errors.Join(e.cfg.Holder.Put(holder.Owner, -1, o.Identity), e.cfg.Holder.Put(heldIn, -1, o.Directory)); err != nil {
		return err
	}
	if err := e.load(o.Identity); err != nil {
		return err
	}
	e.owner = o
	e.ports = reserve.New(e.Host, reserve.Config{
		Kept: o.Kept, Left: o.Reserved, Holder: e.cfg.Holder, Own: e.Kernel.Own, Recount: e.Kernel.Recount, Renote: e.Kernel.Renote,
		Note: e.Kernel.NotePort, Unnote: e.Kernel.UnnotePort,
		Reserved: func(list []reserve.Range) error {
			return errors.Join(o.PutReserved(list), e.cfg.Holder.Put(holder.Reserved, -1, reserve.FormatRanges(list)))
		},
	})
	if e.together {
		return e.ports.Together()
	}
	return nil
}

// Together implements edge.Edge.
func (e *Edge) Together(cables, slots int) (end func()) {
	e.sockets.Prepare(max(0, cables-e.cfg.Holder.Left(holder.Sockets)), slots)
	e.together = true
	read := e.Host.ReadOnce()
	return func() {
		read()
		e.consumers.stale.Store(true) // they may be of that reading
		if e.ports != nil {
			e.ports.Apart()
		}
	}
}

// HeldFor implements edge.Edge.
func (e *Edge) HeldFor() (identity, directory string) { return e.heldFor, e.heldIn }

// heldState is the name, with the holder, of a copy of the state in memory.
const heldState = "state"

// HoldState implements edge.Edge.
func (e *Edge) HoldState(b []byte) (*os.File, error) { return e.cfg.Holder.PutMemory(heldState, b) }

// HeldState implements edge.Edge.
func (e *Edge) HeldState() *os.File {
	fd, _, ok := e.cfg.Holder.Take(heldState)
	if !ok {
		return nil
	}
	return os.NewFile(uintptr(fd), heldState)
}

// DropHeld implements edge.Edge.
func (e *Edge) DropHeld() error {
	e.cfg.Holder.Settle()
	return e.ports.Settle()
}

// Keep implements edge.Edge. To close the sockets that are prepared takes the kernel some tens
// of milliseconds, where no holder has them.
func (e *Edge) Keep() {
	e.keep.Store(true)
	go e.closePool()
}

// Close implements edge.Edge.
func (e *Edge) Close() error {
	err := e.closePool()
	if e.ports != nil && e.keep.Load() {
		e.ports.Keep()
	} else if e.ports != nil {
		err = errors.Join(err, e.ports.Close())
	}
	if e.Kernel != nil {
		err = errors.Join(err, e.Kernel.Close())
	}
	err = errors.Join(err, e.Host.Close())
	if e.keep.Load() {
		return errors.Join(err, e.cfg.Holder.Close())
	}
	return errors.Join(err, e.cfg.Holder.End())
}

// OpenNetns implements edge.Namespaces.
func (e *Edge) OpenNetns(path string, pid int) (edge.Netns, error) {
	ns, err := host.OpenNetns(path)
	if path == "" {
		ns, err = host.OpenNetnsPID(pid)
	}
	if err != nil {
		return nil, err
	}
	return ns, nil
}

// IsHost implements edge.Namespaces.
func (e *Edge) IsHost(ns edge.Netns) bool { return e.Host.IsHost(netns(ns)) }

// netns is the namespace of control/host, nil for none.
func netns(ns edge.Netns) *host.Netns {
	n, _ := ns.(*host.Netns)
	return n
}

// Steer implements edge.Edge.
func (e *Edge) Steer(reached func(relay.Reached)) (edge.Relay, error) {
	cfg := relay.ClientConfig{Steer: e.steer, Reached: reached, Log: e.cfg.Log}
	if held := e.cfg.Holder; held != nil {
		cfg.Holder, cfg.Stale = held, held.Alone() > staleAfter
	}
	r, err := relay.Start(cfg)
	if err != nil {
		return nil, err
	}
	e.localhost.begin(e, r)
	return steering{r, e}, nil
}

// The names, with the holder, of the link of sk_lookup and of the owner's state directory.
const (
	heldLink = "steer"
	heldIn   = "directory"
)

// steer is relay.ClientConfig.Steer.
func (e *Edge) steer(tcp, udp [2]int) (io.Closer, error) {
	left, _, ok := e.cfg.Holder.Take(heldLink)
	if !ok {
		left = -1
	} else {
		defer syscall.Close(left)
	}
	s, err := e.Kernel.Steer(left, tcp[0], tcp[1], udp[0], udp[1])
	if err != nil {
		return nil, err
	}
	fd, err := s.FD()
	if err == nil {
		err = e.cfg.Holder.Put(heldLink, fd, "")
	}
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	e.steering = s
	return s, nil
}

// steering is a relay, with what is led without it.
type steering struct {
	*relay.Client
	e *Edge
}

// Recheck implements edge.Relay. Lead has ended what is relayed.
func (s steering) Recheck() { s.e.localhost.recheck(s.e) }

// Close implements edge.Relay. Hooks end before the relay.
func (s steering) Close() error {
	kept := s.e.keep.Load()
	s.e.localhost.end(kept)
	err := s.Client.Close(kept)
	if !kept {
		s.e.cfg.Holder.Drop(heldLink)
	}
	return err
}

// LocalPorts implements edge.Uplinks.
func (e *Edge) LocalPorts() (low, high uint16) {
	low, high = 32768, 60999 // the kernel's default
	b, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range")
	if err != nil {
		return low, high
	}
	var l, h uint16
	if _, err := fmt.Sscan(string(b), &l, &h); err != nil || l > h {
		return low, high
	}
	return l, h
}

// TakePorts implements edge.Reservations.
func (e *Edge) TakePorts(proto uint8, addr netip.Addr, first, last uint16, keeper reserve.Keeper) (edge.Hold, error) {
	h, err := e.ports.Take(proto, addr, first, last, keeper)
	if err != nil {
		return nil, err
	}
	return h, nil
}

// FreePort implements edge.Reservations.
func (e *Edge) FreePort(proto uint8, addr netip.Addr, n int) (uint16, error) {
	return e.ports.FreePort(proto, addr, n)
}

// The ports from which programs of the host connect that choose one below 1024 themselves,
// as the kernel's own NFS client does (rresvport(3)).
const firstReserved, lastReserved = 512, 1023

// BusyPorts implements edge.Reservations. A connection keeps its port from masquerade where
// no listener tells of it.
func (e *Edge) BusyPorts() ([]host.Socket, error) {
	list, err := e.ports.Busy()
	if err != nil {
		return nil, err
	}
	conns, err := e.Host.ConnectedFrom(firstReserved, lastReserved)
	return append(list, conns...), err
}

// WatchPorts implements edge.Reservations. The kernel tells of its tunnels over UDP that are links.
func (e *Edge) WatchPorts(ctx context.Context, changed func()) {
	e.rewatch(ctx, "UDP tunnels of the host", func() error { return e.Host.WatchUDPTunnels(ctx, changed) })
}

// Intruders implements edge.Reservations.
func (e *Edge) Intruders() ([]host.Socket, error) { return e.ports.Intruders() }

// SocketOwner implements edge.Reservations.
func (e *Edge) SocketOwner(inode uint32) string { return reserve.Owner(inode) }
