package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/control/state"
	"github.com/vswitch/vswitch/internal/netlab"
	"github.com/vswitch/vswitch/internal/netlab/labtest"
	"github.com/vswitch/vswitch/internal/talk"
)

// event is something that happens to the connections of a lab.
type event struct {
	name string // its row
	do   func(l *eventLab)
	// undo takes it back after some time. Without it all is as do has made it.
	lasts time.Duration
	undo  func(l *eventLab)
	// restore makes the lab whole again.
	restore func(l *eventLab)
}

// awayFor is how long nobody is there. VSWITCH_NOBODY=5m is as in the table.
func awayFor() time.Duration {
	if d, err := time.ParseDuration(os.Getenv("VSWITCH_NOBODY")); err == nil {
		return d
	}
	return 4 * time.Second
}

var events = []event{
	{name: "`kill -9`", lasts: time.Second, do: func(l *eventLab) { l.end(unix.SIGKILL) }, undo: (*eventLab).start},
	{name: "restart", lasts: time.Second, do: func(l *eventLab) { l.end(unix.SIGTERM) }, undo: (*eventLab).start},
	{name: "long stop", lasts: awayFor(), do: func(l *eventLab) { l.end(unix.SIGTERM) }, undo: (*eventLab).start},
	{name: "other layout", lasts: time.Second, do: func(l *eventLab) { l.end(unix.SIGTERM) }, undo: func(l *eventLab) {
		l.otherLayout()
		l.start()
	}},
	{name: "both killed", lasts: time.Second, do: func(l *eventLab) {
		pid := l.holder()
		l.end(unix.SIGKILL)
		if err := unix.Kill(pid, unix.SIGKILL); err != nil {
			l.t.Error(err)
		}
		// The kernel takes its time to remove the networks' devices.
		if !eventually(func() bool {
			list, err := l.world.Host.Links()
			return err == nil && !strings.Contains(fmt.Sprint(list), "vs-")
		}) {
			l.t.Error("the networks' devices stay")
		}
	}, undo: (*eventLab).start},
	{name: "`vswitch down`", lasts: time.Second, do: func(l *eventLab) {
		cmd := l.command("down", "--state-dir", filepath.Join(l.dir, "state"))
		if err := l.world.Host.Start(cmd); err != nil {
			l.t.Fatal(err)
		}
		l.daemon.Wait()
		if err := cmd.Wait(); err != nil {
			l.t.Error(err)
		}
	}, undo: (*eventLab).start},
	{name: "reload", do: (*eventLab).reload},
	{name: "uplink blinks", lasts: time.Second, do: func(l *eventLab) { l.ip("link set eth0 down") }, undo: (*eventLab).uplinkUp},
	{name: "uplink down", lasts: 6 * time.Second, do: func(l *eventLab) { l.ip("link set eth0 down") }, undo: (*eventLab).uplinkUp},
	{name: "address gone", do: func(l *eventLab) {
		for _, args := range []string{
			"addr add 198.51.100.2/24 dev eth0", "addr add 2001:db8::2/64 dev eth0 nodad",
			"addr del " + netlab.HostAddr + "/24 dev eth0", "addr del " + netlab.HostAddr6 + "/64 dev eth0",
			// The kernel removes the others of a subnet with the first one.
			"addr replace 198.51.100.2/24 dev eth0",
			"route replace default via " + netlab.OutsideAddr, "-6 route replace default via " + netlab.OutsideAddr6,
		} {
			l.ip(args)
		}
	}, restore: func(l *eventLab) {
		l.ip("addr del 198.51.100.2/24 dev eth0")
		l.ip("addr del 2001:db8::2/64 dev eth0")
		l.uplinkUp()
	}},
	{name: "host end down", lasts: time.Second, do: func(l *eventLab) { l.hostEnds("down") }, undo: func(l *eventLab) { l.hostEnds("up") }},
	{name: "detach", do: func(l *eventLab) {
		l.must("detach", "a")
		l.must("detach", "d")
	}, restore: (*eventLab).refill},
	{name: "disconnect", do: func(l *eventLab) {
		for _, name := range []string{"a", "d"} {
			l.must("network", "connect", "other", name)
		}
		l.must("network", "disconnect", "bridge", "a")
		l.must("network", "disconnect", "routed", "d")
	}, restore: func(l *eventLab) {
		l.must("detach", "a")
		l.must("detach", "d")
		l.refill()
	}},
	{name: "`network rm`", do: func(l *eventLab) {
		for _, name := range []string{"bridge", "other", "routed"} {
			if _, _, code := l.vswitch("network", "rm", name); code == 0 {
				l.t.Errorf("network %s has containers and is removed", name)
			}
		}
	}},
	{name: "port bound", do: (*eventLab).bind},
}

func (l *eventLab) end(s unix.Signal) {
	l.t.Helper()
	if err := l.daemon.Process.Signal(s); err != nil {
		l.t.Error(err)
	}
	l.daemon.Wait()
}

// refill attaches what was detached.
func (l *eventLab) refill() {
	l.t.Helper()
	for _, f := range l.flows {
		f.Close()
	}
	l.AttachA(l.t, l.client)
	l.fill()
}

// reload changes what a reload can.
func (l *eventLab) reload() {
	l.t.Helper()
	const said = "configuration read again"
	before := strings.Count(l.log.String(), said)
	if err := os.WriteFile(l.file, []byte("log-level = \"debug\"\ntimeout = [\"udp=7m\"]\npool = \"10.90.0.0/16\"\n"), 0o600); err != nil {
		l.t.Error(err)
	}
	l.daemon.Process.Signal(unix.SIGHUP)
	if !eventually(func() bool { return strings.Count(l.log.String(), said) > before }) {
		l.t.Error("nothing is read again")
	}
}

// bind has a program of the host bind the ports of masqueraded connections, which it may, and a
// published one, which it may not.
func (l *eventLab) bind() {
	l.t.Helper()
	list, err := l.client.NAT(l.t.Context(), api.NATQuery{Container: "a"})
	if err != nil {
		l.t.Error(err)
	}
	bound := 0
	for _, e := range list {
		if e.Kind != "masquerade" || e.Proto != "tcp" {
			continue
		}
		in, err := l.world.Host.Listen("tcp", e.NATSource)
		if err != nil {
			l.t.Error(err)
			continue
		}
		l.t.Cleanup(func() { in.Close() })
		bound++
	}
	if bound < 8 {
		l.t.Errorf("%d connections are masqueraded", bound)
	}
	if in, err := l.world.Host.Listen("tcp", ":"+talk.Published); err == nil {
		in.Close()
		l.t.Error("the host gets a published port")
	}
}

func (l *eventLab) ip(args string) {
	l.t.Helper()
	if out, err := l.world.Host.Command("ip", strings.Fields(args)...).CombinedOutput(); err != nil {
		l.t.Errorf("ip %s: %v: %s", args, err, out)
	}
}

// uplinkUp is the uplink and what a network manager does then.
func (l *eventLab) uplinkUp() {
	l.t.Helper()
	for _, args := range []string{
		"link set eth0 up", "addr replace " + netlab.HostAddr + "/24 dev eth0", "addr replace " + netlab.HostAddr6 + "/64 dev eth0 nodad",
		"route replace default via " + netlab.OutsideAddr, "-6 route replace default via " + netlab.OutsideAddr6,
	} {
		l.ip(args)
	}
}

func (l *eventLab) hostEnds(how string) {
	l.t.Helper()
	list, err := l.client.Containers(l.t.Context())
	if err != nil || len(list) != 4 {
		l.t.Errorf("%d containers, %v", len(list), err)
	}
	for _, ct := range list {
		l.ip("link set " + ct.Endpoints[0].HostInterface + " " + how)
	}
}

// otherLayout has the maps of the daemon that has ended say that they are of another version.
func (l *eventLab) otherLayout() {
	l.t.Helper()
	st, err := state.Peek(filepath.Join(l.dir, "state"))
	if err != nil {
		l.t.Fatal(err)
	}
	labtest.OtherLayout(l.t, st.Identity)
}
