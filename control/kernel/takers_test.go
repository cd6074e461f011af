package kernel

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vswitch/vswitch/internal/netlab"
	"github.com/vswitch/vswitch/internal/netlab/labtest"
)

// TestTakers: a socket that takes packets without ports is heard of when it is opened.
func TestTakers(t *testing.T) {
	k := open(t)
	cgroup := labtest.Cgroup(t)
	w := labtest.NewWorld(t)
	if err := w.Host.Do(func() error { return k.WatchBinds(cgroup) }); err != nil {
		t.Fatal(err)
	}
	heard := make(chan struct{}, 100)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- k.HearTakers(ctx, func() { heard <- struct{}{} }) }()
	raw := func(ns *netlab.NS, family, proto int) {
		t.Helper()
		err := ns.Do(func() error {
			fd, err := unix.Socket(family, unix.SOCK_RAW|unix.SOCK_CLOEXEC, proto)
			if err != nil {
				return err
			}
			return unix.Close(fd)
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	raw(w.Outside, unix.AF_INET, 89) // another namespace's
	raw(w.Host, unix.AF_INET, unix.IPPROTO_ICMP)
	raw(w.Host, unix.AF_INET6, unix.IPPROTO_ICMPV6)
	for _, family := range []int{unix.AF_INET, unix.AF_INET6} {
		raw(w.Host, family, 89)
		select {
		case <-heard:
		case <-time.After(30 * time.Second):
			t.Fatalf("family %d: nothing was heard of a raw socket", family)
		}
	}
	if n := len(heard); n != 0 {
		t.Errorf("%d sockets were heard of that take nothing", n)
	}
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("in the end: %v", err)
	}
}

// TestRenote: the note of a TCP port goes when nobody has the port and nobody bound it between
// two readings; a connection from before the hooks is noted.
func TestRenote(t *testing.T) {
	k := open(t)
	held := []uint16{443}
	renote := func(ports ...uint16) {
		t.Helper()
		if err := k.Renote(func() ([]uint16, error) { return append(ports, held...), nil }); err != nil {
			t.Fatal(err)
		}
	}
	note := func(port uint16) uint32 { return atomic.LoadUint32(&k.bound.tcp[port]) }
	renote()
	if note(443) == 0 {
		t.Error("a connection from before is not noted")
	}
	atomic.AddUint32(&k.bound.tcp[7001], 1)
	renote()
	if note(7001) == 0 {
		t.Error("a note went at the first reading")
	}
	atomic.AddUint32(&k.bound.tcp[7001], 1) // bound again meanwhile
	renote()
	if note(7001) == 0 {
		t.Error("a note went whose port was bound again")
	}
	renote(7001)
	renote()
	if note(7001) == 0 {
		t.Error("a note went of a port that somebody had")
	}
	renote()
	if note(7001) != 0 {
		t.Error("a note stays of a port that nobody has")
	}
	if note(443) == 0 {
		t.Error("the note of a connection went")
	}
	held = nil
	renote()
	renote()
	if note(443) != 0 {
		t.Error("a note stays of a connection that has ended")
	}
	if err := k.Renote(func() ([]uint16, error) { return nil, unix.EIO }); !errors.Is(err, unix.EIO) {
		t.Errorf("an error is told as %v", err)
	}
}
