package port

import (
	"errors"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// wakeKey marks the poller's own eventfd.
const wakeKey = ^uint32(0)

// Poller waits for any of many ports to become readable (epoll, level
// triggered). Add, Remove and Wake may be called from any goroutine; Wait
// belongs to one.
type Poller struct {
	epfd, wakefd int
	events       [64]unix.EpollEvent
	ready        [64]uint32
}

// NewPoller opens a poller that watches nothing yet.
func NewPoller() (*Poller, error) {
	epfd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	wakefd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return nil, errors.Join(os.NewSyscallError("eventfd", err), unix.Close(epfd))
	}
	p := &Poller{epfd: epfd, wakefd: wakefd}
	if err := p.Add(wakeKey, wakefd); err != nil {
		return nil, errors.Join(err, p.Close())
	}
	return p, nil
}

// Add watches fd; Wait reports it as key, which is not 2^32-1.
func (p *Poller) Add(key uint32, fd int) error {
	ev := unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(key)}
	return os.NewSyscallError("epoll_ctl", unix.EpollCtl(p.epfd, unix.EPOLL_CTL_ADD, fd, &ev))
}

// Mute lets Wait not report fd, which is watched as key, or report it again. An error of it
// is always reported.
func (p *Poller) Mute(key uint32, fd int, on bool) {
	ev := unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(key)}
	if on {
		ev.Events = 0
	}
	_ = unix.EpollCtl(p.epfd, unix.EPOLL_CTL_MOD, fd, &ev) // it may have been removed
}

// Remove stops watching fd. To remove one that is not watched does nothing.
func (p *Poller) Remove(fd int) { _ = unix.EpollCtl(p.epfd, unix.EPOLL_CTL_DEL, fd, nil) }

// Wake ends a Wait, or the next one.
func (p *Poller) Wake() {
	_, _ = unix.Write(p.wakefd, []byte{1, 0, 0, 0, 0, 0, 0, 0}) // EAGAIN: it is awake already
}

// Wait returns the keys that are readable, borrowed until the next Wait, and
// whether Wake was called. It sleeps until there are some, a millisecond at most if that is
// short, or not at all.
func (p *Poller) Wait(sleep, short bool) (keys []uint32, woken bool) {
	n := 0
	switch {
	case sleep && short:
		n, _ = unix.EpollWait(p.epfd, p.events[:], 1) // EINTR: nothing ready
	case sleep:
		n, _ = unix.EpollWait(p.epfd, p.events[:], -1)
	default:
		// A glance blocks nobody, so the scheduler need not hear of it.
		r, _, errno := unix.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(p.epfd),
			uintptr(unsafe.Pointer(&p.events[0])), uintptr(len(p.events)), 0, 0, 0)
		if errno == 0 {
			n = int(r)
		}
	}
	keys = p.ready[:0]
	for i := range max(n, 0) {
		if key := uint32(p.events[i].Fd); key != wakeKey {
			keys = append(keys, key)
			continue
		}
		woken = true
		var b [8]byte
		_, _ = unix.Read(p.wakefd, b[:])
	}
	return keys, woken
}

// Close ends the poller; no other method is under way.
func (p *Poller) Close() error { return errors.Join(unix.Close(p.wakefd), unix.Close(p.epfd)) }
