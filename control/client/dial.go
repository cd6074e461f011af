package client

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// startWait is how long a client waits for a daemon that is starting.
const startWait = 3 * time.Second

// dial connects to the daemon, and waits where one is about to answer: it has taken its
// directory and does not listen yet. Where there is none, it says so at once.
func dial(ctx context.Context, socket string) (net.Conn, error) {
	var d net.Dialer
	for until := time.Now().Add(startWait); ; {
		c, err := d.DialContext(ctx, "unix", socket)
		if err == nil || !nobody(err) || time.Now().After(until) || !starting(socket) {
			return c, err
		}
		select {
		case <-ctx.Done():
			return nil, err
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// nobody reports whether nobody listens at the socket.
func nobody(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED)
}

// starting reports whether the process lives that has the socket's directory: a daemon writes
// its number there before anything else, and takes it away when it ends. One that was killed
// leaves a number that nobody has.
func starting(socket string) bool {
	b, err := os.ReadFile(filepath.Join(filepath.Dir(socket), "vswitch.pid"))
	if err != nil {
		return false
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil || pid <= 0 {
		return false
	}
	err = syscall.Kill(pid, 0)
	return err == nil || errors.Is(err, syscall.EPERM)
}
