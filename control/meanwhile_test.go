package control

import (
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/control/state"
	"github.com/vswitch/vswitch/internal/netlab"
)

// meanwhileLab has connections from web to the world, from the world to web, and between other and web,
// on each of which something was said, and a container that things happen to.
func meanwhileLab(t *testing.T) (r *rig, victim *netlab.NS, at api.Container, conns []net.Conn) {
	t.Helper()
	r = newRig(t)
	r.start()
	bothWays := echoes(t, r)
	other, _ := r.attach("other", api.Attach{})
	victim, at = r.attach("victim", api.Attach{Publish: []string{"8081:80"}})
	web, err := r.Container(t.Context(), "web")
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		conns = append(conns, bothWays()...)
		c, err := other.Dial("tcp", addr(web)+":80", 10*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		say(t, c, "before")
		conns = append(conns, c)
	}
	return r, victim, at, conns
}

// cableOf is the host's end of the only container without connections.
func (r *rig) cableOf(at api.Container) string {
	r.t.Helper()
	c, err := state.Peek(r.cfg.StateDir)
	if err != nil {
		r.t.Fatal(err)
	}
	for _, ct := range c.Containers {
		if ct.ID == at.ID {
			return ct.Endpoints[0].Veth
		}
	}
	r.t.Fatalf("no record of %s", at.Name)
	return ""
}

func (r *rig) ip(ns *netlab.NS, arg ...string) {
	r.t.Helper()
	if out, err := ns.Command("ip", arg...).CombinedOutput(); err != nil {
		r.t.Fatalf("ip %v: %v: %s", arg, err, out)
	}
}

// TestF01WhileNobodyIsThere: whatever happens on the host while there is no daemon, the next one has all that
// is still there, and the connections of others go on.
func TestF01WhileNobodyIsThere(t *testing.T) {
	for _, event := range []struct {
		what string
		do   func(r *rig, victim *netlab.NS, at api.Container)
		left int // containers
	}{
		{"a host end is removed", func(r *rig, _ *netlab.NS, at api.Container) { r.ip(r.world.Host, "link", "del", r.cableOf(at)) }, 2},
		{"a container's end is removed", func(r *rig, victim *netlab.NS, _ api.Container) { r.ip(victim, "link", "del", "eth0") }, 2},
		{"a namespace is gone", func(r *rig, victim *netlab.NS, at api.Container) {
			if err := victim.Close(); err != nil {
				r.t.Fatal(err)
			}
			cable := r.cableOf(at)
			eventually(r.t, "its cable goes", func() bool { return !slices.Contains(r.hostLinks(), cable) })
		}, 2},
		{"a container's end is renamed", func(r *rig, victim *netlab.NS, _ api.Container) {
			r.ip(victim, "link", "set", "eth0", "down")
			r.ip(victim, "link", "set", "eth0", "name", "lan0")
			r.ip(victim, "link", "set", "lan0", "up")
		}, 3},
		{"a host end is down", func(r *rig, _ *netlab.NS, at api.Container) {
			r.ip(r.world.Host, "link", "set", r.cableOf(at), "down")
		}, 3},
		{"the uplink flaps", func(r *rig, _ *netlab.NS, _ api.Container) {
			r.ip(r.world.Host, "link", "set", "eth0", "down")
			r.ip(r.world.Host, "link", "set", "eth0", "up")
			r.ip(r.world.Host, "route", "replace", "default", "via", netlab.OutsideAddr)
		}, 3},
		{"the uplink is renamed", func(r *rig, _ *netlab.NS, _ api.Container) {
			r.ip(r.world.Host, "link", "set", "eth0", "down")
			r.ip(r.world.Host, "link", "set", "eth0", "name", "wan0")
			r.ip(r.world.Host, "link", "set", "wan0", "up")
			r.ip(r.world.Host, "route", "replace", "default", "via", netlab.OutsideAddr)
		}, 3},
	} {
		t.Run(event.what, func(t *testing.T) {
			r, victim, at, conns := meanwhileLab(t)
			r.kill()
			event.do(r, victim, at)
			r.start()
			list, err := r.Containers(t.Context())
			if err != nil || len(list) != event.left {
				t.Errorf("%d containers, %v, want %d", len(list), err, event.left)
			}
			for i, c := range conns {
				c.SetDeadline(time.Now().Add(30 * time.Second))
				say(t, c, fmt.Sprint("after ", i))
			}
			wantEcho(t, r.world.Outside, netlab.HostAddr+":8080")
			if event.left == 3 {
				return
			}
			// Its name, address and port are free.
			r.attach("victim", api.Attach{Publish: []string{"8081:80"}, Networks: []api.Connect{{Network: "bridge", IP: addr(at)}}})
		})
	}
}

// wantEcho opens a connection on which something comes back.
func wantEcho(t *testing.T, from *netlab.NS, to string) {
	t.Helper()
	c, err := from.Dial("tcp", to, 30*time.Second)
	if err != nil {
		t.Errorf("a new connection to %s: %v", to, err)
		return
	}
	defer c.Close()
	say(t, c, "new")
}

// TestF01KilledAgain kills daemons at any moment of their start, one after the other. The one that is let
// live has all, and every connection goes on.
func TestF01KilledAgain(t *testing.T) {
	r, _, _, conns := meanwhileLab(t)
	before, err := r.Containers(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	r.kill()
	for range 20 {
		var err error
		r.cmd, r.log = r.command(r.cfg)
		if err = r.world.Host.Start(r.cmd); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Duration(rand.IntN(400)) * time.Millisecond)
		if err = r.cmd.Process.Kill(); err == nil {
			r.cmd.Wait()
		}
		r.cmd = nil
	}
	r.start()
	r.wentOn(t, before, conns)
}

// TestF20WhateverBecomesOfTheFiles: the daemon is killed, and its files are spoiled as a disk, a tool or a person
// may. The next one has all, published ports too, and every connection goes on.
func TestF20WhateverBecomesOfTheFiles(t *testing.T) {
	both := func(do func(path string) error) func(dir string) error {
		return func(dir string) error {
			for _, name := range []string{state.FileName, state.CopyName} {
				if err := do(filepath.Join(dir, name)); err != nil {
					return err
				}
			}
			return nil
		}
	}
	write := func(change func([]byte) []byte) func(string) error {
		return func(path string) error {
			b, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			return os.WriteFile(path, change(b), 0o600)
		}
	}
	for what, spoil := range map[string]func(dir string) error{
		"both are cut off": both(write(func(b []byte) []byte { return b[:len(b)/3] })),
		"both have bits flipped": both(write(func(b []byte) []byte {
			for i := 40; i < len(b); i += 97 {
				b[i] ^= 4
			}
			return b
		})),
		"both are removed": both(os.Remove),
		"both are directories": both(func(path string) error {
			if err := os.Remove(path); err != nil {
				return err
			}
			return os.Mkdir(path, 0o700)
		}),
		"both are pipes": both(func(path string) error {
			if err := os.Remove(path); err != nil {
				return err
			}
			return syscall.Mkfifo(path, 0o600)
		}),
		"nobody may read them":  both(func(path string) error { return os.Chmod(path, 0) }),
		"the directory is gone": os.RemoveAll,
		"the file is gone, the copy cut": func(dir string) error {
			if err := os.Remove(filepath.Join(dir, state.FileName)); err != nil {
				return err
			}
			return os.Truncate(filepath.Join(dir, state.CopyName), 50)
		},
	} {
		t.Run(what, func(t *testing.T) {
			r, _, _, conns := meanwhileLab(t)
			before, err := r.Containers(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			r.kill()
			if err := spoil(r.cfg.StateDir); err != nil {
				t.Fatal(err)
			}
			r.start()
			r.wentOn(t, before, conns)
			wantEcho(t, r.world.Host, "127.0.0.1:8080")
		})
	}
}

// TestF38EndsWithReaders: a capture, a stream of events and a request that never ends hold no end up, by
// either signal, and what is carried goes on.
func TestF38EndsWithReaders(t *testing.T) {
	r, _, _, conns := meanwhileLab(t)
	for _, end := range []func(){r.stop, r.kill} {
		slow, err := net.Dial("unix", filepath.Join(r.cfg.RunDir, socketName))
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprint(slow, "POST /v1/containers HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n")
		for _, path := range []string{"/v1/capture?target=web", "/v1/events"} {
			c, err := net.Dial("unix", filepath.Join(r.cfg.RunDir, socketName))
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: x\r\n\r\n", path)
			if _, err := c.Read(make([]byte, 12)); err != nil {
				t.Errorf("%s: %v", path, err)
			}
		}
		begin := time.Now()
		end()
		if d := time.Since(begin); d > 4*time.Second { // requests that are worked on have 5
			t.Errorf("the end took %v", d)
		}
		slow.Close()
		r.start()
		for i, c := range conns {
			c.SetDeadline(time.Now().Add(30 * time.Second))
			say(t, c, fmt.Sprint("after ", i))
		}
	}
}

// wentOn wants the containers to be as they were, and every connection to go on.
func (r *rig) wentOn(t *testing.T, before []api.Container, conns []net.Conn) {
	t.Helper()
	after, err := r.Containers(t.Context())
	if err != nil || fmt.Sprint(after) != fmt.Sprint(before) {
		t.Errorf("containers %+v, %v, were %+v", after, err, before)
	}
	for i, c := range conns {
		c.SetDeadline(time.Now().Add(30 * time.Second))
		say(t, c, fmt.Sprint("after ", i))
	}
	wantEcho(t, r.world.Outside, netlab.HostAddr+":8080")
}
