package kernel

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"github.com/vswitch/vswitch/control/host"
	"github.com/vswitch/vswitch/dataplane/header"
	"github.com/vswitch/vswitch/internal/netlab"
	"github.com/vswitch/vswitch/internal/netlab/labtest"
)

// TestKilled kills a process that shields and steers: what is ours stays silent, so that its
// peer tries again, all else is the host's. The next shield takes the place of that one, that
// of somebody else stays, and the last one leaves the host as it was.
func TestKilled(t *testing.T) {
	if env := os.Getenv("KERNEL_TEST_SHIELDER"); env != "" {
		shielder(env)
	}
	for i, a := range attachments {
		t.Run(a.name, func(t *testing.T) { testKilled(t, i) })
	}
}

func testKilled(t *testing.T, way int) {
	w := labtest.NewWorld(t)
	labtest.NeedBPF(t)
	dial := func(port int, patience time.Duration) error {
		c, err := w.Outside.Dial("tcp", fmt.Sprintf("%s:%d", netlab.HostAddr, port), patience)
		if err == nil {
			c.Close()
		}
		return err
	}
	index, err := w.Host.Index("eth0")
	if err != nil {
		t.Fatal(err)
	}
	kill := shielderOf(t, w, way, index)
	check := func(when string) {
		t.Helper()
		if err := dial(8080, silence); !os.IsTimeout(err) {
			t.Errorf("%s: got %v from what is ours, want silence", when, err)
		}
		if err := dial(8081, answer); !errors.Is(err, unix.ECONNREFUSED) {
			t.Errorf("%s: got %v from what is nobody's, want the host's %v", when, err, unix.ECONNREFUSED)
		}
	}
	check("shielded")
	kill()
	check("killed")
	if way == 0 {
		passFirst(t, w, index) // the next shield goes before it
	}
	kill = shielderOf(t, w, way, index)
	check("shielded again")
	kill()
	other := open(t)
	if err := other.SetOwner("another"); err != nil {
		t.Fatal(err)
	}
	err = w.Host.Do(func() error {
		if way == 0 {
			if err := other.ShieldUplink(index); err != nil {
				return err
			}
			if n := shieldsAt(t, index); n != 2 {
				t.Errorf("%d shields of two owners", n)
			}
		}
		k := open(t)
		if err := k.SetOwner("test"); err != nil {
			return err
		}
		if had, err := RemoveShield(k.owner, index); err != nil && !errors.Is(err, ErrNoTCX) || had != (way == 0) {
			t.Errorf("removed: %v, %v", had, err)
		}
		h, err := host.New()
		if err != nil {
			return err
		}
		defer h.Close()
		from, err := h.RemoveShields("test")
		if len(from) != way {
			t.Errorf("filters are removed from %v", from)
		}
		if n := 1 - way; way == 0 && shieldsAt(t, index) != n {
			t.Error("the other owner's shield is gone")
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := dial(8080, answer); !errors.Is(err, unix.ECONNREFUSED) {
		t.Errorf("without a shield: got %v, want the host's %v", err, unix.ECONNREFUSED)
	}
}

// passFirst attaches a program before all others that says of every packet that it may go.
func passFirst(t *testing.T, w *netlab.World, index int) {
	t.Helper()
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.SchedCLS, License: "MIT", Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 0), asm.Return()}})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	err = w.Host.Do(func() error {
		return link.RawAttachProgram(link.RawAttachProgramOptions{Target: index, Program: p, Attach: ebpf.AttachTCXIngress, Anchor: link.Head()})
	})
	if err != nil {
		t.Fatal(err)
	}
}

// shieldsAt counts the shields of anybody.
func shieldsAt(t *testing.T, index int) int {
	t.Helper()
	list, err := hook{index, ebpf.AttachTCXIngress}.ours(shieldName, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer closeAll(list)
	return len(list)
}

// shielderOf is a process that shields until it is killed.
func shielderOf(t *testing.T, w *netlab.World, way, index int) (kill func()) {
	t.Helper()
	cmd := exec.Command("/proc/self/exe", "-test.run=^TestKilled$")
	cmd.Env = append(os.Environ(), fmt.Sprintf("KERNEL_TEST_SHIELDER=%d %d", way, index))
	cmd.Stderr = os.Stderr
	ready, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Host.Start(cmd); err != nil {
		t.Fatal(err)
	}
	kill = sync.OnceFunc(func() {
		cmd.Process.Signal(syscall.SIGKILL)
		cmd.Wait()
	})
	t.Cleanup(kill)
	said := make([]byte, 1)
	if _, err := io.ReadFull(ready, said); err != nil {
		t.Fatalf("the shielder did not start: %v", err)
	}
	if said[0] == noTCX {
		labtest.SkipOldKernel(t, 6, 6, ErrNoTCX.Error())
	}
	return kill
}

// What a shielder says when it is ready.
const (
	shields = '1'
	noTCX   = '0'
)

// shielder shields an interface until it is killed.
func shielder(env string) {
	err := func() error {
		var way, index int
		if _, err := fmt.Sscan(env, &way, &index); err != nil {
			return err
		}
		k, err := Open(Config{})
		if err != nil {
			return err
		}
		const slot = 1
		if err := k.ClaimSlot(netip.MustParseAddr(netlab.HostAddr), slot); err != nil {
			return err
		}
		k.Published().Set(slot, header.ProtoTCP, 8080)
		if err := k.SetOwner("test"); err != nil {
			return err
		}
		_, err = attachments[way].attach(k, index)
		if errors.Is(err, ErrNoTCX) {
			os.Stdout.Write([]byte{noTCX})
		}
		if err != nil {
			return err
		}
		_, err = k.Steer(-1, -1, -1, -1, -1)
		return err
	}()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Stdout.Write([]byte{shields})
	time.Sleep(time.Minute)
	os.Exit(1)
}
