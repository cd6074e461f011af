package kernel

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/cilium/ebpf/ringbuf"
	"golang.org/x/sys/unix"

	"github.com/vswitch/vswitch/dataplane/bpfmap"
)

// CheckCgroup says why a directory is not that of a cgroup (version 2).
func CheckCgroup(dir string) error {
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil {
		return err
	}
	if fs.Type != unix.CGROUP2_SUPER_MAGIC {
		return errors.New("it is no directory of a cgroup2")
	}
	return nil
}

// binds are the hooks of a cgroup that count the UDP sockets of the host at each port, and
// note the ports of its TCP sockets.
type binds struct {
	sockets  *ebpf.Map // socket storage
	takers   *ebpf.Map // ring: sockets that take packets without ports
	programs []*ebpf.Program
	links    []link.Link
}

// socketOurs is what a socket of ours has in its storage, SOCKET_OURS in bind.h.
const socketOurs = uint32(1 << 16)

// WatchBinds tells the programs from now on which UDP ports programs of the host bind, the
// ones in a cgroup (version 2, its directory) and below it, and in the network namespace of
// the calling thread. It holds until Close, or until the process ends. The error says what
// the kernel lacks: it needs Linux 5.14, and a cgroup whose programs others may add to.
func (k *Kernel) WatchBinds(cgroup string) (err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.binds != nil {
		return nil
	}
	b := &binds{}
	defer func() {
		if err != nil {
			b.forget(k.bound)
			err = fmt.Errorf("hooks of bind at %s: %w", cgroup, err)
		}
	}()
	if err := CheckCgroup(cgroup); err != nil {
		return err
	}
	dir, err := os.Open(cgroup)
	if err != nil {
		return err
	}
	defer dir.Close()
	cookie, err := netnsCookie()
	if err != nil {
		return err
	}
	spec, err := k.object()
	if err != nil {
		return err
	}
	if err := spec.Variables[programsVarNetnsCookie].Set(cookie); err != nil {
		return err
	}
	if b.sockets, err = newMap(spec, programsMapVswBoundSockets); err != nil {
		return err
	}
	if b.takers, err = newMap(spec, programsMapVswTakers); err != nil {
		return err
	}
	own := map[string]**ebpf.Map{
		programsMapVswBoundSockets: &b.sockets, programsMapVswTakers: &b.takers, programsMapVswBoundPorts: &k.planes.bound,
	}
	for _, h := range []struct {
		program string
		at      ebpf.AttachType
	}{
		{programsProgVswReleased, ebpf.AttachCgroupInetSockRelease}, // first, so that no count stays
		{programsProgVswCreated, ebpf.AttachCGroupInetSockCreate},
		{programsProgVswBound4, ebpf.AttachCGroupInet4PostBind},
		{programsProgVswBound6, ebpf.AttachCGroupInet6PostBind},
	} {
		p, err := newProgram(spec, h.program, own)
		if err != nil {
			return err
		}
		b.programs = append(b.programs, p)
		l, err := link.AttachRawLink(link.RawLinkOptions{Target: int(dir.Fd()), Program: p, Attach: h.at})
		if err != nil {
			return err
		}
		b.links = append(b.links, l)
	}
	k.binds = b
	return nil
}

// WatchesBinds reports whether the programs hear of ports when they are bound.
func (k *Kernel) WatchesBinds() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.binds != nil
}

// Own says that a socket is ours before it is bound: what it holds is not the host's.
func (k *Kernel) Own(fd int) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.binds == nil {
		return nil
	}
	if err := k.binds.sockets.Put(uint32(fd), [2]uint32{socketOurs}); err != nil {
		return fmt.Errorf("mark a socket: %w", err)
	}
	return nil
}

// HearTakers calls fn when a program of the host has opened a raw socket, or one of SCTP, until
// ctx ends. WatchBinds went before.
func (k *Kernel) HearTakers(ctx context.Context, fn func()) error {
	k.mu.Lock()
	b := k.binds
	k.mu.Unlock()
	if b == nil {
		return errors.New("no hooks of bind are there")
	}
	r, err := ringbuf.NewReader(b.takers)
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { r.Close() })
	defer func() {
		if stop() {
			r.Close()
		}
	}()
	var rec ringbuf.Record
	for {
		err := r.ReadInto(&rec)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
			return err
		}
		fn()
	}
}

// netnsCookie is the kernel's number of the calling thread's network namespace.
func netnsCookie() (uint64, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	defer unix.Close(fd)
	cookie, err := unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_NETNS_COOKIE)
	if err != nil {
		return 0, fmt.Errorf("the kernel does not number network namespaces: %w", err)
	}
	return cookie, nil
}

// forget is close for hooks that are not complete. A socket that some of them have counted
// meanwhile would stay counted for ever.
func (b *binds) forget(bound *boundPorts) {
	some := len(b.links) > 0
	b.close()
	if some {
		time.Sleep(bpfmap.ProgramTime) // one that began before may still count
		*bound = boundPorts{}
	}
}

// close takes the hooks down, those that count before that of release.
func (b *binds) close() {
	for _, l := range slices.Backward(b.links) {
		l.Close()
	}
	for _, p := range b.programs {
		p.Close()
	}
	b.sockets.Close() // a nil map is allowed
	b.takers.Close()
}
