package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vswitch/vswitch/control/api"
)

// releaseTimeout bounds what is still done for a container that has ended.
const releaseTimeout = 10 * time.Second

// process is the one command of a container. It is born as runInit, which makes
// the namespace ready, waits for the daemon and then becomes the command: the
// pid that was attached is the command's.
type process struct {
	path string   // what is executed
	argv []string // argv[0] included

	stdin          io.Reader
	stdout, stderr io.Writer

	newNetns bool     // a namespace of its own
	netns    *os.File // or this one, borrowed until start returns
	signals  bool     // pass on the signals that we get

	// attached, when not nil, is called as the command is let go.
	attached func(api.Container)

	cmd    *exec.Cmd
	ready  *os.File // read: what runInit has to say, closed at execve
	gate   *os.File // write: a line, own, lets runInit go on
	sig    chan os.Signal
	ctx    context.Context // ends with the process, or before it with the caller's
	ended  chan struct{}
	status *exitError // how it ended; valid after ended
}

// start starts runInit and returns when its namespace is ready.
func (p *process) start(ctx context.Context) (err error) {
	readyW, gateR, err := p.pipes()
	if err != nil {
		return fmt.Errorf("run: %w", err)
	}
	p.cmd = exec.Command("/proc/self/exe")
	p.cmd.Args = append([]string{runInitName, p.path, p.setup()}, p.argv...)
	p.cmd.Stdin, p.cmd.Stdout, p.cmd.Stderr = p.stdin, p.stdout, p.stderr
	// Where a stream is copied, a grandchild that holds it does not hold us.
	p.cmd.WaitDelay = time.Second
	// Descriptors 3, 4 and 5 in runInit.
	p.cmd.ExtraFiles = []*os.File{readyW, gateR}
	if p.netns != nil {
		p.cmd.ExtraFiles = append(p.cmd.ExtraFiles, p.netns)
	}
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: unix.SIGKILL}
	if p.newNetns {
		p.cmd.SysProcAttr.Cloneflags = unix.CLONE_NEWNET
	}
	if p.signals {
		p.sig = make(chan os.Signal, 64)
		signal.Notify(p.sig, forwarded()...)
	}
	var cancel context.CancelFunc
	p.ctx, cancel = context.WithCancel(ctx)
	p.ended = make(chan struct{})
	started := make(chan error)
	go func() {
		defer cancel()
		// The kernel sends Pdeathsig at the end of the thread that forked, so
		// this one has to last as long as the child; it is never unlocked.
		runtime.LockOSThread()
		err := p.cmd.Start()
		started <- err
		if err == nil {
			p.cmd.Wait()
			p.status = exitStatus(p.cmd.ProcessState)
			close(p.ended)
		}
	}()
	err = <-started
	readyW.Close()
	gateR.Close()
	if err != nil {
		p.close()
		if errors.Is(err, fs.ErrPermission) {
			return fmt.Errorf("run: make a network namespace: %w: run it as root", unix.EPERM)
		}
		return fmt.Errorf("run: start the container's first process: %w", err)
	}
	go p.forward()
	if err := p.awaitReady(); err != nil {
		p.kill()
		return err
	}
	return nil
}

func (p *process) pipes() (readyW, gateR *os.File, err error) {
	if p.ready, readyW, err = os.Pipe(); err != nil {
		return nil, nil, err
	}
	if gateR, p.gate, err = os.Pipe(); err != nil {
		p.ready.Close()
		readyW.Close()
		return nil, nil, err
	}
	return readyW, gateR, nil
}

func (p *process) setup() string {
	switch {
	case p.newNetns:
		return setupLoopback
	case p.netns != nil:
		return setupJoin
	}
	return setupNothing
}

// awaitReady reads runInit's first line: initReady, or what went wrong.
func (p *process) awaitReady() error {
	line, err := readLine(p.ready)
	switch {
	case line == initReady:
		return nil
	case line != "":
		return fmt.Errorf("run: %s", line)
	}
	<-p.ctx.Done()
	if e := p.early(); e != nil {
		return e
	}
	return fmt.Errorf("run: the container's first process says nothing: %w", err)
}

// early returns how the process ended, nil while it lives.
func (p *process) early() error {
	select {
	case <-p.ended:
		return p.status
	default:
		return nil
	}
}

func (p *process) pid() int { return p.cmd.Process.Pid }

// proceed lets runInit become the command, which finds what is its own in the place of the host's.
func (p *process) proceed(at api.Container, o own) {
	b, _ := json.Marshal(o) // texts: cannot fail
	p.gate.Write(append(b, '\n'))
	if p.attached != nil {
		p.attached(at)
	}
}

// wait returns when the process has ended: nil, or an *exitError. When the
// caller's context ends first the process is killed.
func (p *process) wait() error {
	// The pipe ends with execve, or carries the reason why there was none.
	line, _ := readLine(p.ready)
	<-p.ctx.Done()
	p.kill()
	if line != "" {
		return &exitError{code: p.status.code, err: fmt.Errorf("run: %s", line)}
	}
	if p.status.code == exitOK {
		return nil
	}
	return p.status
}

// kill ends the process, waits for its end and gives back what start took.
func (p *process) kill() {
	p.cmd.Process.Kill()
	<-p.ended
	p.close()
}

func (p *process) close() {
	if p.sig != nil {
		signal.Stop(p.sig)
	}
	p.ready.Close()
	p.gate.Close()
}

// exitStatus turns the end of a process into an exit code, as a shell does.
func exitStatus(ps *os.ProcessState) *exitError {
	if ws, ok := ps.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		return &exitError{code: exitSignal + int(ws.Signal())}
	}
	return &exitError{code: ps.ExitCode()}
}

// forwarded lists the signals that are passed on: all that a person or a
// supervisor sends to make a program do something. Those that we were told to
// ignore (nohup) stay ignored, here and in the child.
func forwarded() []os.Signal {
	var list []os.Signal
	for _, s := range []syscall.Signal{
		unix.SIGHUP, unix.SIGINT, unix.SIGQUIT, unix.SIGTERM, unix.SIGUSR1,
		unix.SIGUSR2, unix.SIGWINCH, unix.SIGCONT, unix.SIGALRM,
	} {
		if !signal.Ignored(s) {
			list = append(list, s)
		}
	}
	const rtMin, rtMax = 34, 64
	for s := rtMin; s <= rtMax; s++ {
		list = append(list, syscall.Signal(s))
	}
	return list
}

// forward passes signals on until the process has ended.
func (p *process) forward() {
	for {
		select {
		case s := <-p.sig:
			if !fromTerminal(s) {
				p.cmd.Process.Signal(s)
			}
		case <-p.ended:
			return
		}
	}
}

// fromTerminal reports whether s is one that a terminal sends to its whole
// foreground process group while that is ours: the child, in the same group,
// has got it already, and a second ^C means something else to many programs.
func fromTerminal(s os.Signal) bool {
	switch s {
	case unix.SIGINT, unix.SIGQUIT, unix.SIGWINCH, unix.SIGCONT:
	default:
		return false
	}
	tty, err := os.OpenFile("/dev/tty", os.O_RDONLY|unix.O_NOCTTY, 0)
	if err != nil {
		return false // no controlling terminal
	}
	defer tty.Close()
	group, err := unix.IoctlGetInt(int(tty.Fd()), unix.TIOCGPGRP)
	return err == nil && group == unix.Getpgrp()
}

// readLine reads to the end of a line without taking a byte more: what follows
// is for the next reader of the pipe.
func readLine(r io.Reader) (string, error) {
	var line strings.Builder
	var b [1]byte
	for {
		n, err := r.Read(b[:])
		if n == 1 && b[0] != '\n' {
			line.WriteByte(b[0])
			continue
		}
		if n == 1 || err != nil {
			return line.String(), err
		}
	}
}
