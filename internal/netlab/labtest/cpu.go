package labtest

import (
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// OneCPU keeps the goroutine on one processor until the result is called: the kernel handles
// a packet where it was sent, so packets of one flow are handled one after another. A process
// that the goroutine starts meanwhile stays there, too.
func OneCPU(t testing.TB) (release func()) {
	t.Helper()
	runtime.LockOSThread()
	var was, one unix.CPUSet
	if err := unix.SchedGetaffinity(0, &was); err != nil {
		t.Fatal(err)
	}
	cpu := 0
	for !was.IsSet(cpu) {
		cpu++
	}
	one.Set(cpu)
	if err := unix.SchedSetaffinity(0, &one); err != nil {
		t.Fatal(err)
	}
	return func() {
		_ = unix.SchedSetaffinity(0, &was)
		runtime.UnlockOSThread()
	}
}
