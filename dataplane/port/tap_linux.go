package port

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/vswitch/vswitch/dataplane/flowmap"
	"github.com/vswitch/vswitch/dataplane/frame"
	"github.com/vswitch/vswitch/dataplane/header"
)

// TAPConfig says what OpenTAP opens.
type TAPConfig struct {
	// Name of the device, 1 to 15 bytes. A device of that name that no process
	// holds any more is taken over, with its addresses and routes.
	Name string
}

// TAP is a virtual Ethernet device towards the host, open at its far end: what
// the host sends into the device is received here. Both directions carry virtio
// headers and frames of up to 64 KiB. The device is down and without addresses
// when it is new; whoever owns the host's links sets it up. It ends with its last descriptor
// (FD): another process that has one keeps it as it is.
type TAP struct {
	name    string
	fd      int
	uso     bool
	invalid atomic.Uint64
	read    int     // frames since Release
	tally   tallier // for the flow table

	mu    sync.Mutex // guards stats
	stats *os.File   // net/dev of the device's namespace
	base  uint64     // its count of drops when the port was opened
}

var _ Port = (*TAP)(nil)

// tapFlags of every queue that is attached. They become the device's own as
// long as no other queue is.
const tapFlags = unix.IFF_TAP | unix.IFF_NO_PI | unix.IFF_VNET_HDR | unix.IFF_MULTI_QUEUE

// OpenTAP opens a TAP device of the caller's network namespace and makes it
// when there is none.
func OpenTAP(cfg TAPConfig) (*TAP, error) {
	if n := len(cfg.Name); n == 0 || n >= unix.IFNAMSIZ {
		return nil, fmt.Errorf("tap %q: the name must have 1 to %d bytes", cfg.Name, unix.IFNAMSIZ-1)
	}
	t := &TAP{name: cfg.Name, fd: -1}
	if err := t.open(); err != nil {
		return nil, errors.Join(fmt.Errorf("tap %s: %w", cfg.Name, err), t.Close())
	}
	return t, nil
}

func (t *TAP) open() (err error) {
	// First: a device that is made and finds no descriptor free would stay for good.
	t.fd, err = unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	switch {
	case errors.Is(err, os.ErrPermission):
		return fmt.Errorf("create: %w: needs CAP_NET_ADMIN and access to /dev/net/tun", err)
	case errors.Is(err, os.ErrNotExist):
		return fmt.Errorf("create: /dev/net/tun: %w: load the kernel's tun module", err)
	case err != nil:
		return &os.PathError{Op: "open", Path: "/dev/net/tun", Err: err}
	}
	exists, err := t.exists()
	if err != nil {
		return err
	}
	if !exists {
		if err := t.create(); err != nil {
			return err
		}
	}
	if err := t.attach(); err != nil {
		return err
	}
	if !exists {
		err = t.unpersist() // whatever fails from here on, it ends with the descriptor
	}
	if err == nil {
		err = t.alone()
	}
	if err == nil {
		err = t.setup()
	}
	if err == nil && exists {
		err = t.unpersist() // one of an earlier version is persistent
	}
	if err != nil {
		return err
	}
	return t.watch()
}

// watch opens the counters of the device.
func (t *TAP) watch() (err error) {
	// The descriptor stays with this namespace, whatever thread reads it later.
	if t.stats, err = os.Open("/proc/thread-self/net/dev"); err != nil {
		return err
	}
	t.base = t.txDropped()
	return nil
}

// attach makes the descriptor the device's only queue.
func (t *TAP) attach() error {
	ifr, err := unix.NewIfreq(t.name)
	if err != nil {
		return err
	}
	ifr.SetUint16(tapFlags)
	err = unix.IoctlIfreq(t.fd, unix.TUNSETIFF, ifr)
	switch {
	case errors.Is(err, unix.EINVAL):
		return fmt.Errorf("attach: a device of that name exists and is no multi-queue TAP: %w: delete or rename it", err)
	case err != nil:
		return fmt.Errorf("attach: %w", err)
	}
	return nil
}

// alone fails where another process has a queue, which would get a share of the frames.
func (t *TAP) alone() error {
	n, err := t.queues()
	if err == nil && n > 1 {
		err = fmt.Errorf("another process holds the device: %w", unix.EBUSY)
	}
	return err
}

// setup says how frames cross the descriptor. The kernel keeps that with the device.
func (t *TAP) setup() error {
	if err := unix.IoctlSetPointerInt(t.fd, unix.TUNSETVNETHDRSZ, frame.VnetHdrLen); err != nil {
		return fmt.Errorf("set TUNSETVNETHDRSZ: %w", err)
	}
	const tso = unix.TUN_F_CSUM | unix.TUN_F_TSO4 | unix.TUN_F_TSO6 | unix.TUN_F_TSO_ECN
	err := unix.IoctlSetInt(t.fd, unix.TUNSETOFFLOAD, tso|unix.TUN_F_USO4|unix.TUN_F_USO6)
	t.uso = err == nil
	if errors.Is(err, unix.EINVAL) { // before Linux 6.2
		err = unix.IoctlSetInt(t.fd, unix.TUNSETOFFLOAD, tso)
	}
	if err != nil {
		return fmt.Errorf("set TUNSETOFFLOAD: %w", err)
	}
	return nil
}

// openTAP makes a port of the queue that a TAP has open.
func openTAP(d Descriptor) (*TAP, error) {
	t := &TAP{name: d.Name, fd: -1, tally: tallier{shared: d.Tally, size: uint64(d.Queue)}}
	stats, err := duplicate(d.Stats)
	if err == nil {
		t.stats = os.NewFile(uintptr(stats), "net/dev")
		t.fd, err = duplicate(d.FD)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("tap %s: %w", d.Name, err), t.Close())
	}
	t.base = t.txDropped()
	return t, nil
}

// Descriptor is the device's queue as it crosses the door. Who has opened the device keeps
// it, and closes it when the port is closed.
func (t *TAP) Descriptor() Descriptor {
	return Descriptor{Kind: KindTAP, Name: t.name, FD: t.fd, Queue: int(t.tally.size), Stats: int(t.stats.Fd()), Tally: t.tally.shared}
}

// USO reports whether the kernel has words for UDP segmentation in a virtio
// header, which came with Linux 6.2. Without them the kernel segments what the
// host sends into the device itself, but a Packet gets no such frame at all: the
// kernel counts it as dropped. Its sender must not make them then.
func (t *TAP) USO() bool { return t.uso }

// Name returns the device's name when it was opened.
func (t *TAP) Name() string { return t.name }

// Receive implements Port. All frames lie in a.
func (t *TAP) Receive(b *frame.Batch, a *Arena) error {
	for !b.Full() {
		mem := a.next()
		if mem == nil {
			return nil
		}
		n, _, errno := unix.Syscall(unix.SYS_READ, uintptr(t.fd),
			uintptr(unsafe.Pointer(&mem[vlanRoom])), uintptr(len(mem)-vlanRoom))
		if errno != 0 {
			a.undo()
			switch errno {
			case unix.EINTR:
				continue
			case unix.EBADFD:
				return ErrGone
			}
			t.tally.found = errno == unix.EAGAIN
			return nil
		}
		t.read++
		buf := mem[vlanRoom : vlanRoom+n : vlanRoom+n]
		if n < frame.Headroom+header.EthernetLen {
			a.undo()
			b.Charge(int(n), nil)
			b.Refuse(int(n))
			t.invalid.Add(1)
			continue
		}
		off, ok := frame.DecodeVnetHdr(buf, int(n)-frame.Headroom)
		b.Charge(int(n)-frame.Headroom, buf)
		if !ok {
			a.undo()
			b.Refuse(int(n) - frame.Headroom)
			t.invalid.Add(1)
			continue
		}
		f := b.Next()
		f.Buf, f.Offload = buf, off
	}
	return nil
}

// Release implements Port; the frames lie in the worker's arena.
func (t *TAP) Release() {
	t.tally.release(t.read)
	t.read = 0
}

// Count keeps the tally of a program that counts what the host sends into the device.
// The port is no worker's yet.
func (t *TAP) Count(a *flowmap.Tally) error {
	s, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("tap %s: %w", t.name, os.NewSyscallError("socket", err))
	}
	defer unix.Close(s)
	ifr, err := unix.NewIfreq(t.name)
	if err == nil {
		err = unix.IoctlIfreq(s, unix.SIOCGIFTXQLEN, ifr)
	}
	if err != nil {
		return fmt.Errorf("tap %s: length of the queue: %w", t.name, err)
	}
	t.tally.shared, t.tally.size = a, uint64(ifr.Uint32())
	return nil
}

// Uncount undoes Count, as long as the port is no worker's.
func (t *TAP) Uncount() { t.tally.shared = nil }

// Check implements Port.
func (t *TAP) Check() error {
	var ifr [40]byte // struct ifreq
	_, _, errno := unix.RawSyscall(unix.SYS_IOCTL, uintptr(t.fd), unix.TUNGETIFF, uintptr(unsafe.Pointer(&ifr)))
	if errno == unix.EBADFD {
		return ErrGone
	}
	return nil
}

// Send implements Port. A frame that the kernel refuses (UDP segmentation before
// Linux 6.2, for instance) does not stop those behind it.
func (t *TAP) Send(_ *Tx, frames []*frame.Frame) int {
	sent := 0
	for i := 0; i < len(frames); {
		f := frames[i]
		frame.EncodeVnetHdr(f.Buf, f.Offload)
		_, _, errno := unix.Syscall(unix.SYS_WRITE, uintptr(t.fd),
			uintptr(unsafe.Pointer(unsafe.SliceData(f.Buf))), uintptr(len(f.Buf)))
		switch errno {
		case 0:
			sent++
		case unix.EINTR:
			continue
		case unix.EAGAIN, unix.ENOBUFS, unix.ENOMEM, unix.EIO, unix.EBADFD:
			return sent // full, down or gone
		}
		i++
	}
	return sent
}

// FD implements Port.
func (t *TAP) FD() int { return t.fd }

// KernelDrops implements Port: frames the host sent and the queue had no room
// for. Those sent while the device was being set up or down are among them.
func (t *TAP) KernelDrops() uint64 {
	if a := t.tally.shared; a != nil {
		return t.tally.settle(time.Now()) + atomic.LoadUint64(&a.Drained) + atomic.LoadUint64(&a.Refused)
	}
	// A device made anew under this name counts from zero.
	if n := t.txDropped(); n > t.base {
		return n - t.base
	}
	return 0
}

func (t *TAP) txDropped() uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.stats == nil {
		return 0
	}
	if _, err := t.stats.Seek(0, io.SeekStart); err != nil {
		return 0
	}
	text, err := io.ReadAll(t.stats)
	if err != nil {
		return 0
	}
	for line := range bytes.Lines(text) {
		name, counters, _ := bytes.Cut(bytes.TrimSpace(line), []byte(":"))
		if string(name) != t.name {
			continue
		}
		// Eight columns of reception, then bytes, packets, errs, drop.
		if cols := bytes.Fields(counters); len(cols) > 11 {
			n, _ := strconv.ParseUint(string(cols[11]), 10, 64)
			return n
		}
	}
	return 0
}

// InvalidDrops implements Port.
func (t *TAP) InvalidDrops() uint64 { return t.invalid.Load() }

// Close implements Port. The device vanishes unless another process has a descriptor of it.
func (t *TAP) Close() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	var err error
	if t.stats != nil {
		err = t.stats.Close()
		t.stats = nil
	}
	if t.fd >= 0 {
		err = errors.Join(err, unix.Close(t.fd))
		t.fd = -1
	}
	if err != nil {
		return fmt.Errorf("tap %s: close: %w", t.name, err)
	}
	return nil
}
