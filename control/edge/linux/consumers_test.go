package linux

import (
	"context"
	"fmt"
	"net/netip"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vswitch/vswitch/control/edge"
	"github.com/vswitch/vswitch/control/host"
	"github.com/vswitch/vswitch/control/reserve"
	"github.com/vswitch/vswitch/internal/netlab/labtest"
)

// TestConsumers: a raw socket takes the packets of its protocol from the moment on when it is
// there, until it is closed.
func TestConsumers(t *testing.T) {
	e := newMachine(t, Config{NoFlowTable: true}).Open().(*Edge)
	defer e.Close()
	ospf := host.Consumer{Proto: 89}
	if slices.Contains(e.Consumers(), ospf) {
		t.Fatal("somebody has the protocol already")
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, int(ospf.Proto))
	if err != nil {
		t.Fatal(err)
	}
	if got := e.Consumers(); !slices.Contains(got, ospf) {
		t.Errorf("with a raw socket: %v", got)
	}
	unix.Close(fd)
	if got := e.Consumers(); slices.Contains(got, ospf) {
		t.Errorf("without: %v", got)
	}
}

// TestWatchConsumers: raw sockets and security associations of the host are heard of, with and
// without hooks of bind.
func TestWatchConsumers(t *testing.T) {
	for _, hooks := range []bool{false, true} {
		t.Run(fmt.Sprintf("hooks %v", hooks), func(t *testing.T) { watchConsumers(t, hooks) })
	}
}

func watchConsumers(t *testing.T, hooks bool) {
	cgroup := ""
	if hooks {
		cgroup = labtest.Cgroup(t)
	}
	e := newMachine(t, Config{NoFlowTable: true, Cgroup: cgroup}).Open().(*Edge)
	defer e.Close()
	none := func([]reserve.Range) error { return nil }
	if err := e.Begin(edge.Owner{Identity: "cafe", PutReserved: none}); err != nil {
		t.Fatal(err)
	}
	ipXfrm := func(args string) {
		t.Helper()
		if out, err := exec.Command("ip", strings.Fields("xfrm state "+args)...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	// An association that is being negotiated needs no ESP of the kernel.
	ipXfrm("allocspi src 198.51.100.9 dst 198.51.100.1 proto esp mode tunnel min 256 max 300")
	association, raw := host.Consumer{Proto: 50, Remote: netip.MustParseAddr("198.51.100.9")}, host.Consumer{Proto: 89}
	ctx, cancel := context.WithCancel(t.Context())
	changed := make(chan struct{}, 1)
	var watch sync.WaitGroup
	watch.Go(func() {
		e.WatchConsumers(ctx, func() {
			select {
			case changed <- struct{}{}:
			default:
			}
		})
	})
	defer watch.Wait()
	defer cancel()
	hears := func(what string, c host.Consumer, there bool) {
		t.Helper()
		for deadline := time.After(30 * time.Second); ; {
			select {
			case <-changed:
			case <-deadline:
				t.Fatalf("nothing was heard of %s", what)
			}
			if slices.Contains(e.Consumers(), c) == there {
				return
			}
		}
	}
	hears("a security association", association, true)
	fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_RAW|unix.SOCK_CLOEXEC, int(raw.Proto))
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	hears("a raw socket", raw, true)
	ipXfrm("flush")
	hears("the end of an association", association, false)
}
