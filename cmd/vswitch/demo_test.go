package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vswitch/vswitch/internal/netlab"
	"github.com/vswitch/vswitch/internal/netlab/labtest"
)

// demoCommand is `vswitch demo` with a temporary directory that is looked into
// afterwards.
func demoCommand(t *testing.T) (cmd *exec.Cmd, temp string) {
	t.Helper()
	labtest.NeedBPF(t)
	temp = t.TempDir()
	cmd = exec.Command("/proc/self/exe", "demo")
	cmd.Args[0] = programName
	cmd.Env = append(os.Environ(), "TMPDIR="+temp)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	return cmd, temp
}

func TestDemo(t *testing.T) {
	cmd, temp := demoCommand(t)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil || stderr.Len() > 0 {
		t.Fatalf("%v: %s\n%s", err, stderr.String(), stdout.String())
	}
	for _, want := range []string{
		"the outside saw " + netlab.HostAddr,
		"web saw " + netlab.OutsideAddr,
		"masquerade", "publish", "hairpin", "static",
		"HTTP: GET / HTTP/1.1",
		"nothing: links, addresses, routes, sysctls",
	} {
		if !strings.Contains(stdout.String(), want) {
			t.Errorf("%q is not in\n%s", want, stdout.String())
		}
	}
	checkNoTrace(t, temp)
}

// TestDemoInterrupted ends it by ^C in the middle.
func TestDemoInterrupted(t *testing.T) {
	cmd, temp := demoCommand(t)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for {
		line, err := readLine(stdout)
		if err != nil {
			t.Fatalf("the demo ended: %v: %s", err, stderr.String())
		}
		if strings.Contains(line, "vswitch daemon") {
			break
		}
	}
	cmd.Process.Signal(unix.SIGINT)
	for {
		if _, err := readLine(stdout); err != nil {
			break
		}
	}
	if code := wait(t, cmd); code != exitSignal+int(unix.SIGINT) {
		t.Errorf("got exit code %d: %s", code, stderr.String())
	}
	if !strings.HasSuffix(stderr.String(), "vswitch: demo: interrupted\n") {
		t.Errorf("got %q", stderr.String())
	}
	checkNoTrace(t, temp)
}

// checkNoTrace fails the test when a demo left files or processes.
func checkNoTrace(t *testing.T, temp string) {
	t.Helper()
	if left, _ := filepath.Glob(filepath.Join(temp, "*")); len(left) > 0 {
		t.Errorf("files are left: %v", left)
	}
	// Whatever the demo starts has its environment.
	files, _ := filepath.Glob("/proc/[0-9]*/environ")
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err == nil && strings.Contains(string(b), temp) && !processEnded(pidOf(f)) {
			t.Errorf("process left: %s", f)
		}
	}
}

func pidOf(proc string) (pid int) {
	fmt.Sscanf(proc, "/proc/%d/", &pid)
	return pid
}

func TestHostStateDiff(t *testing.T) {
	ns := labtest.New(t, "host")
	before, err := readHostState(ns)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		what       string
		do, undo   func() error
		wantInDiff string
	}{
		{"sysctl", func() error { return ns.Sysctl("ipv4.ip_local_reserved_ports", "9000-9009") },
			func() error { return ns.Sysctl("ipv4.ip_local_reserved_ports", "\n") }, "ip_local_reserved_ports = 9000-9009"},
		{"address", func() error { return ns.AddAddr("lo", "10.1.2.3/32") },
			func() error { return ns.DelAddr("lo", "10.1.2.3/32") }, "new: address 10.1.2.3/32 on lo"},
		{"link", func() error { return netlab.Veth(ns, "v0", ns, "v1", 0) },
			func() error { return ns.DelLink("v0") }, "new: link v0 "},
		{"lo down", func() error { return ns.SetDown("lo") }, func() error { return ns.SetUp("lo") }, "gone: link lo"},
	} {
		if err := tt.do(); err != nil {
			t.Fatal(err)
		}
		changed, err := readHostState(ns)
		if err != nil {
			t.Fatal(err)
		}
		if got := before.diff(changed); !strings.Contains(got, tt.wantInDiff) {
			t.Errorf("%s: got %q, want %q in it", tt.what, got, tt.wantInDiff)
		}
		if err := tt.undo(); err != nil {
			t.Fatal(err)
		}
		after, err := readHostState(ns)
		if got := before.diff(after); err != nil || got != "" {
			t.Errorf("%s: after it was undone got %q, %v", tt.what, got, err)
		}
	}
}

// TestHostStateLinkLocal waits until the kernel has finished with the link-local
// address of a fresh link: that is no change.
func TestHostStateLinkLocal(t *testing.T) {
	const localRoute = "80 " // prefix length 128 in hex, as in ipv6_route
	arrived := func(w *netlab.World) (yes bool) {
		err := w.Host.Do(func() error {
			for _, route := range readLines("/proc/thread-self/net/ipv6_route") {
				_, rest, _ := strings.Cut(route, " ")
				yes = yes || strings.HasPrefix(route, "fe80") && strings.HasPrefix(rest, localRoute) && strings.HasSuffix(route, "eth0")
			}
			return nil
		})
		return yes && err == nil
	}
	var w *netlab.World
	var before hostState
	for try := 0; before == nil; try++ {
		w = labtest.NewWorld(t)
		state, err := readHostState(w.Host)
		if err != nil {
			t.Fatal(err)
		}
		if !arrived(w) {
			before = state
		} else if try == 9 { // a busy machine may take a second until here
			t.Fatal("the route is there already: nothing to see")
		}
	}
	deadline := time.Now().Add(30 * time.Second)
	for !arrived(w) && time.Now().Before(deadline) {
		time.Sleep(20 * time.Millisecond)
	}
	if !arrived(w) {
		t.Fatal("the kernel makes no route to eth0's link-local address")
	}
	after, err := readHostState(w.Host)
	if got := before.diff(after); err != nil || got != "" {
		t.Errorf("got %q, %v; want no difference", got, err)
	}
}
