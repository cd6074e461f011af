package debroot

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/vswitch/vswitch/internal/netlab"
)

//go:embed enter
var enter string

// Machine is a root file system in use: a process 1 and what was started beside
// it. It ends with Close, or with the process that made it.
type Machine struct {
	init   *exec.Cmd
	guard  *exec.Cmd
	alive  io.Closer // the guard ends the machine when it is closed
	dir    string
	cgroup string
}

// Start starts a machine on the root file system dir, in the network ns. Its
// changes are in memory. With Systemd, systemd is process 1 and the machine has a
// cgroup2 of its own; otherwise process 1 does nothing. Output of process 1 goes
// to log.
func Start(dir string, ns *netlab.NS, systemd bool, log io.Writer) (_ *Machine, err error) {
	scratch, err := os.MkdirTemp("", "debroot")
	if err != nil {
		return nil, err
	}
	m := &Machine{dir: scratch, cgroup: "-"}
	defer func() {
		if err != nil {
			err = fmt.Errorf("machine on %s: %w", dir, errors.Join(err, m.Close()))
		}
	}()
	// A shell that waits buries the orphans that process 1 inherits.
	program, command := "init", []string{"sh", "-c", "echo init > /proc/self/comm; while :; do sleep 3600 & wait; done"}
	if systemd {
		if m.cgroup, err = makeCgroup(filepath.Base(scratch)); err != nil {
			return nil, err
		}
		program, command = "systemd", []string{"/lib/systemd/systemd", "--log-target=console", "--show-status=yes"}
	}
	m.init = exec.Command("sh", append([]string{"-c", enter, "enter", dir, scratch, m.cgroup}, command...)...)
	m.init.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "container=vswitch-test", "LANG=C.UTF-8"}
	m.init.Stdout, m.init.Stderr = log, log
	m.init.WaitDelay = time.Second
	m.init.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWPID | syscall.CLONE_NEWUTS | syscall.CLONE_NEWIPC,
		Setsid:     true,
	}
	if err := ns.Start(m.init); err != nil {
		return nil, err
	}
	// Whatever becomes of this process, the end of process 1 takes all others with
	// it, and the end of its mount namespace what was mounted.
	m.guard = exec.Command("sh", "-c", "read end; kill -9 "+strconv.Itoa(m.init.Process.Pid))
	m.guard.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if m.alive, err = m.guard.StdinPipe(); err != nil {
		return nil, err
	}
	if err := m.guard.Start(); err != nil {
		return nil, err
	}
	return m, m.entered(program)
}

// entered waits until process 1 is what it is to be.
func (m *Machine) entered(program string) error {
	comm := fmt.Sprintf("/proc/%d/comm", m.init.Process.Pid)
	for range 500 {
		b, err := os.ReadFile(comm)
		if err != nil {
			return fmt.Errorf("process 1 has ended: %w", err)
		}
		if strings.TrimSpace(string(b)) == program {
			return nil
		}
		time.Sleep(10 * time.Millisecond)
	}
	return errors.New("process 1 does not begin")
}

// Path is a path of the machine, for this process.
func (m *Machine) Path(inside string) string {
	return fmt.Sprintf("/proc/%d/root%s", m.init.Process.Pid, inside)
}

// Command prepares a command inside, in the machine's network namespace too. Its
// environment is the machine's own.
func (m *Machine) Command(ctx context.Context, name string, arg ...string) *exec.Cmd {
	pid := strconv.Itoa(m.init.Process.Pid)
	args := []string{"--target", pid, "--mount", "--pid", "--uts", "--ipc", "--net", "--", name}
	if m.cgroup != "-" {
		args = append([]string{"--cgroup"}, args...)
	}
	cmd := exec.CommandContext(ctx, "nsenter", append(args, arg...)...)
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8", "HOME=/root", "DEBIAN_FRONTEND=noninteractive"}
	cmd.WaitDelay = 2 * time.Second
	return cmd
}

// Close ends the machine with all its processes.
func (m *Machine) Close() error {
	if m.alive != nil {
		m.alive.Close()
		m.guard.Wait()
	} else if m.init != nil && m.init.Process != nil {
		m.init.Process.Kill()
	}
	if m.init != nil && m.init.Process != nil {
		m.init.Wait()
	}
	err := os.Remove(m.dir)
	if m.cgroup != "-" {
		err = errors.Join(err, removeCgroup(m.cgroup))
	}
	return err
}
