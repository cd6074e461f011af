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
	"syscall"
	"time"
	"unsafe"

	"github.com/songgao/water"
	"golang.org/x/sys/unix"

	"github.com/vswitch/vswitch/dataplane/frame"
	"github.com/vswitch/vswitch/dataplane/header"
)

// TAPConfig says what OpenTAP opens.
type TAPConfig struct {
	// Name of the device, 1 to 15 bytes. A device of that name that no process
	// holds any more is taken over, with its addresses and routes.
	Name string

	// Persist keeps the device when the port is closed or the process dies.
	Persist bool
}

// TAP is a virtual Ethernet device towards the host, open at its far end: what
// the host sends into the device is received here. Both directions carry virtio
// headers and frames of up to 64 KiB. The device is down and without addresses
// when it is new; whoever owns the host's links sets it up.
type TAP struct {
	name    string
	fd      int
	uso     bool
	invalid atomic.Uint64
	read    int   // frames since Release
	tally   tally // for the flow table

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
	if err := t.open(cfg.Persist); err != nil {
		return nil, errors.Join(fmt.Errorf("tap %s: %w", cfg.Name, err), t.Close())
	}
	return t, nil
}

func (t *TAP) open(persist bool) (err error) {
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
	if err := t.SetPersist(persist); err != nil {
		return err
	}
	// The descriptor stays with this namespace, whatever thread reads it later.
	if t.stats, err = os.Open("/proc/thread-self/net/dev"); err != nil {
		return err
	}
	t.base = t.txDropped()
	return nil
}

func (t *TAP) exists() (bool, error) {
	s, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return false, os.NewSyscallError("socket", err)
	}
	defer unix.Close(s)
	ifr, err := unix.NewIfreq(t.name)
	if err != nil {
		return false, err
	}
	err = unix.IoctlIfreq(s, unix.SIOCGIFINDEX, ifr)
	if errors.Is(err, unix.ENODEV) {
		return false, nil
	}
	return err == nil, os.NewSyscallError("SIOCGIFINDEX", err)
}

// create makes the device. It has to outlive the descriptor it is made through,
// which knows nothing of virtio headers and cannot be taught: the flags of a
// device change only when its first queue is attached.
func (t *TAP) create() error {
	// A child forked just now would inherit the descriptor and keep a queue that
	// nobody reads: water opens it without O_CLOEXEC.
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	dev, err := water.New(water.Config{
		DeviceType:             water.TAP,
		PlatformSpecificParams: water.PlatformSpecificParams{Name: t.name, Persist: true, MultiQueue: true},
	})
	switch {
	case errors.Is(err, os.ErrPermission):
		return fmt.Errorf("create: %w: needs CAP_NET_ADMIN and access to /dev/net/tun", err)
	case errors.Is(err, os.ErrNotExist):
		return fmt.Errorf("create: /dev/net/tun: %w: load the kernel's tun module", err)
	case err != nil:
		return fmt.Errorf("create: %w", err)
	}
	return dev.Close()
}

// attach opens the device's only queue.
func (t *TAP) attach() (err error) {
	t.fd, err = unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: "/dev/net/tun", Err: err}
	}
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
	// Another holder's queue would get a share of the frames.
	if n, err := t.queues(); err != nil || n > 1 {
		if err == nil {
			err = unix.EBUSY
		}
		return fmt.Errorf("another process holds the device: %w", err)
	}
	if err := unix.IoctlSetPointerInt(t.fd, unix.TUNSETVNETHDRSZ, frame.VnetHdrLen); err != nil {
		return fmt.Errorf("set TUNSETVNETHDRSZ: %w", err)
	}
	const tso = unix.TUN_F_CSUM | unix.TUN_F_TSO4 | unix.TUN_F_TSO6 | unix.TUN_F_TSO_ECN
	err = unix.IoctlSetInt(t.fd, unix.TUNSETOFFLOAD, tso|unix.TUN_F_USO4|unix.TUN_F_USO6)
	t.uso = err == nil
	if errors.Is(err, unix.EINVAL) { // before Linux 6.2
		err = unix.IoctlSetInt(t.fd, unix.TUNSETOFFLOAD, tso)
	}
	if err != nil {
		return fmt.Errorf("set TUNSETOFFLOAD: %w", err)
	}
	return nil
}

// SetPersist says whether the device stays when the port is closed or the
// process dies.
func (t *TAP) SetPersist(on bool) error {
	value := 0
	if on {
		value = 1
	}
	if err := unix.IoctlSetInt(t.fd, unix.TUNSETPERSIST, value); err != nil {
		return fmt.Errorf("set TUNSETPERSIST: %w", err)
	}
	return nil
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
	for b.N < frame.BatchSize {
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
			t.invalid.Add(1)
			continue
		}
		off, ok := frame.DecodeVnetHdr(buf, int(n)-frame.Headroom)
		if !ok {
			a.undo()
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

// Count keeps the account of a program that counts what the host sends into the device.
// The port is no worker's yet.
func (t *TAP) Count(a *Account) error {
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
	t.tally.account, t.tally.size = a, uint64(ifr.Uint32())
	return nil
}

// Uncount undoes Count, as long as the port is no worker's.
func (t *TAP) Uncount() { t.tally.account = nil }

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
	if a := t.tally.account; a != nil {
		return t.tally.settle(time.Now()) + atomic.LoadUint64(&a.Drained)
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

// Close implements Port. The device vanishes unless it is persistent.
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
