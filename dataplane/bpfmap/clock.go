package bpfmap

import (
	"fmt"
	"math"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// clock tells the jiffies, by a program, and how many a second has. A coarse clock moves with
// each jiffy, so that its resolution is the length of one (what sysconf says is another number).
type clock struct {
	program *ebpf.Program
	jiffy   time.Duration
}

// Monotonic makes a clock of CLOCK_MONOTONIC, in ns: it is every process's.
func Monotonic() func() int64 {
	var at unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &at) // it knows the clock
	start := time.Now()
	return func() int64 { return at.Nano() + int64(time.Since(start)) }
}

func openClock(fd int) (*clock, error) {
	var jiffy unix.Timespec
	if err := unix.ClockGetres(unix.CLOCK_MONOTONIC_COARSE, &jiffy); err != nil {
		return nil, fmt.Errorf("resolution of CLOCK_MONOTONIC_COARSE: %w", err)
	}
	fd, err := duplicate(fd)
	if err != nil {
		return nil, err
	}
	p, err := ebpf.NewProgramFromFD(fd) // closes it when it fails
	if err != nil {
		return nil, err
	}
	return &clock{p, max(1, time.Duration(jiffy.Nano()))}, nil
}

// read returns the lower half of the kernel's jiffies.
func (c *clock) read() (uint32, error) {
	return c.program.Run(&ebpf.RunOptions{Data: make([]byte, 14)})
}

// in is a time in jiffies, as many as a difference of lower halves can tell at most.
func (c *clock) in(d time.Duration) uint32 {
	return uint32(min(d/c.jiffy, math.MaxInt32))
}

func (c *clock) close() error {
	if c == nil {
		return nil
	}
	return c.program.Close()
}
