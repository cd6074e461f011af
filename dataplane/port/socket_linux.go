package port

import (
	"cmp"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/vswitch/vswitch/dataplane/flowmap"
)

const (
	// defaultSlots is a compromise: the pages of a mapped ring count as resident,
	// so that 100 ports hold 50 MiB.
	defaultSlots = 256

	// socketBuffer bounds the large frames that wait in either direction; the
	// kernel doubles it for its own overhead.
	socketBuffer = 8 << 20
)

// PacketConfig says what OpenSocket opens.
type PacketConfig struct {
	Ifindex int    // of a device in the caller's network namespace
	Name    string // for messages

	// Slots is the number of 2 KiB ring slots, rounded up to a power of two from
	// 32. 0 means 256. A slot holds any frame of an MTU of 1500.
	Slots int

	// FilterFD is a BPF program of type socket filter that says which frames the
	// port sees, by returning all ones or zero. It may be closed afterwards.
	// 0 or less: no filter, the port sees all.
	FilterFD int

	// Packets: the device speaks IP without a header of the link. The port's frames have one.
	Packets bool

	// Tally, unless nil, is kept for the filter.
	Tally *flowmap.Tally
}

// Socket is an AF_PACKET socket with a ring, bound to a device: what a Packet is made of.
// Who opens it has the device's network namespace and the filter; the frames are the
// business of the port that is made of its Descriptor, which the socket may outlive or not.
type Socket struct {
	name    string
	fd      int
	slots   int
	retaken bool
	packets bool
	filter  int // that it gets with its port, -1: none or it has it
	place   int // with the keeper of a pool, and one more; 0: none
	tally   *flowmap.Tally
}

// OpenSocket opens a socket on a device, which may be down as yet.
func OpenSocket(cfg PacketConfig) (*Socket, error) {
	k, err := prepare(cfg.Slots)
	if err != nil {
		return nil, fmt.Errorf("port %s: %w", cfg.Name, err)
	}
	if err := k.bind(cfg); err != nil {
		return nil, errors.Join(err, k.Close())
	}
	return k, nil
}

// Descriptor is the socket as it crosses the door.
func (k *Socket) Descriptor() Descriptor {
	return Descriptor{Kind: KindPacket, Name: k.name, FD: k.fd, Slots: k.slots, Retaken: k.retaken, Packets: k.packets, Filter: k.filter, Tally: k.tally}
}

// layout is the version of what setup makes of a socket. A process that makes another does
// not take it over.
const layout = "1"

// Kept describes a socket for the process that takes it over by Retake.
func (k *Socket) Kept() (fd int, as string) { return k.fd, fmt.Sprint(layout, " ", k.slots) }

// Retake takes over the socket that a process before had on a device, with its ring. Somebody
// has made it deaf, and it has the filter of cfg once there is a port. The slots are those that it has. An
// error leaves fd to the caller.
func Retake(cfg PacketConfig, fd int, as string) (*Socket, error) {
	k := &Socket{name: cfg.Name, fd: fd, retaken: true, packets: cfg.Packets, filter: cfg.FilterFD, tally: cfg.Tally}
	if err := k.was(as, cfg.Ifindex); err != nil {
		return nil, fmt.Errorf("port %s: %w", cfg.Name, err)
	}
	return k, nil
}

// unbound is Retake of a socket that was prepared, and is of no device yet.
func unbound(fd int, as string) (*Socket, error) {
	k := &Socket{fd: fd}
	return k, k.was(as, 0)
}

// was reads what Kept has said of a socket, and checks its device.
func (k *Socket) was(as string, ifindex int) error {
	var was string
	if _, err := fmt.Sscan(as, &was, &k.slots); err != nil || was != layout || k.slots != ringSlots(k.slots) {
		return fmt.Errorf("the socket of the process before is of another kind: %q", as)
	}
	at, err := unix.Getsockname(k.fd)
	if err != nil {
		return err
	}
	if at, ok := at.(*unix.SockaddrLinklayer); !ok || at.Ifindex != ifindex {
		return errors.New("the socket of the process before is of another device")
	}
	return nil
}

// Deafen gives a socket a filter that lets nothing through, and leaves no trace of a frame
// for the programs that come after it: it is as if the socket was not there.
func Deafen(fd int) error {
	drop := []unix.SockFilter{{Code: unix.BPF_RET | unix.BPF_K}}
	if err := unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: 1, Filter: &drop[0]}); err != nil {
		return fmt.Errorf("filter of a socket: %w", err)
	}
	return nil
}

func attachFilter(fd, filter int) error {
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ATTACH_BPF, filter); err != nil {
		return fmt.Errorf("attach filter: %w", err)
	}
	return nil
}

// prepare makes a socket with a ring that is bound to no device.
func prepare(slots int) (*Socket, error) {
	// With protocol 0 the socket hears nothing before it is bound: neither other
	// devices' frames nor any the filter has not seen.
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if errors.Is(err, unix.EPERM) {
		return nil, fmt.Errorf("packet socket: %w: needs CAP_NET_RAW", err)
	}
	if err != nil {
		return nil, fmt.Errorf("packet socket: %w", err)
	}
	k := &Socket{fd: fd}
	if err := k.setup(ringSlots(cmp.Or(slots, defaultSlots))); err != nil {
		return nil, errors.Join(err, k.Close())
	}
	return k, nil
}

func (k *Socket) setup(slots int) error {
	for _, o := range []struct {
		name       string
		opt, value int
	}{
		{"PACKET_VNET_HDR", unix.PACKET_VNET_HDR, 1},
		{"PACKET_IGNORE_OUTGOING", unix.PACKET_IGNORE_OUTGOING, 1},
		{"PACKET_VERSION", unix.PACKET_VERSION, unix.TPACKET_V2},
		{"PACKET_RESERVE", unix.PACKET_RESERVE, ringReserve},
		{"PACKET_COPY_THRESH", unix.PACKET_COPY_THRESH, 1},
	} {
		if err := unix.SetsockoptInt(k.fd, unix.SOL_PACKET, o.opt, o.value); err != nil {
			return fmt.Errorf("set %s: %w", o.name, err)
		}
	}
	// Without CAP_NET_ADMIN in the first user namespace the limits of
	// net.core.{r,w}mem_max hold.
	for _, o := range [][2]int{{unix.SO_RCVBUFFORCE, unix.SO_RCVBUF}, {unix.SO_SNDBUFFORCE, unix.SO_SNDBUF}} {
		if unix.SetsockoptInt(k.fd, unix.SOL_SOCKET, o[0], socketBuffer) == nil {
			continue
		}
		if err := unix.SetsockoptInt(k.fd, unix.SOL_SOCKET, o[1], socketBuffer); err != nil {
			return fmt.Errorf("set socket buffer: %w", err)
		}
	}
	k.slots = slots
	return makeRing(k.fd, slots)
}

// bind starts reception from a device.
func (k *Socket) bind(cfg PacketConfig) error {
	k.name, k.packets, k.tally = cfg.Name, cfg.Packets, cfg.Tally
	if cfg.FilterFD > 0 {
		if err := attachFilter(k.fd, cfg.FilterFD); err != nil {
			return fmt.Errorf("port %s: %w", k.name, err)
		}
	}
	const all = unix.ETH_P_ALL<<8 | unix.ETH_P_ALL>>8 // in network order
	err := unix.Bind(k.fd, &unix.SockaddrLinklayer{Protocol: all & 0xffff, Ifindex: cfg.Ifindex})
	if err != nil {
		return fmt.Errorf("port %s: bind to interface %d: %w", k.name, cfg.Ifindex, err)
	}
	return nil
}

// Close closes the socket. The last who closes it waits for up to two RCU grace periods,
// some tens of milliseconds.
func (k *Socket) Close() error {
	if k.fd < 0 {
		return nil
	}
	err := unix.Close(k.fd)
	if k.fd = -1; err != nil {
		return fmt.Errorf("port %s: close: %w", k.name, err)
	}
	return nil
}
