package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/control/resolvconf"
)

// files are what a command finds in the place of the host's, by their paths.
type files map[string]string

// filesOf are a container's.
func filesOf(endpoints []api.Endpoint) files {
	host, _ := readBounded(resolvconf.Path) // without one nothing is searched
	f, ok := resolvconf.Of(endpoints, resolvconf.Parse(string(host)))
	if !ok {
		return nil
	}
	return files{resolvconf.Path: f.Text()}
}

// printResolvConf says what would name the gateway to a container whose files are not ours.
func printResolvConf(w io.Writer, ct api.Container) error {
	f, ok := resolvconf.Of(ct.Endpoints, resolvconf.File{})
	if !ok {
		return nil
	}
	sayf(w, "\n# its %s, to find others by name:\n", resolvconf.Path)
	return printNames(w, strings.Split(strings.TrimSpace(f.Text()), "\n"))
}

// put gives them to the calling thread.
func (f files) put() error {
	if len(f) == 0 {
		return nil
	}
	if err := resolvconf.Unshare(); err != nil {
		return err
	}
	for path, text := range f {
		if err := cover(path, text, func(call func() error) error { return call() }); err != nil {
			return err
		}
	}
	return nil
}

// cover puts a text in the place of a file, for the thread on which it is called.
func cover(path, text string, on func(func() error) error) error {
	t, err := resolvconf.NewText("", text)
	if err != nil {
		return err
	}
	defer t.Close()
	return on(func() error { return t.Cover(path) })
}

// keepNames puts the container's resolv.conf in place again when the host gets another, until the process has ended.
// Without it the container would ask the host's name servers from then on.
func (p *process) keepNames(endpoints []api.Endpoint) {
	stop, err := resolvconf.Follow(resolvconf.Path, func() {
		mounts, err := os.Open(fmt.Sprintf("/proc/%d/ns/mnt", p.pid()))
		if err != nil {
			return // it has ended
		}
		defer mounts.Close()
		if p.cmd.Process.Signal(syscall.Signal(0)) != nil {
			return // it had ended, and the number may be another's
		}
		f := filesOf(endpoints)
		err = cover(resolvconf.Path, f[resolvconf.Path], func(call func() error) error { return resolvconf.Among(mounts, call) })
		if err != nil {
			fmt.Fprintf(p.stderr, "vswitch: run: names are not answered since the host has another resolv.conf: %v\n", err)
		}
	})
	if err != nil {
		fmt.Fprintf(p.stderr, "vswitch: run: names are not answered once the host has another resolv.conf: %v\n", err)
		return
	}
	<-p.ended
	stop.Close()
}
