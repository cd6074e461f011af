package labtest

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"golang.org/x/sys/unix"
)

// Excuse is a reason for which a test may skip even where everything is there. All
// others are failures under VSWITCH_CI.
type Excuse struct{ why string }

var (
	// Racing is for numbers that the race detector would take hours or gigabytes to
	// reach: the tests run without it too.
	Racing = Excuse{"not under the race detector"}
	// Short is for what -short leaves out, which nothing of the continuous integration sets.
	Short = Excuse{"left out by -short"}
	// Unasked is for the runtimes' own tests, which download whole systems: only
	// make test-runtimes asks for them.
	Unasked = Excuse{"make test-runtimes asks for it"}
	// Emulated is for what changes more of a machine than a namespace has: only
	// internal/oldkernel/run has a machine for it.
	Emulated = Excuse{"in an emulated machine only"}
)

// Skip skips the test for a reason that is always a good one.
func (e Excuse) Skip(t testing.TB, why string) {
	t.Helper()
	t.Skip(e.why + ": " + why)
}

// Skip ends a test for want of something that the machine should have, and says of
// what. Under VSWITCH_CI, where all of it is, it fails instead.
func Skip(t testing.TB, why string) {
	t.Helper()
	if os.Getenv("VSWITCH_CI") != "" {
		t.Fatal(why)
	}
	t.Skip(why)
}

// SkipRights is Skip for want of rights. What a user who is not root may not do is
// skipped under VSWITCH_CI too, and fails under VSWITCH_TEST_NETNS=1, which it sets
// for root.
func SkipRights(t testing.TB, why string) {
	t.Helper()
	if os.Getenv("VSWITCH_TEST_NETNS") == "1" {
		t.Fatal(why)
	}
	t.Skip(why)
}

// SkipOldKernel is Skip for want of what the kernel has from a version on: from that
// one on it always fails, for a kernel cannot be installed.
func SkipOldKernel(t testing.TB, major, minor int, why string) {
	t.Helper()
	var u unix.Utsname
	var is, sub int
	if err := unix.Uname(&u); err != nil {
		t.Fatal(err)
	}
	release := unix.ByteSliceToString(u.Release[:])
	if _, err := fmt.Sscanf(release, "%d.%d", &is, &sub); err != nil || is > major || is == major && sub >= minor {
		t.Fatalf("%s, on Linux %s", why, release)
	}
	t.Skip(why)
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
		SkipRights(t, "no rights to make namespaces: "+lab)
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
		SkipRights(t, "needs root outside of user namespaces")
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
		SkipRights(t, "the kernel loads no BPF program: "+err.Error())
	}
	prog.Close()
}

// NeedProgram skips the test when a program that it runs is not installed, and
// says which. It fails instead under VSWITCH_CI, where everything is.
func NeedProgram(t testing.TB, name string) {
	t.Helper()
	if _, err := exec.LookPath(name); err != nil {
		Skip(t, name+", which this test runs, is not installed")
	}
}
