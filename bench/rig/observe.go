package rig

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// Reader is what a capture's frames come to.
type Reader string

const (
	ToFile   Reader = "to a file"
	Stalled  Reader = "that nobody reads"
	FullDisk Reader = "to a full disk"
)

// Capture starts vswitch capture of a container and returns what ends it.
func (r *Rig) Capture(ctx context.Context, name string, reader Reader) (end func() error, err error) {
	args := []string{r.binary, "--run-dir", r.runDir, "capture", name, "-w"}
	switch reader {
	case Stalled:
		args = append(args, "-")
	case ToFile:
		args = append(args, filepath.Join(r.dir, "capture.pcapng"))
	case FullDisk:
		// In a mount namespace of its own, and full after the first frames.
		disk := filepath.Join(r.dir, "disk")
		if err := os.MkdirAll(disk, 0o700); err != nil {
			return nil, err
		}
		script := `mount -t tmpfs -o size=16k none "$0" && exec "$@" "$0/capture.pcapng"`
		args = append([]string{"sh", "-c", script, disk}, args...)
	}
	cmd := exec.Command(args[0], args[1:]...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if reader == FullDisk {
		cmd.SysProcAttr.Cloneflags = syscall.CLONE_NEWNS
	}
	out, in, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer in.Close()
	said, err := cmd.StderrPipe()
	if err != nil {
		return nil, errors.Join(err, out.Close())
	}
	cmd.Stdout = in
	if err := cmd.Start(); err != nil {
		return nil, errors.Join(err, out.Close())
	}
	end = func() error {
		cmd.Process.Signal(syscall.SIGTERM)
		out.Close() // or it waits for room in the pipe, and not for signals
		kill := time.AfterFunc(r.patience, func() { cmd.Process.Kill() })
		defer kill.Stop()
		rest, _ := io.ReadAll(said)
		var exit *exec.ExitError
		switch err := cmd.Wait(); {
		case reader == FullDisk && strings.Contains(string(rest), "no space left"), reader == Stalled && errors.As(err, &exit):
			return nil
		case err != nil:
			return fmt.Errorf("capture %s: %w: %s", reader, err, lastLine(string(rest)))
		case reader == FullDisk:
			return errors.New("capture to a full disk: it was not full")
		}
		return nil
	}
	// Nothing of it may be read further, or its last words are lost to end.
	line, err := bufio.NewReaderSize(said, 16).ReadString('\n')
	if err == nil && !strings.HasPrefix(line, "capturing ") {
		err = errors.New(lastLine(line))
	}
	if err = cmp.Or(err, ctx.Err()); err != nil {
		return nil, errors.Join(fmt.Errorf("capture %s: %w", reader, err), end())
	}
	return end, nil
}

// Scrape reads the daemon's metrics.
func (r *Rig) Scrape(ctx context.Context) (string, error) {
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", filepath.Join(r.runDir, socketName))
	}}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://vswitch/metrics", nil)
	if err != nil {
		return "", err
	}
	resp, err := client.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("metrics: %s", resp.Status)
	}
	return string(b), err
}
