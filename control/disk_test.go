package control

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/control/state"
	"github.com/vswitch/vswitch/internal/netlab/labtest"
)

// TestF19FullDisk: when the state cannot be stored nothing changes, and once there
// is room again all goes on without a restart.
func TestF19FullDisk(t *testing.T) {
	labtest.NeedBPF(t)
	dir := t.TempDir()
	// In this test binary's own mount namespace.
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=1m"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { syscall.Unmount(dir, syscall.MNT_DETACH) })
	c := inProcessIn(t, dir, slog.New(slog.DiscardHandler))
	ctx := t.Context()
	ns := labtest.New(t, "web")
	if _, err := c.Attach(ctx, api.Attach{Name: "web", Netns: ns.Path()}); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "ballast"), make([]byte, 1<<20), 0o600); !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("the disk is not full: %v", err)
	}
	other := labtest.New(t, "other")
	labels := map[string]string{"big": strings.Repeat("x", 60<<10)}
	before := facts(t, c)
	for i := range 3 {
		_, err := c.Attach(ctx, api.Attach{Name: fmt.Sprint("c", i), Netns: other.Path(), Labels: labels, Publish: []string{"8080:80"}})
		if err == nil {
			t.Fatalf("attach %d succeeds on a full disk", i)
		}
		if !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("attach on a full disk: %v, want ENOSPC", err)
		}
		if _, err := c.CreateNetwork(ctx, api.NetworkCreate{Name: "blue", Labels: labels}); !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("network create on a full disk: %v, want ENOSPC", err)
		}
	}
	if d := changed(before, func() map[string]string { return facts(t, c) }); d != "" {
		t.Errorf("something changed (-before +after):\n%s", d)
	}
	if err := os.Remove(filepath.Join(dir, "ballast")); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Attach(ctx, api.Attach{Name: "c", Netns: other.Path(), Labels: labels}); err != nil {
		t.Errorf("with room again: %v", err)
	}
	for _, name := range []string{"web", "c"} {
		if err := c.Detach(ctx, name); err != nil {
			t.Error(err)
		}
	}
}

// A disk that is full or read-only keeps no daemon from starting, and none from switching:
// what is attached is there again with its ports, a change is refused on one line, and what
// the disk takes again is stored without a restart.
func TestF22StartOnADiskThatTakesNothing(t *testing.T) {
	for what, tc := range map[string]struct {
		spoil, mend func(dir string) error
		refusal     error
	}{
		"read-only": {
			func(dir string) error {
				return syscall.Mount("", dir, "", syscall.MS_REMOUNT|syscall.MS_RDONLY, "size=1m")
			},
			func(dir string) error { return syscall.Mount("", dir, "", syscall.MS_REMOUNT, "size=1m") },
			syscall.EROFS,
		},
		"full": {
			func(dir string) error {
				if err := os.WriteFile(filepath.Join(dir, "ballast"), make([]byte, 1<<20), 0o600); !errors.Is(err, syscall.ENOSPC) {
					return fmt.Errorf("the disk is not full: %w", err)
				}
				return nil
			},
			func(dir string) error { return os.Remove(filepath.Join(dir, "ballast")) },
			syscall.ENOSPC,
		},
	} {
		for _, damage := range []bool{false, true} {
			t.Run(fmt.Sprint(what, " damaged ", damage), func(t *testing.T) {
				labtest.NeedRoot(t)
				m := newMachine(t)
				dir := smallDisk(t)
				m.cfg.StateDir = dir
				m.start()
				ctx := t.Context()
				m.container("web", publish("8080:80", "20000-20999:20000-20999"))
				want := m.listed()
				m.stop()
				if damage {
					b, err := os.ReadFile(filepath.Join(dir, state.FileName))
					m.ok(err)
					clear(b[2*4096:])
					m.ok(os.WriteFile(filepath.Join(dir, state.FileName), b, 0o600))
				}
				m.ok(tc.spoil(dir))
				m.start()
				if d := cmp.Diff(want, m.listed()); d != "" {
					t.Errorf("(-before +after):\n%s", d)
				}
				m.dials(tcp, "127.0.0.1:8080", "10.88.0.2:80")
				m.dials(tcp, "127.0.0.1:20500", "10.88.0.2:20500")
				before := m.Facts()
				m.AddNetns(netnsOf("db"))
				labels := map[string]string{"big": strings.Repeat("x", 60<<10)}
				_, err := m.Attach(ctx, api.Attach{Name: "db", Netns: netnsOf("db"), Labels: labels})
				if !errors.Is(err, tc.refusal) || strings.Contains(fmt.Sprint(err), "\n") {
					t.Errorf("attach: %v, want %v on one line", err, tc.refusal)
				}
				m.DelNetns(netnsOf("db"))
				m.same("the refusal", before, m.Facts())
				m.ok(tc.mend(dir))
				m.container("db")
				m.stop()
				m.start()
				if got := m.names(); got != "db web" {
					t.Errorf("containers %q once the disk takes them", got)
				}
			})
		}
	}
}

// smallDisk is a directory that is a disk of its own, of 1 MiB.
func smallDisk(t *testing.T) (dir string) {
	t.Helper()
	dir = t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=1m"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { syscall.Unmount(dir, syscall.MNT_DETACH) })
	return dir
}
