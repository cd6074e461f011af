package gen

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// The range of ports that Linux gives to connections, net.ipv4.ip_local_port_range.
const localFirst, localLast = 32768, 60999

// processes is how many hold them: none may have many open files.
const processes = 8

// Hold binds all ports of ns that no connection of its host takes by itself, TCP and UDP, for
// window: what a user without rights may do.
func Hold(ctx context.Context, ns Namespace, window time.Duration) error {
	var g errgroup.Group
	for i := range processes {
		g.Go(func() error { return call(ctx, ns, Spec{Role: roleHold, Streams: i, Window: window}, nil) })
	}
	return g.Wait()
}

// hold binds every eighth of them, from the one that Streams says.
func hold(s Spec) error {
	end := time.Now().Add(s.Window)
	if err := raiseFiles(); err != nil {
		return fmt.Errorf("hold ports: %w", err)
	}
	for port := 1024 + s.Streams; port < 1<<16; port += processes {
		if port >= localFirst && port <= localLast {
			continue
		}
		for _, kind := range []int{unix.SOCK_STREAM, unix.SOCK_DGRAM} {
			fd, err := unix.Socket(unix.AF_INET, kind|unix.SOCK_CLOEXEC, 0)
			if err != nil {
				return fmt.Errorf("hold ports: %w", err)
			}
			if unix.Bind(fd, &unix.SockaddrInet4{Port: port}) != nil {
				unix.Close(fd) // somebody else has it
			}
		}
	}
	time.Sleep(time.Until(end))
	return nil
}

// raiseFiles lets this process have as many open files as it may.
func raiseFiles() error {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return err
	}
	limit.Cur = limit.Max
	return unix.Setrlimit(unix.RLIMIT_NOFILE, &limit)
}
