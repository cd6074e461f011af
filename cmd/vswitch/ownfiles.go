package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/control/resolvconf"
)

// own is what a command finds in the place of the host's.
type own struct {
	Hostname string
	Files    map[string]string // texts by path
}

const hostsPath = "/etc/hosts"

// ownOf is a container's.
func ownOf(ct api.Container) own {
	o := own{Hostname: ct.Hostname, Files: make(map[string]string)}
	host, _ := readBounded(resolvconf.Path) // without one nothing is searched
	if f, ok := resolvconf.Of(ct, resolvconf.Parse(string(host))); ok {
		o.Files[resolvconf.Path] = f.Text()
	}
	if lines := hostsOf(ct); len(lines) > 0 {
		b, _ := readBounded(hostsPath)
		o.Files[hostsPath] = strings.Join(lines, "") + string(b) // the first line of a name counts
	}
	return o
}

// hostsOf are the lines of hosts(5), which is read before a name is asked for.
func hostsOf(ct api.Container) (lines []string) {
	add := func(addr, name string) { lines = append(lines, addr+"\t"+name+"\n") }
	if ct.DNS != nil {
		for _, h := range ct.DNS.Hosts {
			name, addr, _ := strings.Cut(h, ":")
			if addr != api.HostGateway {
				add(addr, name)
			} else if len(ct.Endpoints) > 0 {
				for _, g := range ct.Endpoints[0].Gateways {
					add(g, name)
				}
			}
		}
	}
	if ct.Hostname != "" && len(ct.Endpoints) > 0 {
		for _, a := range ct.Endpoints[0].Addresses {
			addr, _, _ := strings.Cut(a, "/")
			add(addr, ct.Hostname)
		}
	}
	return lines
}

// printResolvConf says what would name the gateway to a container whose files are not ours.
func printResolvConf(w io.Writer, ct api.Container) error {
	f, ok := resolvconf.Of(ct, resolvconf.File{})
	if !ok {
		return nil
	}
	sayf(w, "\n# its %s, to find others by name:\n", resolvconf.Path)
	return printNames(w, strings.Split(strings.TrimSpace(f.Text()), "\n"))
}

// put gives it to the calling thread.
func (o own) put() error {
	if o.Hostname != "" {
		if err := unix.Unshare(unix.CLONE_NEWUTS); err != nil {
			return fmt.Errorf("hostname: %w", err)
		}
		if err := unix.Sethostname([]byte(o.Hostname)); err != nil {
			return fmt.Errorf("hostname: %w", err)
		}
	}
	if len(o.Files) == 0 {
		return nil
	}
	if err := resolvconf.Unshare(); err != nil {
		return err
	}
	for path, text := range o.Files {
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

// keepFiles puts the container's files in place again when the host gets others, until the process has ended.
// Without it the container would ask the host's name servers from then on.
func (p *process) keepFiles(ct api.Container) {
	stop, err := resolvconf.Follow(resolvconf.Path, func() { // the directory of both
		mounts, err := os.Open(fmt.Sprintf("/proc/%d/ns/mnt", p.pid()))
		if err != nil {
			return // it has ended
		}
		defer mounts.Close()
		if p.cmd.Process.Signal(syscall.Signal(0)) != nil {
			return // it had ended, and the number may be another's
		}
		for path, text := range ownOf(ct).Files {
			err = cover(path, text, func(call func() error) error { return resolvconf.Among(mounts, call) })
			if err != nil {
				_ = sayf(p.stderr, "vswitch: run: the container has the host's %s since that is another: %v\n", path, err)
			}
		}
	})
	if err != nil {
		_ = sayf(p.stderr, "vswitch: run: the container has the host's files once these are others: %v\n", err)
		return
	}
	<-p.ended
	stop.Close()
}
