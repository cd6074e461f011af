package doctor

import (
	"net/netip"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/control/host"
)

func TestMasqueradeCheck(t *testing.T) {
	sockets := []host.Socket{
		{Proto: 6, Port: 61000}, {Proto: 6, Port: 61000, Addr: netip.IPv6Unspecified()}, {Proto: 17, Port: 61000},
		{Proto: 132, Port: 61001}, {Proto: 17, Port: 53}, {Proto: 17, Port: 1024},
	}
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	for i, fd := range fds { // the daemon's own, of published ports
		defer unix.Close(fd)
		var st unix.Stat_t
		if err := unix.Fstat(fd, &st); err != nil {
			t.Fatal(err)
		}
		sockets = append(sockets, host.Socket{Proto: 6, Port: 61002 + uint16(i), Inode: uint32(st.Ino)})
	}
	for _, tc := range []struct {
		ranges []string
		local  string
		want   Status
		says   string
	}{
		{[]string{"61000-65535", "1024-16383", "600-1023"}, "32768\t60999\n", OK, "leave from ports 61000-65535, 1024-16383, 600-1023, of which programs of the host hold 3"},
		{[]string{"40000-49999"}, "32768\t60999\n", Warn, "40000-49999, of which programs of the host hold 0; the host takes"},
		{[]string{"53"}, "1024\t65535\n", OK, "hold 1"},
		{[]string{"61000-65535"}, "nonsense", Note, "is no range"},
	} {
		x := exam{Config: Config{Daemon: &Daemon{Info: api.Info{PID: os.Getpid(), MasqueradePorts: tc.ranges}}}}
		x.sharedPorts(tc.local, sockets)
		if got := last(&x); got.Status != tc.want || !strings.Contains(got.Message, tc.says) || got.Status == Warn && got.Fix == "" {
			t.Errorf("%v in %q: %+v, want %s: %s", tc.ranges, tc.local, got, tc.want, tc.says)
		}
	}
	x := exam{Config: Config{Daemon: &Daemon{}}}
	x.binds()
	x.Daemon.Info.NoBindHooks = "no cgroup2 is mounted"
	x.binds()
	if len(x.list) != 2 || x.list[0].Status != OK || x.list[1].Status != Note || !strings.Contains(x.list[1].Message, "within a second: no cgroup2") {
		t.Errorf("%+v", x.list)
	}
	x = exam{Config: Config{Daemon: &Daemon{}}}
	x.localhost()
	x.Daemon.Info.NoConnectHooks = "no cgroup2 is mounted"
	x.localhost()
	if len(x.list) != 2 || x.list[0].Status != OK || x.list[1].Status != Note || !strings.Contains(x.list[1].Message, "by the relay, which is slower: no cgroup2") {
		t.Errorf("%+v", x.list)
	}
}
