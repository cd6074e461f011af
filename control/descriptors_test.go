package control

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/control/client"
	"github.com/vswitch/vswitch/internal/netlab"
	"github.com/vswitch/vswitch/internal/netlab/labtest"
	"github.com/vswitch/vswitch/internal/talk"
)

// mayOpen leaves the daemon some descriptors, or with -1 as many as before.
func (r *rig) mayOpen(free int) {
	r.t.Helper()
	pid := r.cmd.Process.Pid
	list, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		r.t.Fatal(err)
	}
	taken := make(map[string]bool)
	for _, e := range list {
		taken[e.Name()] = true
	}
	var limit unix.Rlimit
	if err := unix.Prlimit(pid, unix.RLIMIT_NOFILE, nil, &limit); err != nil {
		r.t.Fatal(err)
	}
	limit.Cur = limit.Max
	for n := uint64(0); free >= 0; n++ {
		if !taken[strconv.FormatUint(n, 10)] {
			free--
		}
		limit.Cur = n // a number below it
	}
	if err := unix.Prlimit(pid, unix.RLIMIT_NOFILE, &limit, nil); err != nil {
		r.t.Fatal(err)
	}
}

// cpu is how long the daemon has worked.
func (r *rig) cpu() time.Duration {
	r.t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", r.cmd.Process.Pid))
	if err != nil {
		r.t.Fatal(err)
	}
	// proc(5): after the name in parentheses, utime and stime are 12th and 13th.
	f := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
	user, err1 := strconv.Atoi(f[11])
	system, err2 := strconv.Atoi(f[12])
	if err1 != nil || err2 != nil {
		r.t.Fatalf("%q", b)
	}
	return time.Duration(user+system) * 10 * time.Millisecond // USER_HZ is 100
}

// TestF08DescriptorsRunOut: an attach that finds no descriptor free, wherever that is, is
// refused on one line and leaves nothing. All else goes on, whoever knocks meanwhile costs
// nothing and is served later.
func TestF08DescriptorsRunOut(t *testing.T) {
	r := newRig(t)
	r.start()
	ctx := t.Context()
	web, wct := r.attach("web", api.Attach{Publish: []string{"8080:80"}})
	db, _ := r.attach("db", api.Attach{})
	serve(t, web, ":80", "web")
	talk.Echo(t, web, ":7000")
	going := []*talk.Ticks{talk.Begin(t, "tcp", db, "tcp", addr(wct)+":7000"), talk.Begin(t, "udp", db, "udp", addr(wct)+":7000")}
	ns := labtest.New(t, "more")
	in := api.Attach{Name: "more", Netns: ns.Path(), Publish: []string{"8081:80", "20000-20999:20000-20999/udp"}}
	attach := func() error {
		_, err := r.Attach(ctx, in)
		return err
	}
	// Once, for what a first attach opens and keeps.
	if err := attach(); err != nil {
		t.Fatal(err)
	}
	if err := r.Detach(ctx, "more"); err != nil {
		t.Fatal(err)
	}
	links := r.hostLinks()
	listed := func() (list []any) {
		t.Helper()
		cts, err1 := r.Containers(ctx)
		nets, err2 := r.Networks(ctx)
		if err := errors.Join(err1, err2); err != nil {
			t.Fatal(err)
		}
		return append(list, cts, nets)
	}
	before := listed()
	for _, op := range []struct {
		what     string
		do, undo func() error
	}{
		{"attach", attach, func() error { return r.Detach(ctx, "more") }},
		{"network create", func() error { _, err := r.CreateNetwork(ctx, api.NetworkCreate{Name: "blue"}); return err },
			func() error { return r.RemoveNetwork(ctx, "blue") }},
		{"publish", func() error { _, err := r.Publish(ctx, "web", in.Publish); return err },
			func() error { return r.Unpublish(ctx, "web", in.Publish) }},
	} {
		refused := 0
		for ; ; refused++ {
			r.mayOpen(refused)
			err := op.do()
			r.mayOpen(-1)
			if err == nil {
				break
			}
			if refused == 100 {
				t.Fatalf("%s: %v", op.what, err)
			}
			if !strings.Contains(err.Error(), "too many open files") || strings.Contains(err.Error(), "\n") {
				t.Errorf("%s with %d descriptors free: %v", op.what, refused, err)
			}
			if d := cmp.Diff(before, listed()); d != "" {
				t.Errorf("%s with %d descriptors free (-before +after):\n%s", op.what, refused, d)
			}
			if got := r.hostLinks(); !slices.Equal(got, links) {
				t.Errorf("%s with %d descriptors free: links %v, want %v", op.what, refused, got, links)
			}
			if got, err := ns.Links(); err != nil || len(got) != 1 {
				t.Errorf("%s with %d descriptors free: the namespace has %v, %v", op.what, refused, got, err)
			}
		}
		if refused == 0 {
			t.Errorf("%s needs no descriptor: the test shows nothing", op.what)
		}
		// What ends something ends it, and says what could not be done.
		r.mayOpen(0)
		if err := op.undo(); err != nil && !strings.Contains(err.Error(), "too many open files") {
			t.Errorf("the end of %s: %v", op.what, err)
		}
		r.mayOpen(-1)
		if d := cmp.Diff(before, listed()); d != "" {
			t.Errorf("%s and its end (-before +after):\n%s", op.what, d)
		}
		if got := r.hostLinks(); !slices.Equal(got, links) {
			t.Errorf("%s and its end: links %v, want %v", op.what, got, links)
		}
	}

	// Nobody new is heard, and nobody waits at the cost of a CPU.
	r.mayOpen(0)
	heard := make(chan error, 8)
	for range cap(heard) {
		other := client.New(filepath.Join(r.cfg.RunDir, socketName))
		defer other.Close()
		go func() { _, err := other.Info(ctx); heard <- err }()
	}
	begin, worked := time.Now(), r.cpu()
	for ; time.Since(begin) < 2*time.Second; time.Sleep(50 * time.Millisecond) { // that is little work
		wantFetch(t, r.world.Outside, netlab.HostAddr+":8080", "web", netlab.OutsideAddr)
	}
	if took := time.Since(begin); r.cpu()-worked > took*3/4 {
		t.Errorf("it worked for %v of %v", r.cpu()-worked, took)
	}
	if len(heard) == cap(heard) {
		t.Error("all were heard without a descriptor free: the test shows nothing")
	}
	r.mayOpen(-1)
	for range cap(heard) {
		select {
		case err := <-heard:
			if err != nil {
				t.Errorf("who came meanwhile: %v", err)
			}
		case <-time.After(30 * time.Second):
			t.Fatal("who came meanwhile is not heard later")
		}
	}
	for _, k := range going {
		if err := k.End(); err != nil {
			t.Errorf("%s: %v", k.What, err)
		}
	}
	for _, name := range []string{"web", "db"} {
		if err := r.Detach(ctx, name); err != nil {
			t.Error(err)
		}
	}
	r.stop()
	r.wantNoTrace()
	for line := range strings.Lines(r.log.String()) {
		if strings.Contains(line, "level=ERROR") && !strings.Contains(line, "too many open files") {
			t.Error(line)
		}
	}
	r.log = nil
}
