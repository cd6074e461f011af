package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vswitch/vswitch/control/client"
	"github.com/vswitch/vswitch/control/daemon"
	"github.com/vswitch/vswitch/internal/netlab"
)

// demoDaemon is `vswitch daemon` as a child, in a namespace.
type demoDaemon struct {
	runDir string
	cmd    *exec.Cmd
	leave  func() error // the cgroup that has its hooks; nil: it has none
	log    lockedBuffer
	ended  chan struct{}
	err    error // of Wait; valid after ended
}

func startDemoDaemon(ns *netlab.NS, dir string) (*demoDaemon, error) {
	d := &demoDaemon{runDir: filepath.Join(dir, "run"), ended: make(chan struct{})}
	cgroup, leave, err := netlab.EnterCgroup("vswitch-demo")
	if err != nil { // no cgroup2, say: the relay does as well
		cgroup = "off"
	}
	d.leave = leave
	d.cmd = exec.Command("/proc/self/exe", "daemon", "--config=", "--run-dir", d.runDir,
		"--state-dir", filepath.Join(dir, "state"), "--uplink", "eth0", "--cgroup", cgroup)
	d.cmd.Args[0] = "vswitch"
	d.cmd.Stdout, d.cmd.Stderr = &d.log, &d.log
	// A group of its own: ^C is for us, and we end it in order.
	d.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: unix.SIGKILL}
	started := make(chan error)
	go func() {
		runtime.LockOSThread() // for Pdeathsig, as in process.start
		err := ns.Start(d.cmd)
		started <- err
		if err == nil {
			d.err = d.cmd.Wait()
			close(d.ended)
		}
	}()
	if err := <-started; err != nil {
		return nil, errors.Join(err, d.release())
	}
	return d, nil
}

func (d *demoDaemon) socket() string { return filepath.Join(d.runDir, daemon.SocketName) }
func (d *demoDaemon) pid() int       { return d.cmd.Process.Pid }

// await returns when the daemon answers.
func (d *demoDaemon) await(ctx context.Context, cl *client.Client) error {
	ctx, cancel := context.WithTimeout(ctx, demoStart)
	defer cancel()
	for {
		_, err := cl.Info(ctx)
		if err == nil || !errors.Is(err, client.ErrNoDaemon) {
			return err
		}
		select {
		case <-d.ended:
			return fmt.Errorf("the daemon ended at once: %v", d.err)
		case <-ctx.Done():
			return err
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// programs returns the IDs of the BPF programs that the daemon holds.
func (d *demoDaemon) programs() (ids []uint32) {
	files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fdinfo/*", d.pid()))
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			continue // closed meanwhile
		}
		for line := range strings.Lines(string(b)) {
			if v, ok := strings.CutPrefix(line, "prog_id:"); ok {
				if id, err := strconv.ParseUint(strings.TrimSpace(v), 10, 32); err == nil {
					ids = append(ids, uint32(id))
				}
			}
		}
	}
	return ids
}

// release leaves the cgroup once the daemon has ended.
func (d *demoDaemon) release() error {
	leave := d.leave
	if d.leave = nil; leave == nil {
		return nil
	}
	return leave()
}

// stop ends the daemon as a service manager does.
func (d *demoDaemon) stop() error {
	if err := d.cmd.Process.Signal(unix.SIGTERM); err != nil {
		return err
	}
	select {
	case <-d.ended:
		return d.err
	case <-time.After(demoTimeout):
		return fmt.Errorf("still there after %v", demoTimeout)
	}
}

// kill ends the daemon in any state, giving it the time to clean up, and what it has left.
func (d *demoDaemon) kill() {
	if d.stop() != nil {
		d.cmd.Process.Kill()
	}
	<-d.ended
	_ = daemon.EndHolder(d.runDir)
	_ = d.release()
}

// tail prints the last lines that the daemon logged.
func (d *demoDaemon) tail(w io.Writer) {
	if d == nil {
		return
	}
	lines := strings.Split(strings.TrimSpace(d.log.String()), "\n")
	for _, line := range lines[max(0, len(lines)-20):] {
		if line != "" {
			sayf(w, "daemon: %s\n", line)
		}
	}
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
