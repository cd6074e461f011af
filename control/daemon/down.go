package daemon

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/vswitch/vswitch/control/edge/linux"
	"github.com/vswitch/vswitch/control/holder"
	"github.com/vswitch/vswitch/control/process"
	"github.com/vswitch/vswitch/control/reserve"
	"github.com/vswitch/vswitch/control/state"
)

// downPatience is how long a daemon may take to end.
const downPatience = 30 * time.Second

// EndHolder ends the holder of a run directory, if there is one.
func EndHolder(runDir string) error {
	_, err := holder.End(runDir)
	return err
}

// Down ends the daemon of a run and a state directory, and what outlives it: the holder, the
// devices of the networks, programs on uplinks, settings of the host. Cables stay, sealed and
// without flows that the kernel carries on; with all they go, too. It returns what it did, a
// line each.
func Down(ctx context.Context, runDir, stateDir string, all bool) (did []string, err error) {
	pid, err := endDaemon(ctx, runDir)
	if err != nil {
		return nil, err
	}
	if pid != 0 {
		did = append(did, fmt.Sprintf("daemon with pid %d ended", pid))
	}
	// Nobody starts meanwhile.
	for _, dir := range []string{runDir, stateDir} {
		if _, err := os.Stat(dir); errors.Is(err, os.ErrNotExist) {
			continue
		}
		unlock, lockErr := lockDir(dir)
		if lockErr != nil {
			return did, lockErr
		}
		defer func() { err = errors.Join(err, unlock()) }()
		if runDir == stateDir {
			break
		}
	}
	held, err := holder.End(runDir)
	if err != nil {
		return did, err
	}
	if held {
		did = append(did, "holder ended")
	}
	s, err := state.Peek(stateDir)
	if errors.Is(err, os.ErrNotExist) {
		return did, nil // no daemon ever came so far as to make anything
	}
	if err != nil {
		return did, err
	}
	left := linux.Leftovers{Identity: s.Identity, All: all}
	for _, r := range s.Reserved {
		left.Reserved = append(left.Reserved, reserve.Range{First: r.First, Last: r.Last})
	}
	if left.Identity == "" {
		return did, fmt.Errorf("the state in %s has lost whose links are its own: start the daemon, which finds out, and try again", stateDir)
	}
	removed, err := linux.Remove(left)
	did = append(did, removed...)
	if err != nil || len(left.Reserved) == 0 {
		return did, err
	}
	store, _, err := state.Open(stateDir)
	if err != nil {
		return did, err
	}
	return did, errors.Join(store.PutReserved(nil), store.Close())
}

// endDaemon ends the daemon that has locked the run directory, and returns its process number,
// 0 if there is none.
func endDaemon(ctx context.Context, runDir string) (pid int, err error) {
	pid, err = lockedBy(runDir)
	if err != nil || pid == 0 {
		return 0, err
	}
	p, err := process.Open(pid)
	if err != nil {
		return 0, fmt.Errorf("daemon: %w: try again", err)
	}
	defer p.Close()
	env, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
	if err == nil && bytes.Contains(append([]byte{0}, env...), []byte("\x00NOTIFY_SOCKET=")) {
		return 0, fmt.Errorf("the daemon with pid %d is run by a service manager, which would start it again: stop it first, as by systemctl stop vswitch.socket vswitch-docker.socket vswitch.service", pid)
	}
	if err := syscall.Kill(pid, syscall.SIGTERM); err != nil {
		return 0, fmt.Errorf("end the daemon with pid %d: %w", pid, err)
	}
	select {
	case <-p.Done():
		return pid, nil
	case <-ctx.Done():
		return 0, ctx.Err()
	case <-time.After(downPatience):
		return 0, fmt.Errorf("the daemon with pid %d does not end: kill -9 %d, and try again", pid, pid)
	}
}

// lockedBy is the process that has locked a directory, 0 for none.
func lockedBy(dir string) (pid int, err error) {
	f, err := os.Open(filepath.Join(dir, lockName))
	if errors.Is(err, os.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("lock file: %w", err)
	}
	defer f.Close()
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_SH|syscall.LOCK_NB)
	if !errors.Is(err, syscall.EWOULDBLOCK) {
		return 0, err // unlocked again with the descriptor
	}
	b := make([]byte, 32)
	n, _ := f.Read(b)
	pid, err = strconv.Atoi(strings.TrimSpace(string(b[:max(n, 0)])))
	if err != nil || pid <= 0 {
		return 0, fmt.Errorf("directory %s is in use by a process that has not written its number to %s: end it and try again", dir, f.Name())
	}
	return pid, nil
}
