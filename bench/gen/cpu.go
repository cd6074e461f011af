package gen

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// tick is USER_HZ, the unit of CPU times in /proc: 100 on every architecture
// that Go runs on, whatever the kernel's own HZ is.
const tick = time.Second / 100

// Busy is the number of cores of the machine that work, over d.
func Busy(d time.Duration) (float64, error) {
	before, err := machineCPU()
	if err != nil {
		return 0, err
	}
	start := time.Now()
	time.Sleep(d)
	after, err := machineCPU()
	return (after - before).Seconds() / time.Since(start).Seconds(), err
}

// Use begins to count the time that all CPUs of the machine spend working; used ends it.
func Use() (used func() (time.Duration, error)) {
	before, err := machineCPU()
	return func() (time.Duration, error) {
		after, err2 := machineCPU()
		return after - before, errors.Join(err, err2)
	}
}

// machineCPU is the time that all CPUs of the machine have spent working, from
// /proc/stat. It does not know namespaces: load of others is in it.
func machineCPU() (time.Duration, error) {
	b, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, fmt.Errorf("machine's CPU time: %w", err)
	}
	return parseMachineCPU(string(b))
}

func parseMachineCPU(stat string) (time.Duration, error) {
	line, _, _ := strings.Cut(stat, "\n")
	fields := strings.Fields(line)
	if len(fields) < 8 || fields[0] != "cpu" {
		return 0, fmt.Errorf("machine's CPU time: %q is no line of /proc/stat", line)
	}
	// user nice system idle iowait irq softirq; guest time is in user already, and
	// stolen time was not spent on us.
	var ticks uint64
	for _, i := range []int{1, 2, 3, 6, 7} {
		n, err := strconv.ParseUint(fields[i], 10, 64)
		if err != nil {
			return 0, fmt.Errorf("machine's CPU time: %w", err)
		}
		ticks += n
	}
	return time.Duration(ticks) * tick, nil
}

// ProcessCPU is the user and system time that process pid has spent, from
// /proc/PID/stat.
func ProcessCPU(pid int) (time.Duration, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, fmt.Errorf("CPU time of process %d: %w", pid, err)
	}
	return parseProcessCPU(string(b))
}

func parseProcessCPU(stat string) (time.Duration, error) {
	// The second field is the command in parentheses and may hold anything.
	_, rest, ok := strings.Cut(stat[max(0, strings.LastIndexByte(stat, ')')):], " ")
	fields := strings.Fields(rest)
	if !ok || len(fields) < 13 {
		return 0, fmt.Errorf("process's CPU time: %q is no /proc/PID/stat", stat)
	}
	var ticks uint64
	for _, f := range fields[11:13] { // utime, stime: fields 14 and 15 of proc(5)
		n, err := strconv.ParseUint(f, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("process's CPU time: %w", err)
		}
		ticks += n
	}
	return time.Duration(ticks) * tick, nil
}

// ProcessRSS is VmRSS of process pid in bytes. Packet rings that the process
// has mapped and touched are in it.
func ProcessRSS(pid int) (uint64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, fmt.Errorf("memory of process %d: %w", pid, err)
	}
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kib, err := strconv.ParseUint(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64)
			if err != nil {
				return 0, fmt.Errorf("memory of process %d: %w", pid, err)
			}
			return kib << 10, nil
		}
	}
	return 0, fmt.Errorf("memory of process %d: no VmRSS in its status", pid)
}
