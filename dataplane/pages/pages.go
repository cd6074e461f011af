//go:build !race

package pages

import (
	"runtime"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	page     = 4096
	hugePage = 2 << 20
)

// Memory is reserved, zero, and resident as far as it was touched.
type Memory struct {
	mem  []byte
	used atomic.Int64
}

// New reserves size bytes, which are given back when owner is collected. A kernel that
// refuses leaves it to the Go heap.
func New[T any](owner *T, size int) *Memory {
	const flags = unix.MAP_PRIVATE | unix.MAP_ANONYMOUS | unix.MAP_NORESERVE
	mem, err := unix.Mmap(-1, 0, size+2*hugePage, unix.PROT_READ|unix.PROT_WRITE, flags)
	if err != nil {
		return new(Memory)
	}
	runtime.AddCleanup(owner, func(mem []byte) { _ = unix.Munmap(mem) }, mem)
	if first := hugePage - int(uintptr(unsafe.Pointer(&mem[0]))%hugePage); size > first {
		_ = unix.Madvise(mem[first+hugePage:], unix.MADV_HUGEPAGE) // a kernel without has small ones
		return &Memory{mem: mem[first:]}
	}
	return &Memory{mem: mem}
}

// Take returns n values that nobody has used. T holds no pointer. It is safe for
// concurrent use.
func Take[T any](m *Memory, n int) []T {
	size := int64(n) * int64(unsafe.Sizeof(*new(T)))
	if size >= page {
		size = (size + page - 1) &^ (page - 1)
	}
	end := m.used.Add(size)
	if end > int64(len(m.mem)) {
		return make([]T, n)
	}
	return unsafe.Slice((*T)(unsafe.Pointer(&m.mem[end-size])), n)
}

// Empty gives the memory behind values of Take back. Who still reads them reads zeros.
func Empty[T any](m *Memory, values []T) {
	if len(m.mem) == 0 || len(values) == 0 {
		return
	}
	from := int64(uintptr(unsafe.Pointer(&values[0])) - uintptr(unsafe.Pointer(&m.mem[0])))
	to := from + int64(len(values))*int64(unsafe.Sizeof(values[0]))
	if from < 0 || to > int64(len(m.mem)) {
		return // of the Go heap
	}
	if from, to = (from+page-1)&^(page-1), to&^(page-1); from < to {
		_ = unix.Madvise(m.mem[from:to], unix.MADV_DONTNEED)
	}
}
