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
	"github.com/vswitch/vswitch/internal/netlab/labtest"
)

// TestFullDisk: when the state cannot be stored nothing changes, and once there
// is room again all goes on without a restart.
func TestFullDisk(t *testing.T) {
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
	if d := cmp.Diff(before, facts(t, c)); d != "" {
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
