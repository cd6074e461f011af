package rig

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/vswitch/vswitch/internal/netlab"
)

// process is a program that works for a rig and ends with it.
type process struct {
	cmd   *exec.Cmd
	stdin io.Closer
	log   bytes.Buffer // what it writes; read when it has ended
	ended chan struct{}
}

// start starts a program in ns.
func (r *Rig) start(ns *netlab.NS, name string, arg ...string) (*process, error) {
	p := &process{cmd: exec.Command(name, arg...), ended: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = &p.log, &p.log
	// OVS takes its directories from the environment, for whatever the options do
	// not name.
	p.cmd.Env = append(os.Environ(), "OVS_RUNDIR="+r.dir, "OVS_LOGDIR="+r.dir, "OVS_DBDIR="+r.dir, "OVS_SYSCONFDIR="+r.dir)
	// Some programs end with their standard input.
	stdin, err := p.cmd.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", p.name(), err)
	}
	p.stdin = stdin
	// docker-proxy tells file descriptor 3 that it is ready, and takes what it
	// opened there itself for it when there is none.
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", p.name(), err)
	}
	defer null.Close()
	p.cmd.ExtraFiles = []*os.File{null}
	// Ctrl-C is for the benchmark; kill -9 of it must not leave a program.
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}

	started := make(chan error, 1)
	go func() {
		// Pdeathsig follows the thread that forked: it has to last as long.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := ns.Start(p.cmd)
		started <- err
		if err == nil {
			p.cmd.Wait()
		}
		close(p.ended)
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("%s: %w", p.name(), err)
	}
	r.undo = append(r.undo, func() error { return p.stop(r.patience) })
	return p, nil
}

func (p *process) name() string { return filepath.Base(p.cmd.Path) }

func (p *process) pid() int { return p.cmd.Process.Pid }

// await tries ready until it succeeds.
func (p *process) await(ctx context.Context, ready func() error) error {
	limit := time.NewTimer(10 * time.Second)
	defer limit.Stop()
	for {
		err := ready()
		if err == nil {
			return nil
		}
		select {
		case <-p.ended:
			return fmt.Errorf("%s ended: %s", p.name(), lastLine(p.log.String()))
		case <-limit.C:
			return fmt.Errorf("%s does not answer: %w", p.name(), err)
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(10 * time.Millisecond):
		}
	}
}

func (p *process) stop(patience time.Duration) error {
	p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.ended:
		return nil
	case <-time.After(patience):
	}
	p.cmd.Process.Kill()
	<-p.ended
	return fmt.Errorf("%s did not end within %v of SIGTERM and was killed", p.name(), patience)
}

// run runs a program in ns to its end.
func (r *Rig) run(ctx context.Context, ns *netlab.NS, name string, arg ...string) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, arg...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := ns.Start(cmd); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if err := cmd.Wait(); err != nil {
		return fmt.Errorf("%s: %w: %s", name, err, lastLine(out.String()))
	}
	return nil
}

// listening is for await: the socket at path takes connections.
func listening(path string) func() error {
	return func() error {
		conn, err := net.DialTimeout("unix", path, time.Second)
		if err != nil {
			return err
		}
		return conn.Close()
	}
}

func lastLine(s string) string {
	s = strings.TrimSpace(s)
	return s[strings.LastIndexByte(s, '\n')+1:]
}
