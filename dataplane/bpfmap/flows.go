package bpfmap

import (
	"errors"
	"fmt"
	"sync"
	"time"
	"unsafe"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/vswitch/vswitch/dataplane/flowmap"
)

// kernelFlows is a flow table of the kernel.
type kernelFlows struct {
	keys, array      *ebpf.Map
	chunks           *Chunks
	mu               sync.Mutex // one exchange of the element at a time
	outer, inner     *ebpf.Map
	clock            *clock
	askers, stations *ebpf.Map

	stationKeys, stationFlows *ebpf.Map
}

func openFlows(d FlowDescriptor) (Flows, error) {
	f := new(kernelFlows)
	var err error
	for _, m := range []struct {
		fd int
		to **ebpf.Map
	}{{d.Keys, &f.keys}, {d.Chunks, &f.array}, {d.Outer, &f.outer}, {d.Inner, &f.inner}, {d.Askers, &f.askers}, {d.Stations, &f.stations}, {d.StationKeys, &f.stationKeys}, {d.StationFlows, &f.stationFlows}} {
		if err == nil {
			*m.to, err = openMap(m.fd)
		}
	}
	if err == nil {
		f.clock, err = openClock(d.Clock)
	}
	f.chunks = &Chunks{array: f.array, entries: d.Entries, made: d.Made}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// openMap opens a map by a duplicate of its descriptor.
func openMap(fd int) (*ebpf.Map, error) {
	fd, err := duplicate(fd)
	if err != nil {
		return nil, err
	}
	return ebpf.NewMapFromFD(fd) // closes it when it fails
}

func duplicate(fd int) (int, error) {
	fd, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("duplicate a descriptor: %w", err)
	}
	return fd, nil
}

// InJiffies implements Flows.
func (f *kernelFlows) InJiffies(d time.Duration) uint32 { return f.clock.in(d) }

// Grow implements Flows.
func (f *kernelFlows) Grow() (made int, err error) { return f.chunks.Grow() }

// Insert implements Flows.
func (f *kernelFlows) Insert(k flowmap.Key, number uint32) error {
	return f.keys.Update(bytesOf(&k), number, ebpf.UpdateNoExist)
}

// Entered implements Flows.
func (f *kernelFlows) Entered() (map[flowmap.Key]uint32, error) {
	all := make(map[flowmap.Key]uint32)
	err := each(f.keys, func(k flowmap.Key, n uint32) { all[k] = n })
	return all, err
}

// each calls fn for the elements of a hash.
func each[K, V any](m *ebpf.Map, fn func(K, V)) error {
	const batch = 4096
	keys, values := make([]K, batch), make([]V, batch)
	var at ebpf.MapBatchCursor
	for {
		n, err := m.BatchLookup(&at, keys, values, nil)
		if err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return err
		}
		for i := range n {
			fn(keys[i], values[i])
		}
		if err != nil { // that was all
			return nil
		}
	}
}

// Delete implements Flows.
func (f *kernelFlows) Delete(keys []flowmap.Key) error { return DeleteAll(f.keys, keys) }

// DeleteAll takes keys out of a map. It goes on at keys that are not there.
func DeleteAll[K any](m *ebpf.Map, keys []K) error {
	var errs []error
	for len(keys) > 0 {
		n, err := m.BatchDelete(keys, nil)
		if err == nil {
			break
		}
		if !errors.Is(err, ebpf.ErrKeyNotExist) {
			errs = append(errs, err)
		}
		keys = keys[min(n+1, len(keys)):] // it stopped at the one after n
	}
	return errors.Join(errs...)
}

// Ticks implements Flows.
func (f *kernelFlows) Ticks() (uint32, bool) {
	n, err := f.clock.read()
	return n, err == nil
}

// Wait implements Flows. When an element of a map of maps is exchanged, the kernel waits so
// that no program holds the map that was there (maybe_wait_bpf_programs in
// kernel/bpf/syscall.c): it is synchronize_rcu, and a program is inside of one read-side
// section from the socket filter to the redirection. membarrier would do, but is refused
// where a CPU runs without a tick. It takes 15 ms on most kernels, and no time where RCU is
// expedited.
func (f *kernelFlows) Wait() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.outer.Update(uint32(0), f.inner, ebpf.UpdateAny) != nil {
		time.Sleep(ProgramTime) // control has tried it when it made the maps, so this cannot happen
	}
}

// ProgramTime is longer than a program runs, and than an interrupt keeps the kernel
// from it.
const ProgramTime = 100 * time.Millisecond

// Close implements Flows.
func (f *kernelFlows) Close() error {
	return errors.Join(f.clock.close(), f.keys.Close(), f.array.Close(), f.outer.Close(), f.inner.Close(), f.askers.Close(), f.stations.Close(), f.stationKeys.Close(), f.stationFlows.Close()) // a nil map is allowed
}

// bytesOf is the memory of a key.
func bytesOf[T any](key *T) []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(key)), unsafe.Sizeof(*key))
}
