// Package labtest runs tests in namespaces of their own. Main moves the whole
// test binary into a fresh network and mount namespace before the first test,
// so that even a test with a mistake in it cannot reach the machine's links,
// routes or /run; New and NewWorld make networks that end with the test.
//
// It is for tests only; programs use netlab itself.
package labtest

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/vswitch/vswitch/internal/netlab"
)

const (
	// labEnv tells the re-executed binary that it is inside, or why it is not.
	labEnv = "VSWITCH_LAB"
	inside = "inside"
)

// Main is for TestMain: Enter, then m.Run, then os.Exit.
func Main(m *testing.M) {
	Enter()
	os.Exit(m.Run())
}

// Enter returns in a process that lives in fresh network and mount namespaces
// (and a user namespace, when it is not root) with a tmpfs on /run. The process
// that called it runs that one as its child and exits with its status.
//
// A package that checks for leaks calls goleak.VerifyTestMain behind it.
func Enter() {
	switch os.Getenv(labEnv) {
	case "":
		os.Exit(reexec())
	case inside:
		if err := settle(); err != nil {
			fmt.Fprintln(os.Stderr, "labtest:", err)
			os.Exit(1)
		}
	}
}

// reexec runs this binary in new namespaces. Where that is forbidden it runs it
// as it is, with the reason in the environment for New to skip with.
func reexec() int {
	// Pdeathsig follows the thread that forked, not the process.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	attr := &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWNET | unix.CLONE_NEWNS,
		Pdeathsig:  unix.SIGKILL,
	}
	if os.Geteuid() != 0 {
		attr.Cloneflags |= unix.CLONE_NEWUSER
		attr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
		attr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
	}
	cmd := self(inside, attr)
	err := cmd.Start()
	if err != nil {
		cmd = self(err.Error(), &syscall.SysProcAttr{Pdeathsig: unix.SIGKILL})
		err = cmd.Start()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "labtest: start the test binary again:", err)
		return 1
	}
	// go test ends a hanging test by SIGQUIT for the goroutine dump.
	sig := make(chan os.Signal, 4)
	signal.Notify(sig, unix.SIGQUIT, unix.SIGTERM, unix.SIGINT)
	go func() {
		for s := range sig {
			cmd.Process.Signal(s)
		}
	}()
	err = cmd.Wait()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() >= 0 {
		return exit.ExitCode()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "labtest:", err)
		return 2
	}
	return 0
}

func self(lab string, attr *syscall.SysProcAttr) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Args[0] = os.Args[0]
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), labEnv+"="+lab)
	cmd.SysProcAttr = attr
	return cmd
}

func settle() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	if err := unix.Mount("tmpfs", "/run", "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=755"); err != nil {
		return fmt.Errorf("mount tmpfs on /run: %w", err)
	}
	return nil
}

// New makes a namespace that is closed at the end of the test.
func New(t testing.TB, name string) *netlab.NS {
	t.Helper()
	Need(t)
	n, err := netlab.New(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.Close() })
	return n
}

// NewWorld makes a World that is closed at the end of the test.
func NewWorld(t testing.TB) *netlab.World {
	t.Helper()
	Need(t)
	w, err := netlab.NewWorld()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Close() })
	return w
}
