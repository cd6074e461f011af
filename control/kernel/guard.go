package kernel

import (
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// A program that is attached by no link outlives the process, so it works only while
// the process says that it lives.
const (
	beatInterval = time.Second
	beatDeadline = 3 * beatInterval
)

// ErrNoTCX says that the kernel has no TCX, which came with Linux 6.6.
var ErrNoTCX = errors.New("the kernel has no tcx")

// GuardUplink keeps what is ours from the stack of the host on one interface of
// the calling thread's network namespace, until the result is closed or the
// process ends. The error wraps ErrNoTCX where the kernel cannot: attach GuardFD
// there.
func (k *Kernel) GuardUplink(ifindex int) (io.Closer, error) {
	// First in line: the verdict of another program must not let a packet of
	// ours through to the stack.
	l, err := link.AttachTCX(link.TCXOptions{
		Interface: ifindex, Program: k.guard, Attach: ebpf.AttachTCXIngress, Anchor: link.Head(),
	})
	if errors.Is(err, ebpf.ErrNotSupported) {
		return nil, fmt.Errorf("guard: %w: %w", ErrNoTCX, err)
	}
	if err != nil {
		return nil, fmt.Errorf("guard: %w", err)
	}
	return l, nil
}

// GuardFD is the guard for cls_bpf (direct action) on the ingress of clsact,
// where GuardUplink is not supported. From the first call on a goroutine shows
// once a second that the process lives; three seconds after the last sign the
// program passes everything. It is borrowed until Close, which disarms it at
// once.
func (k *Kernel) GuardFD() (int, error) {
	b, err := k.lives()
	if err != nil {
		return -1, fmt.Errorf("guard: %w", err)
	}
	return b.guard.FD(), nil
}

// lives is the heartbeat, which begins with the first call.
func (k *Kernel) lives() (*heartbeat, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.beat == nil {
		b, err := newHeartbeat(k.planes, k.flows)
		if err != nil {
			return nil, err
		}
		k.beat = b
	}
	return k.beat, nil
}

// heartbeat is the programs that need the process to live: they outlive it where they
// are attached by no link.
type heartbeat struct {
	guard      *ebpf.Program
	host       *ebpf.Program // nil without a flow table
	mem        []byte
	deadline   *uint64 // CLOCK_MONOTONIC in ns, in the memory of a map
	stop, done chan struct{}
}

func newHeartbeat(p *planes, f *flows) (*heartbeat, error) {
	m, err := ebpf.NewMap(&ebpf.MapSpec{
		Name: "vsw_deadline", Type: ebpf.Array, KeySize: 4, ValueSize: 8, MaxEntries: 1, Flags: unix.BPF_F_MMAPABLE,
	})
	if err != nil {
		return nil, err
	}
	defer m.Close() // the program and the mapping hold it
	guard, err := ebpf.NewProgram(guardProgram(p, f, m))
	if err != nil {
		return nil, err
	}
	var host *ebpf.Program
	if f != nil {
		if host, err = ebpf.NewProgram(hostProgram(f, m)); err != nil {
			guard.Close()
			return nil, err
		}
	}
	mem, words, err := mapWords(m)
	if err != nil {
		guard.Close()
		host.Close()
		return nil, err
	}
	b := &heartbeat{guard: guard, host: host, mem: mem, deadline: &words[0], stop: make(chan struct{}), done: make(chan struct{})}
	b.extend()
	go b.run()
	return b, nil
}

func (b *heartbeat) run() {
	defer close(b.done)
	t := time.NewTicker(beatInterval)
	defer t.Stop()
	for {
		select {
		case <-t.C:
			b.extend()
		case <-b.stop:
			return
		}
	}
}

func (b *heartbeat) extend() {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		return // cannot happen; if it does, the guard opens
	}
	atomic.StoreUint64(b.deadline, uint64(now.Nano())+uint64(beatDeadline))
}

func (b *heartbeat) close() {
	close(b.stop)
	<-b.done
	atomic.StoreUint64(b.deadline, 0)
	b.guard.Close()
	b.host.Close() // a nil program is allowed
	_ = unix.Munmap(b.mem)
}
