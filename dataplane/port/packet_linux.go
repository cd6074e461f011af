package port

import (
	"cmp"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/vswitch/vswitch/dataplane/frame"
)

const (
	// defaultSlots is a compromise: the pages of a mapped ring count as resident,
	// so that 100 ports hold 50 MiB.
	defaultSlots = 256

	// socketBuffer bounds the large frames that wait in either direction; the
	// kernel doubles it for its own overhead.
	socketBuffer = 8 << 20
)

// PacketConfig says what OpenPacket opens.
type PacketConfig struct {
	Ifindex int    // of a device in the caller's network namespace
	Name    string // for messages

	// Slots is the number of 2 KiB ring slots, rounded up to a power of two from
	// 32. 0 means 256. A slot holds any frame of an MTU of 1500.
	Slots int

	// FilterFD is a BPF program of type socket filter that says which frames the
	// port sees, by returning all ones or zero. It may be closed after OpenPacket.
	// 0 or less: no filter, the port sees all.
	FilterFD int

	// Account, unless nil, is kept for the filter.
	Account *Account
}

// Packet is an AF_PACKET socket on one device. It takes frames as the device
// receives them, beside the host's stack. Offloads of the device stay on: frames
// carry virtio headers. What it sends passes the device's queueing discipline,
// so that the host's shaping holds and the kernel segments for a device without
// segmentation offload; PACKET_QDISC_BYPASS would drop such frames
// (__dev_direct_xmit) and gained nothing on a veth.
type Packet struct {
	name    string
	fd      int
	ring    ring
	account *Account // nil: nobody looks

	invalid   atomic.Uint64
	truncated atomic.Uint64 // the receive buffer had no room for a large frame

	mu          sync.Mutex
	kernelDrops uint64 // guarded by mu; the kernel forgets what was read
}

var _ Port = (*Packet)(nil)

// OpenPacket opens a port on a device, which may be down as yet.
func OpenPacket(cfg PacketConfig) (*Packet, error) {
	p, err := prepare(cfg.Slots)
	if err != nil {
		return nil, fmt.Errorf("port %s: %w", cfg.Name, err)
	}
	if err := p.bind(cfg); err != nil {
		return nil, errors.Join(err, p.Close())
	}
	return p, nil
}

// prepare makes a socket with a ring that is bound to no device.
func prepare(slots int) (*Packet, error) {
	// With protocol 0 the socket hears nothing before it is bound: neither other
	// devices' frames nor any the filter has not seen.
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if errors.Is(err, unix.EPERM) {
		return nil, fmt.Errorf("packet socket: %w: needs CAP_NET_RAW", err)
	}
	if err != nil {
		return nil, fmt.Errorf("packet socket: %w", err)
	}
	p := &Packet{fd: fd}
	if err := p.setup(cmp.Or(slots, defaultSlots)); err != nil {
		return nil, errors.Join(err, p.Close())
	}
	return p, nil
}

func (p *Packet) setup(slots int) error {
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
		if err := unix.SetsockoptInt(p.fd, unix.SOL_PACKET, o.opt, o.value); err != nil {
			return fmt.Errorf("set %s: %w", o.name, err)
		}
	}
	// Without CAP_NET_ADMIN in the first user namespace the limits of
	// net.core.{r,w}mem_max hold.
	for _, o := range [][2]int{{unix.SO_RCVBUFFORCE, unix.SO_RCVBUF}, {unix.SO_SNDBUFFORCE, unix.SO_SNDBUF}} {
		if unix.SetsockoptInt(p.fd, unix.SOL_SOCKET, o[0], socketBuffer) == nil {
			continue
		}
		if err := unix.SetsockoptInt(p.fd, unix.SOL_SOCKET, o[1], socketBuffer); err != nil {
			return fmt.Errorf("set socket buffer: %w", err)
		}
	}
	return p.ring.open(p.fd, slots)
}

// bind starts reception from a device.
func (p *Packet) bind(cfg PacketConfig) error {
	p.name, p.account = cfg.Name, cfg.Account
	if cfg.FilterFD > 0 {
		if err := unix.SetsockoptInt(p.fd, unix.SOL_SOCKET, unix.SO_ATTACH_BPF, cfg.FilterFD); err != nil {
			return fmt.Errorf("port %s: attach filter: %w", p.name, err)
		}
	}
	const all = unix.ETH_P_ALL<<8 | unix.ETH_P_ALL>>8 // in network order
	err := unix.Bind(p.fd, &unix.SockaddrLinklayer{Protocol: all & 0xffff, Ifindex: cfg.Ifindex})
	if err != nil {
		return fmt.Errorf("port %s: bind to interface %d: %w", p.name, cfg.Ifindex, err)
	}
	return nil
}

// Send implements Port.
func (p *Packet) Send(tx *Tx, frames []*frame.Frame) int {
	sent := 0
	for len(frames) > 0 {
		n := min(len(frames), len(tx.msgs))
		for i, f := range frames[:n] {
			frame.EncodeVnetHdr(f.Buf, f.Offload)
			tx.set(i, f.Buf)
		}
		s, full := tx.send(p.fd, n)
		sent += s
		if full {
			break
		}
		frames = frames[n:]
	}
	return sent
}

// send hands n messages to a packet socket. full means that the rest has no
// chance now.
func (tx *Tx) send(fd, n int) (sent int, full bool) {
	for at := 0; at < n; {
		s, errno := tx.call(unix.SYS_SENDMMSG, fd, at, n)
		switch errno {
		case 0:
			// A short count hides the reason; the next call begins with the frame
			// that failed and tells.
			sent += s
			at += s
		case unix.EAGAIN, unix.ENOBUFS, unix.ENETDOWN, unix.ENXIO, unix.ENODEV:
			return sent, true
		default:
			// EINVAL, EMSGSIZE: the kernel refuses this one frame. ENOMEM: it could
			// not segment it.
			at++
		}
	}
	return sent, false
}

// Check implements Port. The error alone does not tell that a device is gone;
// the socket's binding does: the kernel sets it to -1.
func (p *Packet) Check() error {
	var pending int32
	length := uint32(unsafe.Sizeof(pending))
	unix.RawSyscall6(unix.SYS_GETSOCKOPT, uintptr(p.fd), unix.SOL_SOCKET, unix.SO_ERROR,
		uintptr(unsafe.Pointer(&pending)), uintptr(unsafe.Pointer(&length)), 0)

	var sa unix.RawSockaddrLinklayer
	length = unix.SizeofSockaddrLinklayer
	_, _, errno := unix.RawSyscall(unix.SYS_GETSOCKNAME, uintptr(p.fd),
		uintptr(unsafe.Pointer(&sa)), uintptr(unsafe.Pointer(&length)))
	if errno == 0 && sa.Ifindex < 0 {
		return ErrGone
	}
	return nil
}

// FD implements Port.
func (p *Packet) FD() int { return p.fd }

// KernelDrops implements Port. A large frame without room in the receive buffer
// counts as one that had no room in the ring.
func (p *Packet) KernelDrops() uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	if st, err := unix.GetsockoptTpacketStats(p.fd, unix.SOL_PACKET, unix.PACKET_STATISTICS); err == nil {
		p.kernelDrops += uint64(st.Drops)
	}
	lost := p.kernelDrops
	if p.account != nil {
		atomic.StoreUint64(&p.account.Lost, lost)
		lost += atomic.LoadUint64(&p.account.Drained)
	}
	return lost + p.truncated.Load()
}

// InvalidDrops implements Port.
func (p *Packet) InvalidDrops() uint64 { return p.invalid.Load() }

// Close implements Port. The kernel waits for up to two RCU grace periods in it,
// some tens of milliseconds.
func (p *Packet) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.fd < 0 {
		return nil
	}
	err := errors.Join(p.ring.close(), unix.Close(p.fd))
	p.fd = -1
	if err != nil {
		return fmt.Errorf("port %s: close: %w", p.name, err)
	}
	return nil
}
