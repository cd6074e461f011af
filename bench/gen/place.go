package gen

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// Place keeps all threads of an agent on a CPU, counted from 1, or lets them run on any again: 0.
// Threads that it starts later are where the one is that starts them.
func (a *Agent) Place(cpu int) error {
	var set unix.CPUSet
	for n := range runtime.NumCPU() {
		if cpu == 0 || n == cpu-1 {
			set.Set(n)
		}
	}
	tasks := fmt.Sprintf("/proc/%d/task", a.cmd.Process.Pid)
	placed := make(map[int]bool)
	for before := -1; before != len(placed); { // until none is new
		before = len(placed)
		list, err := os.ReadDir(tasks)
		if err != nil {
			return fmt.Errorf("place agent: %w", err)
		}
		for _, e := range list {
			tid, err := strconv.Atoi(e.Name())
			if err != nil || placed[tid] {
				continue
			}
			if err := unix.SchedSetaffinity(tid, &set); err != nil && !errors.Is(err, unix.ESRCH) {
				return fmt.Errorf("place agent on CPU %d: %w", cpu, err)
			}
			placed[tid] = true
		}
	}
	return nil
}

// Spin takes all that a CPU leaves, as somebody's program does beside the network; Close ends it.
func Spin(ctx context.Context, ns Namespace, cpu int) (*Agent, error) {
	a, err := start(On{ns, cpu}, Spec{Role: roleSpin})
	if err != nil {
		return nil, err
	}
	if err := a.answer(ctx, 5*time.Second, nil); err != nil {
		return nil, errors.Join(err, a.Close())
	}
	return a, nil
}

func spin() {
	lockThread()
	for n := uint64(1); ; n = n*6364136223846793005 + 1 {
		if n == 0 {
			return
		}
	}
}
