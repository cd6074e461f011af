package port

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/vswitch/vswitch/dataplane/flowmap"
	"github.com/vswitch/vswitch/dataplane/frame"
)

// Packet is an AF_PACKET socket on one device. It takes frames as the device
// receives them, beside the host's stack. Offloads of the device stay on: frames
// carry virtio headers. What it sends passes the device's queueing discipline,
// so that the host's shaping holds and the kernel segments for a device without
// segmentation offload; PACKET_QDISC_BYPASS would drop such frames
// (__dev_direct_xmit) and gained nothing on a veth.
type Packet struct {
	name  string
	fd    int
	ring  ring
	tally *flowmap.Tally // nil: nobody looks
	link  *plainLink     // nil: frames have a header of the link

	invalid   atomic.Uint64
	truncated atomic.Uint64 // the receive buffer had no room for a large frame

	mu          sync.Mutex
	kernelDrops uint64 // guarded by mu; the kernel forgets what was read
}

var _ Port = (*Packet)(nil)

// OpenPacket opens a socket and its port at once, for who is on both sides of the door.
func OpenPacket(cfg PacketConfig) (*Packet, error) {
	k, err := OpenSocket(cfg)
	if err != nil {
		return nil, err
	}
	p, err := openPacket(k.Descriptor())
	return p, errors.Join(err, k.Close())
}

// openPacket makes a port of a socket that has its ring and is bound.
func openPacket(d Descriptor) (*Packet, error) {
	fd, err := duplicate(d.FD)
	if err != nil {
		return nil, fmt.Errorf("port %s: %w", d.Name, err)
	}
	p := &Packet{name: d.Name, fd: fd, tally: d.Tally}
	err = p.ring.open(fd, d.Slots)
	if err == nil && d.Packets {
		p.link, err = newPlainLink(fd)
	}
	if err == nil && d.Retaken {
		err = p.begin()
	}
	switch {
	case err != nil:
	case d.Filter > 0:
		err = attachFilter(fd, d.Filter)
	case d.Retaken: // it is deaf
		err = os.NewSyscallError("SO_DETACH_FILTER", unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DETACH_FILTER, 0))
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("port %s: %w", d.Name, err), p.Close())
	}
	return p, nil
}

// begin forgets what a process before has not read. The socket is deaf.
func (p *Packet) begin() error {
	p.ring.forget()
	var head [frame.Headroom]byte // less is refused
	for {
		// Large frames. An error that is pending comes once in place of a message.
		if _, err := unix.Read(p.fd, head[:]); errors.Is(err, unix.EAGAIN) {
			break
		} else if err != nil && !errors.Is(err, unix.ENETDOWN) && !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("empty the receive queue: %w", err)
		}
	}
	if _, err := unix.GetsockoptTpacketStats(p.fd, unix.SOL_PACKET, unix.PACKET_STATISTICS); err != nil {
		return fmt.Errorf("PACKET_STATISTICS: %w", err)
	}
	if p.tally != nil { // nothing is under way
		p.ring.taken, p.kernelDrops = atomic.LoadUint64(&p.tally.In), 0
		atomic.StoreUint64(&p.tally.Lost, 0)
		atomic.StoreUint64(&p.tally.Taken, p.ring.taken)
	}
	return nil
}

// Send implements Port.
func (p *Packet) Send(tx *Tx, frames []*frame.Frame) int {
	sent := 0
	for len(frames) > 0 {
		n := min(len(frames), len(tx.msgs))
		put := n
		if p.link != nil {
			put = p.link.set(tx, frames[:n])
		} else {
			for i, f := range frames[:n] {
				frame.EncodeVnetHdr(f.Buf, f.Offload)
				tx.set(i, f.Buf)
			}
		}
		s, full := tx.send(p.fd, put)
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
	if p.tally != nil {
		atomic.StoreUint64(&p.tally.Lost, lost)
		lost += atomic.LoadUint64(&p.tally.Drained)
	}
	return lost + p.truncated.Load()
}

// InvalidDrops implements Port, refusals of the kernel's side to carry among them.
func (p *Packet) InvalidDrops() uint64 {
	n := p.invalid.Load()
	if p.tally != nil {
		n += atomic.LoadUint64(&p.tally.Refused)
	}
	return n
}

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
