package resolvconf

import (
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/internal/netlab/labtest"
)

func TestMain(m *testing.M) { labtest.Main(m) }

func TestOf(t *testing.T) {
	host := Parse("# nameserver 192.0.2.9\nnameserver 192.0.2.1\ndomain old.example\nsearch a.example b.example\noptions edns0 trust-ad\n\noptions ndots:2\n")
	off, on := api.Endpoint{Network: "plain"}, api.Endpoint{Network: "shop", NameServers: []string{"10.1.0.1", "fd01::1"}}
	for _, tc := range []struct {
		endpoints []api.Endpoint
		dns       *api.DNS
		host      File
		want      string
	}{
		{[]api.Endpoint{off, on}, nil, host, "nameserver 10.1.0.1\nnameserver fd01::1\nsearch shop a.example b.example\noptions edns0 trust-ad ndots:2\n"},
		{[]api.Endpoint{on}, nil, Parse("search ."), "nameserver 10.1.0.1\nnameserver fd01::1\nsearch shop\n"},
		{[]api.Endpoint{off}, nil, host, ""},
		{[]api.Endpoint{off}, &api.DNS{Hosts: []string{"x:192.0.2.1"}}, host, ""},
		{nil, nil, host, ""},
		{[]api.Endpoint{on}, &api.DNS{Servers: []string{"192.0.2.8"}, Search: []string{"c.example"}, Options: []string{"ndots:1"}}, host, "nameserver 10.1.0.1\nnameserver fd01::1\nsearch shop c.example\noptions ndots:1\n"},
		{[]api.Endpoint{on}, &api.DNS{Search: []string{"."}}, File{}, "nameserver 10.1.0.1\nnameserver fd01::1\n"},
		{[]api.Endpoint{off}, &api.DNS{Servers: []string{"192.0.2.8"}}, Parse("search a.example"), "nameserver 192.0.2.8\nsearch a.example\n"},
		{[]api.Endpoint{off}, &api.DNS{Search: []string{"c.example"}}, Parse("nameserver 192.0.2.1"), "nameserver 192.0.2.1\nsearch c.example\n"},
	} {
		if f, ok := Of(api.Container{Endpoints: tc.endpoints, DNS: tc.dns}, tc.host); f.Text() != tc.want || ok != (tc.want != "") {
			t.Errorf("%v: %t, %q; want %q", tc.endpoints, ok, f.Text(), tc.want)
		}
	}
}

// on calls a function on a thread with mounts of its own.
func on(t *testing.T, call func() error) {
	t.Helper()
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		err := Unshare()
		if err == nil {
			err = call()
		}
		done <- err
	}()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func text(t *testing.T, dir, s string) Text {
	t.Helper()
	f, err := NewText(dir, s)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		f.Close()
		if left, _ := filepath.Glob(filepath.Join(dir, "resolv.conf.*")); len(left) > 0 {
			t.Errorf("%v is left", left)
		}
	})
	return f
}

// A link is covered itself, so that the host may replace what it leads to; and the host sees nothing of it.
func TestCover(t *testing.T) {
	labtest.Need(t)
	dir := t.TempDir()
	stub, link := filepath.Join(dir, "stub"), filepath.Join(dir, "resolv.conf")
	os.WriteFile(stub, []byte("host"), 0o644)
	if err := os.Symlink(stub, link); err != nil {
		t.Fatal(err)
	}
	f := text(t, dir, "own")
	on(t, func() error {
		if err := f.Cover(link); err != nil {
			return err
		}
		os.WriteFile(filepath.Join(dir, "new"), []byte("new"), 0o644)
		if err := os.Rename(filepath.Join(dir, "new"), stub); err != nil {
			return err
		}
		if b, err := os.ReadFile(link); string(b) != "own" {
			t.Errorf("after the host has another: %q, %v", b, err)
		}
		return text(t, t.TempDir(), "x").Cover(filepath.Join(dir, "nothing"))
	})
	if b, _ := os.ReadFile(link); string(b) != "new" {
		t.Errorf("the host reads %q", b)
	}
}

// Links of a container's files end in its root, and a file that is missing is made where there is a directory for it.
func TestCoverInside(t *testing.T) {
	labtest.Need(t)
	for _, tc := range []struct {
		name string
		make func(root string) error
		at   string // where the text is, "": nowhere
	}{
		{"file", func(root string) error {
			return os.WriteFile(filepath.Join(root, "etc/resolv.conf"), nil, 0o644)
		}, "etc/resolv.conf"},
		{"none", func(string) error { return nil }, "etc/resolv.conf"},
		{"link", func(root string) error {
			return os.Symlink("/etc/other", filepath.Join(root, "etc/resolv.conf"))
		}, "etc/other"},
		{"climbs", func(root string) error {
			return os.Symlink("../../../../../../../../etc/other", filepath.Join(root, "etc/resolv.conf"))
		}, "etc/other"},
		{"no directory", func(root string) error { return os.RemoveAll(filepath.Join(root, "etc")) }, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			root := t.TempDir()
			os.Mkdir(filepath.Join(root, "etc"), 0o755)
			os.WriteFile(filepath.Join(root, "etc/other"), nil, 0o644)
			if err := tc.make(root); err != nil {
				t.Fatal(err)
			}
			f := text(t, t.TempDir(), "own")
			on(t, func() error {
				if err := f.CoverInside(root); err != nil {
					return err
				}
				if tc.at != "" {
					if b, err := os.ReadFile(filepath.Join(root, tc.at)); string(b) != "own" {
						t.Errorf("%s: %q, %v", tc.at, b, err)
					}
				}
				return nil
			})
		})
	}
}

func TestFollow(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "resolv.conf")
	came := make(chan struct{}, 8)
	stop, err := Follow(path, func() { came <- struct{}{} })
	if err != nil {
		t.Fatal(err)
	}
	defer stop.Close()
	os.WriteFile(filepath.Join(dir, "other"), nil, 0o644)
	if err := os.Rename(filepath.Join(dir, "other"), path); err != nil {
		t.Fatal(err)
	}
	select {
	case <-came:
	case <-time.After(10 * time.Second):
		t.Fatal("nobody is told")
	}
}
