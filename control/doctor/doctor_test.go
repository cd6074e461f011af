package doctor

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/control/host"
	"github.com/vswitch/vswitch/internal/netlab/labtest"
)

func TestMain(m *testing.M) { labtest.Main(m) }

func last(x *exam) Check { return x.list[len(x.list)-1] }

func TestKernelRelease(t *testing.T) {
	for release, want := range map[string]Status{
		"4.19.0-26-amd64": Fail, "5.4.0": Fail, "5.9.16": Fail, "5.10.0-33-amd64": OK, "5.15.0": OK, "6.1": OK, "6.18.44-rc1": OK, "10.0": OK, "x": Note,
	} {
		var x exam
		x.kernelRelease(release)
		if got := last(&x); got.Status != want || want == Fail && got.Fix == "" {
			t.Errorf("%s: %+v, want %s", release, got, want)
		}
	}
}

func TestCapabilities(t *testing.T) {
	for caps, want := range map[uint64]string{
		0:                             "CAP_NET_ADMIN CAP_NET_RAW CAP_SYS_ADMIN CAP_BPF",
		1<<12 | 1<<13 | 1<<21:         "",
		1<<12 | 1<<13 | 1<<39:         "CAP_SYS_ADMIN",
		1 << 21:                       "CAP_NET_ADMIN CAP_NET_RAW",
		1<<12 | 1<<13 | 1<<21 | 1<<39: "",
		^uint64(0):                    "",
		^uint64(0) &^ (1 << 13):       "CAP_NET_RAW",
	} {
		var x exam
		x.capabilities(caps)
		var missing []string
		for _, c := range x.list {
			if c.Status == Fail {
				name, _, _ := strings.Cut(c.Message, " ")
				missing = append(missing, name)
			}
		}
		if got := strings.Join(missing, " "); got != want {
			t.Errorf("%x: %q is missing, want %q", caps, got, want)
		}
	}
}

// Doctor says who looks where a checksum is written, with a flow table and without.
func TestChecksums(t *testing.T) {
	for carries, want := range map[bool]string{true: "is proved in flows of every container", false: "the daemon itself finishes"} {
		x := &exam{carries: carries}
		x.checksums()
		if len(x.list) != 1 || x.list[0].Status != OK || !strings.Contains(x.list[0].Message, want) {
			t.Errorf("flow table %v: %+v", carries, x.list)
		}
	}
}

func TestDaemonCheck(t *testing.T) {
	for _, c := range []struct {
		cfg  Config
		want Status
	}{
		{Config{}, Warn},
		{Config{DaemonErr: errors.New("permission denied")}, Fail},
		{Config{Version: "2", Daemon: &Daemon{Info: api.Info{Version: "2"}}}, OK},
		{Config{Version: "3", Daemon: &Daemon{Info: api.Info{Version: "2"}}}, Warn},
	} {
		x := exam{Config: c.cfg}
		if x.daemon(); last(&x).Status != c.want {
			t.Errorf("%+v, want %s", last(&x), c.want)
		}
	}
}

// Who forgot to name the daemon's socket, or may not open it, is not told to remove what
// that daemon works with.
func TestLinksOfADaemonThatWasNotAsked(t *testing.T) {
	tap := func(carrier bool) host.Link {
		return host.Link{Name: "vs-1", Alias: "vswitch:one:net", Kind: "tun", Carrier: carrier}
	}
	cable := host.Link{Name: "veth1", Alias: "vswitch:one:web", Kind: "veth", Carrier: true}
	for _, tc := range []struct {
		links  []host.Link
		status Status
		daemon string
	}{
		{[]host.Link{tap(true), cable}, Note, "runs here"},
		{[]host.Link{tap(false), cable}, Warn, "no daemon"},
		{[]host.Link{cable}, Warn, "no daemon"},
	} {
		x := exam{links: tc.links}
		if x.daemon(); !strings.Contains(last(&x).Message, tc.daemon) {
			t.Errorf("%+v: %+v, want %s", tc.links, last(&x), tc.daemon)
		}
		x.list = nil
		x.leftovers()
		for _, c := range x.list {
			if c.Status != tc.status || (c.Fix == "") != (tc.status == Note) {
				t.Errorf("%+v: %+v, want %s", tc.links, c, tc.status)
			}
		}
		if len(x.list) != len(tc.links) {
			t.Errorf("%d lines of %d links", len(x.list), len(tc.links))
		}
	}
}

func TestCaptureRing(t *testing.T) {
	for of, want := range map[string]Status{"": OK, "all": Note, "web,all": Note, "web,network:all-of-it": OK} {
		x := exam{Config: Config{Daemon: &Daemon{Info: api.Info{CaptureRing: of}}}}
		if x.ring(); last(&x).Status != want {
			t.Errorf("%q: %+v, want %s", of, last(&x), want)
		}
	}
}

func TestOpenFiles(t *testing.T) {
	path := filepath.Join(t.TempDir(), "limits")
	for soft, want := range map[string]Status{"1024": Warn, "4096": Note, "49151": Note, "49152": "", "524288": "", "unlimited": ""} {
		text := "Limit                     Soft Limit           Hard Limit           Units     \nMax open files            " + soft + "                 1048576              files     \n"
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		var x exam
		if x.files(path); (len(x.list) == 1) != (want != "") || want != "" && last(&x).Status != want {
			t.Errorf("%s: %+v, want %q", soft, x.list, want)
		}
	}
}

func TestOverlaps(t *testing.T) {
	for list, want := range map[string]bool{
		"": false, "\n": false, "80\n": false, "20000": true, "19000-19999,20101": false, "1,20100-20200": true, "1-65535": true, "20050": true, "x,20001": true,
	} {
		if got := overlaps(list, 20000, 20100); got != want {
			t.Errorf("%q: %v, want %v", list, got, want)
		}
	}
}

// A disk that is nearly full.
func TestFullDisk(t *testing.T) {
	labtest.Need(t)
	dir := t.TempDir()
	mountSmall(t, dir)
	x := exam{Config: Config{StateDir: dir}}
	if x.limits(); last(&x).Status != Fail || !strings.Contains(last(&x).Message, "KiB are free") {
		t.Errorf("%+v", x.list)
	}
	x = exam{Config: Config{StateDir: dir + "/nowhere"}}
	if x.limits(); last(&x).Status != OK {
		t.Errorf("before the first start: %+v", x.list)
	}
}

// mountSmall mounts a file system of 64 KiB.
func mountSmall(t *testing.T, dir string) {
	t.Helper()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=64k"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
}

// A way out that a container has chosen and that is away is told of.
func TestEgressCheck(t *testing.T) {
	x := exam{Config: Config{Daemon: &Daemon{Containers: []api.Container{
		{Name: "web", Endpoints: []api.Endpoint{{Interface: "eth0"}, {Interface: "eth1", Egress: "dev=wg0"}}},
	}}}}
	if x.egress(); last(&x).Status != OK {
		t.Errorf("nothing is away: %+v", last(&x))
	}
	x.Daemon.Containers[0].Endpoints[1].EgressAway = "interface wg0 is down"
	if x.egress(); last(&x).Status != Warn || !strings.Contains(last(&x).Message, "container web by eth1, its own way out dev=wg0: interface wg0 is down") {
		t.Errorf("away: %+v", last(&x))
	}
}
