package control

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/internal/netlab/labtest"
)

// storing is a command that changes something stored.
type storing struct {
	name string
	do   func(context.Context) error
	goes bool // what the command is about, whatever the disk says
}

// storingMachine has its state on a disk of its own, and all that the commands are about.
func storingMachine(t *testing.T) (m *machine, dir string, commands []storing) {
	t.Helper()
	labtest.NeedRoot(t)
	m, dir = newMachine(t), smallDisk(t)
	m.cfg.StateDir = dir
	m.start()
	ctx := t.Context()
	m.container("web", publish("8080:80", "8090:80"))
	m.container("old")
	m.container("name")
	m.container("pod", func(in *api.Attach) { in.Runtime, in.RuntimeID = api.RuntimeCNI, "1" })
	for _, name := range []string{"blue", "green", "extra"} {
		_, err := m.CreateNetwork(ctx, api.NetworkCreate{Name: name})
		m.ok(err)
	}
	_, err := m.Connect(ctx, "web", api.Connect{Network: "extra"})
	m.ok(err)
	m.AddNetns(netnsOf("db"))
	labels, off := map[string]string{"a": "b"}, false
	return m, dir, []storing{
		{"attach", func(ctx context.Context) error {
			_, err := m.Attach(ctx, api.Attach{Name: "db", Netns: netnsOf("db"), Publish: []string{"8081:80"}})
			return err
		}, false},
		{"rename", func(ctx context.Context) error {
			_, err := m.UpdateContainer(ctx, "name", api.ContainerUpdate{Name: "named"})
			return err
		}, false},
		{"label", func(ctx context.Context) error {
			_, err := m.UpdateContainer(ctx, "web", api.ContainerUpdate{Labels: labels})
			return err
		}, false},
		{"port add", func(ctx context.Context) error { _, err := m.Publish(ctx, "web", []string{"8082:80"}); return err }, false},
		{"port rm", func(ctx context.Context) error { return m.Unpublish(ctx, "web", []string{"8080:80"}) }, false},
		{"network connect", func(ctx context.Context) error {
			_, err := m.Connect(ctx, "web", api.Connect{Network: "green"})
			return err
		}, false},
		{"network disconnect", func(ctx context.Context) error { return m.Disconnect(ctx, "web", "extra") }, false},
		{"network create", func(ctx context.Context) error {
			_, err := m.CreateNetwork(ctx, api.NetworkCreate{Name: "red"})
			return err
		}, false},
		{"network update", func(ctx context.Context) error {
			_, err := m.UpdateNetwork(ctx, "green", api.NetworkUpdate{ICC: &off, Labels: labels})
			return err
		}, false},
		{"network rm", func(ctx context.Context) error { return m.RemoveNetwork(ctx, "blue") }, false},
		{"detach", func(ctx context.Context) error { return m.Detach(ctx, "old") }, true},
		{"release", func(ctx context.Context) error {
			return m.Release(ctx, api.Release{Runtime: api.RuntimeCNI, RuntimeID: "1"})
		}, true},
	}
}

// TestF19EachCommandOnAReadOnlyDisk: each command that changes something stored is refused on one line, and
// changes nothing. A container that is to go goes, for its runtime has ended it, and the line says that it is still
// on record. Once the disk takes it each does what it says.
func TestF19EachCommandOnAReadOnlyDisk(t *testing.T) {
	m, dir, commands := storingMachine(t)
	ctx := t.Context()
	m.stop() // what it has open for writing keeps the disk from it
	m.ok(syscall.Mount("", dir, "", syscall.MS_REMOUNT|syscall.MS_RDONLY, "size=1m"))
	m.start()
	before, listed := m.Facts(), m.listed()
	for _, c := range commands {
		err := c.do(ctx)
		if !errors.Is(err, syscall.EROFS) || strings.Contains(fmt.Sprint(err), "\n") {
			t.Errorf("%s: %v, want %v on one line", c.name, err, syscall.EROFS)
		}
		if c.goes {
			continue
		}
		m.same(c.name+", refused,", before, m.Facts())
		if now := m.listed(); fmt.Sprint(now) != fmt.Sprint(listed) {
			t.Errorf("%s, refused: %v, and was %v", c.name, now, listed)
		}
	}
	m.dials(tcp, "127.0.0.1:8080", "10.88.0.2:80")
	m.ok(syscall.Mount("", dir, "", syscall.MS_REMOUNT, "size=1m"))
	for _, c := range commands {
		if err := c.do(ctx); err != nil && !(c.goes && errors.Is(err, api.ErrNotFound)) {
			t.Errorf("%s, with a disk that takes it: %v", c.name, err)
		}
	}
}

// TestF19EachCommandOnAFullDisk: a command is refused on one line and changes nothing, or the disk had
// the few bytes that it takes, and then it is stored. The next daemon has what was answered.
func TestF19EachCommandOnAFullDisk(t *testing.T) {
	m, dir, commands := storingMachine(t)
	ctx := t.Context()
	ballast, err := os.Create(filepath.Join(dir, "ballast"))
	m.ok(err)
	for b := make([]byte, 4096); err == nil; {
		_, err = ballast.Write(b)
	}
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("the disk is not full: %v", err)
	}
	m.ok(ballast.Close())
	for size := 8192; size > 0; size /= 2 { // what is free in the last page of a file
		for err = nil; err == nil; {
			_, err = m.UpdateContainer(ctx, "old", api.ContainerUpdate{Labels: map[string]string{"filler": strings.Repeat("x", size+rand.IntN(2))}})
		}
	}
	refused := 0
	for _, c := range commands {
		before, listed := m.Facts(), fmt.Sprint(m.listed())
		err := c.do(ctx)
		if err == nil {
			continue
		}
		refused++
		if !errors.Is(err, syscall.ENOSPC) || strings.Contains(fmt.Sprint(err), "\n") {
			t.Errorf("%s: %v, want %v on one line", c.name, err, syscall.ENOSPC)
		}
		if c.goes {
			continue
		}
		m.same(c.name+", refused,", before, m.Facts())
		if now := fmt.Sprint(m.listed()); now != listed {
			t.Errorf("%s, refused: %v, and was %v", c.name, now, listed)
		}
	}
	if refused < len(commands)/2 {
		t.Errorf("only %d of %d commands were refused: the disk was not full", refused, len(commands))
	}
	m.dials(tcp, "127.0.0.1:8090", "10.88.0.2:80")
	listed := m.listed()
	m.dies()
	m.start()
	if d := cmp.Diff(listed, m.listed()); d != "" {
		t.Errorf("the next daemon (-before +after):\n%s", d)
	}
	m.ok(os.Remove(filepath.Join(dir, "ballast")))
	for _, c := range commands {
		if err := c.do(ctx); errors.Is(err, syscall.ENOSPC) {
			t.Errorf("%s, with room again: %v", c.name, err)
		}
	}
}
