package holder

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/vswitch/vswitch/control/process"
)

// startLocked starts a holder and gives it what there is.
func (h *Holder) startLocked() error {
	path := filepath.Join(h.cfg.Dir, SocketName)
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	l, err := net.ListenUnix("unixpacket", &net.UnixAddr{Name: path, Net: "unixpacket"})
	if err != nil {
		return err
	}
	l.SetUnlinkOnClose(false)
	defer l.Close()
	if err := os.Chmod(path, 0o600); err != nil {
		return err
	}
	f, err := l.File()
	if err != nil {
		return err
	}
	defer f.Close()
	// Its own session: no terminal, process group or service manager takes it for a part of
	// the daemon. Only what it needs is passed on: neither the sockets of a service manager
	// nor how to speak to it.
	cmd := exec.Command("/proc/self/exe", command)
	cmd.Args[0], cmd.Dir, cmd.Env = "vswitch", "/", []string{"GOMAXPROCS=1", started + "=1"}
	if at := os.Getenv("GOCOVERDIR"); at != "" {
		cmd.Env = append(cmd.Env, "GOCOVERDIR="+at)
	}
	cmd.ExtraFiles = []*os.File{f}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return err
	}
	c, err := h.fillLocked()
	if err != nil {
		// It may have an owner and part of the rest, which it would keep beside its successor.
		_ = cmd.Process.Kill()
		_, _ = cmd.Process.Wait()
		return err
	}
	h.child = cmd.Process
	h.adoptLocked(c)
	return nil
}

// fillLocked gives a holder that has just begun what there is. It is heard once the child
// runs, which nobody waits for.
func (h *Holder) fillLocked() (*net.UnixConn, error) {
	c, err := dial(h.cfg.Dir)
	if err != nil {
		return nil, err
	}
	err = send(c, hello, -1, strconv.Itoa(version))
	for name, it := range h.items {
		if err == nil {
			err = send(c, put, it.fd, name, it.value)
		}
	}
	if err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

func dial(dir string) (*net.UnixConn, error) {
	return net.DialUnix("unixpacket", nil, &net.UnixAddr{Name: filepath.Join(dir, SocketName), Net: "unixpacket"})
}

// End ends the holder in a run directory, and all that it keeps. ok says whether there was one.
func End(dir string) (ok bool, err error) {
	c, err := dial(dir)
	if err != nil { // nobody listens, or not by this name
		return endNameless(dir)
	}
	defer c.Close()
	if err = peer(c); err == nil {
		err = send(c, end, -1)
	}
	if err != nil {
		return true, fmt.Errorf("holder: %w", err)
	}
	c.SetReadDeadline(time.Now().Add(5 * patience))
	for buf := make([]byte, maxMessage); ; {
		m, err := receive(c, buf)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return true, kill(c)
		}
		if err != nil {
			return true, nil
		}
		m.close()
	}
}

// kill ends the holder at the other end of a connection, which does not answer: somebody has
// stopped it, or its memory is on a disk that fails. The caller removes what no descriptor ends.
func kill(c *net.UnixConn) error {
	cred, err := credOf(c)
	if err == nil {
		err = killProcess(int(cred.Pid))
	}
	if err != nil {
		return fmt.Errorf("holder: it does not answer: kill the process vswitch hold: %w", err)
	}
	return nil
}

// killProcess kills a holder. It has ended when killProcess returns, with all that it had open.
func killProcess(pid int) error {
	p, err := process.Open(pid)
	if errors.Is(err, process.ErrGone) {
		return nil
	}
	if err != nil {
		return err
	}
	defer p.Close()
	is, err := os.FindProcess(pid) // by a pidfd: its number may be another's by the time it is killed
	if err != nil {
		return err
	}
	defer is.Release()
	args, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil || string(args) != CommandLine {
		return errors.Join(err, fmt.Errorf("process %d is another", pid))
	}
	if err := is.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	select {
	case <-p.Done():
		return nil
	case <-time.After(patience):
		return fmt.Errorf("process %d does not end", pid)
	}
}

// endNameless kills them, and says whether there were any.
func endNameless(dir string) (ok bool, err error) {
	for _, pid := range nameless(dir) {
		ok, err = true, errors.Join(err, killProcess(pid))
	}
	return ok, err
}

// sees reports whether a process sees the same directory by that name, or the one above it where
// somebody has removed it: a switch in a container with the host's network has a /run of its own.
func sees(pid int, dir string) bool {
	own, err := os.Stat(dir)
	for ; errors.Is(err, fs.ErrNotExist) && dir != "/"; own, err = os.Stat(dir) {
		dir = filepath.Dir(dir)
	}
	its, err2 := os.Stat(fmt.Sprintf("/proc/%d/root%s", pid, dir))
	return err == nil && err2 == nil && os.SameFile(own, its)
}

// nameless are the holders of a run directory whose socket somebody has removed, perhaps with all of the
// directory. They hold devices that the next daemon needs.
func nameless(dir string) (pids []int) {
	sockets := make(map[string]bool)
	b, _ := os.ReadFile("/proc/thread-self/net/unix")
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line) // proc_net_unix(5): flags are the fourth, the inode and the path the last
		if len(f) == 8 && f[3] == "00010000" && f[7] == filepath.Join(dir, SocketName) {
			sockets["socket:["+f[6]+"]"] = true
		}
	}
	if len(sockets) == 0 {
		return nil
	}
	list, _ := os.ReadDir("/proc")
	for _, e := range list {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		args, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		if err != nil || string(args) != CommandLine || !sees(pid, dir) {
			continue
		}
		open, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
		if slices.ContainsFunc(open, func(fd string) bool { at, _ := os.Readlink(fd); return sockets[at] }) {
			pids = append(pids, pid)
		}
	}
	return pids
}
