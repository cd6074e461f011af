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
	"strings"
	"syscall"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"golang.org/x/sys/unix"

	"github.com/vswitch/vswitch/internal/netlab"
)

const (
	// labEnv tells the re-executed binary that it is inside, or why it is not.
	labEnv = "VSWITCH_LAB"
	inside = "inside"

	// mustEnv=1 turns a skip for want of rights into a failure.
	mustEnv = "VSWITCH_TEST_NETNS"
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

// Need skips the test when the process could not enter its own namespaces, and
// says why. It fails instead under VSWITCH_TEST_NETNS=1.
func Need(t testing.TB) {
	t.Helper()
	switch lab := os.Getenv(labEnv); lab {
	case inside:
	case "":
		t.Fatal("TestMain of this package does not call labtest.Main")
	default:
		refuse(t, "no rights to make namespaces: "+lab)
	}
}

// NeedRoot skips the test when the process is not root outside of user namespaces,
// who alone makes device files and runs what asks for that. It fails instead under
// VSWITCH_TEST_NETNS=1.
func NeedRoot(t testing.TB) {
	t.Helper()
	Need(t)
	// user_namespaces(7): the initial one maps all numbers to themselves.
	ids, err := os.ReadFile("/proc/self/uid_map")
	if err != nil {
		t.Fatal(err)
	}
	if f := strings.Fields(string(ids)); os.Geteuid() != 0 || len(f) != 3 || f[2] != "4294967295" {
		refuse(t, "needs root outside of user namespaces")
	}
}

// NeedBPF skips the test when the kernel loads no BPF programs for this
// process, and says why. It fails instead under VSWITCH_TEST_NETNS=1.
func NeedBPF(t testing.TB) {
	t.Helper()
	Need(t)
	prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Type:         ebpf.SchedCLS,
		License:      "Apache-2.0",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 0), asm.Return()},
	})
	if err != nil {
		refuse(t, "the kernel loads no BPF program: "+err.Error())
	}
	prog.Close()
}

// NeedProgram skips the test when a program that it runs is not installed, and
// says which. It fails instead under VSWITCH_CI, where everything is.
func NeedProgram(t testing.TB, name string) {
	t.Helper()
	if _, err := exec.LookPath(name); err == nil {
		return
	}
	why := name + ", which this test runs, is not installed"
	if os.Getenv("VSWITCH_CI") != "" {
		t.Fatal(why)
	}
	t.Skip(why)
}

func refuse(t testing.TB, why string) {
	t.Helper()
	if os.Getenv(mustEnv) == "1" {
		t.Fatal(why)
	}
	t.Skip(why)
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
