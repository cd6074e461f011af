package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/control/resolvconf"
)

func newExec(c *cli) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "exec NAME -- COMMAND [ARG...]",
		Short: "Run a command in a container's network",
		Long: `Only the network namespace is the container's: the files are the host's, except for
/etc/resolv.conf, which is as the container has it. Users and processes are the host's too.

It works with any container, also one without a shell or a program, to look at its network
from inside with what the host has installed. The command takes this program's place: its
signals, its streams and its exit code are its own. Run it as root where the daemon is.`,
		Example: `  vswitch exec web -- ss -ltn
  vswitch exec web -- curl -s localhost
  vswitch exec web -- tcpdump -i eth0`,
		Args: func(cmd *cobra.Command, got []string) error {
			return args("NAME", "COMMAND", "[ARG...]")(cmd, undashed(got))
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			args = undashed(args)
			path, err := lookCommand("exec", args[1])
			if err != nil {
				return err
			}
			cl := c.client(cmd)
			ct, err := cl.Container(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			netns, err := namespaceOf(ct)
			if err != nil {
				return err
			}
			err = enter(netns, ct)
			if err == nil {
				closeOnExec()
				err = syscall.Exec(path, args[1:], os.Environ())
			}
			return &exitError{code: exitNotExecutable, err: fmt.Errorf("exec: container %s: %w", ct.Name, err)}
		},
		ValidArgsFunction: complete(c.containers, noMore),
	}
	cmd.Flags().SetInterspersed(false)
	return cmd
}

// undashed are the arguments without the "--" behind the name, which is there for people.
func undashed(args []string) []string {
	if len(args) > 1 && args[1] == "--" {
		return append([]string{args[0]}, args[2:]...)
	}
	return args
}

// enter takes this thread, which is the one that becomes the command, into the network of a
// container, and gives it the container's resolv.conf.
func enter(netns *os.File, ct api.Container) error {
	conf := resolvConf(netns, ct)
	runtime.LockOSThread()
	if err := unix.Setns(int(netns.Fd()), unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("enter its network namespace: %w: run as root", err)
	}
	if conf == nil {
		return nil
	}
	// A file of another mount namespace cannot be bound here, its text can.
	return own{Files: map[string]string{resolvconf.Path: string(conf)}}.put()
}

// maxResolvConf bounds what is read of a container's file.
const maxResolvConf = 64 << 10

// resolvConf is the container's /etc/resolv.conf: by a process of it that has other files than
// we, or as ip netns exec has it. nil is that of the host, which the container has too.
func resolvConf(netns *os.File, ct api.Container) []byte {
	if name, ok := strings.CutPrefix(ct.Netns, "/run/netns/"); ok {
		if b, err := readBounded(filepath.Join("/etc/netns", name, "resolv.conf")); err == nil {
			return b
		}
	}
	var at, ours, st unix.Stat_t
	if unix.Fstat(int(netns.Fd()), &at) != nil || unix.Stat("/proc/self/ns/mnt", &ours) != nil {
		return nil
	}
	list, _ := filepath.Glob("/proc/[0-9]*")
	for _, dir := range list {
		if unix.Stat(dir+"/ns/net", &st) != nil || st.Dev != at.Dev || st.Ino != at.Ino {
			continue
		}
		if unix.Stat(dir+"/ns/mnt", &st) != nil || st.Ino == ours.Ino {
			continue
		}
		if b, err := readInside(dir); err == nil {
			return b
		}
	}
	return nil
}

// readInside reads the file as the process of a directory of /proc finds it: links of the
// container end in it, as they would not by way of /proc/PID/root alone.
func readInside(dir string) ([]byte, error) {
	root, err := os.OpenFile(dir+"/root", unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	fd, err := unix.Openat2(int(root.Fd()), "etc/resolv.conf", &unix.OpenHow{Flags: unix.O_RDONLY | unix.O_CLOEXEC | unix.O_NONBLOCK, Resolve: unix.RESOLVE_IN_ROOT})
	if err != nil {
		return nil, err
	}
	return readAll(os.NewFile(uintptr(fd), "resolv.conf of "+strconv.Quote(dir)))
}

func readBounded(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	return readAll(f)
}

// readAll reads a file of a stranger: a regular one, and not all of a large one.
func readAll(f *os.File) ([]byte, error) {
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return nil, errors.New("no regular file")
	}
	return io.ReadAll(io.LimitReader(f, maxResolvConf))
}
