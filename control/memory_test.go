package control

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/internal/netlab"
	"github.com/vswitch/vswitch/internal/netlab/labtest"
)

// confine bounds the memory that a process has from now on, and tells how often that has
// killed one. The group of the processes ends with the test.
func confine(t *testing.T, pid int, bytes int64) (killed func() int) {
	t.Helper()
	own, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		t.Fatal(err)
	}
	dir, limit, events := "/sys/fs/cgroup", "memory.max", "memory.events"
	for line := range strings.Lines(string(own)) {
		if f := strings.SplitN(strings.TrimSpace(line), ":", 3); f[1] == "memory" {
			dir, limit, events = filepath.Join("/sys/fs/cgroup/memory", f[2]), "memory.limit_in_bytes", "memory.oom_control"
		}
	}
	parent := dir
	dir = filepath.Join(dir, fmt.Sprintf("vswitch-test-%d", pid))
	if err := os.Mkdir(dir, 0o755); err != nil {
		labtest.Skip(t, "no group of processes can be made: "+err.Error())
	}
	t.Cleanup(func() {
		// A process that has not ended goes back.
		list, _ := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
		for _, pid := range strings.Fields(string(list)) {
			os.WriteFile(filepath.Join(parent, "cgroup.procs"), []byte(pid), 0)
		}
		if err := os.Remove(dir); err != nil {
			t.Error(err)
		}
	})
	if err := errors.Join(os.WriteFile(filepath.Join(dir, limit), []byte(strconv.FormatInt(bytes, 10)), 0),
		os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte(strconv.Itoa(pid)), 0)); err != nil {
		labtest.Skip(t, "memory cannot be bounded: "+err.Error())
	}
	return func() (n int) {
		b, err := os.ReadFile(filepath.Join(dir, events))
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(b)) {
			fmt.Sscanf(line, "oom_kill %d", &n)
		}
		return n
	}
}

// resident is the memory that the daemon has, in bytes.
func (r *rig) resident() (n int64) {
	r.t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", r.cmd.Process.Pid))
	if err != nil {
		r.t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		fmt.Sscanf(line, "VmRSS: %d kB", &n)
	}
	return n << 10
}

// TestF07FloodOfFlows: in 256 MiB of memory the daemon is sent a flow more than its table
// holds, each from another port of the outside. It lives, what was there goes on, and
// others begin connections.
func TestF07FloodOfFlows(t *testing.T) {
	if labtest.UnderRace {
		labtest.Racing.Skip(t, "its daemon needs many times the memory")
	}
	r := newRig(t)
	r.start()
	all := r.ways("tcp")
	goOn(t, all)
	sink, _ := r.attach("sink", api.Attach{Publish: []string{"9000:9000/udp"}})
	echoUDP(t, sink, ":9000")
	killed := confine(t, r.cmd.Process.Pid, 256<<20-r.resident())
	out := r.world.Outside
	const flows, senders = 262144 + 20000, 8
	for i := range senders {
		if err := out.AddAddr("eth0", fmt.Sprintf("198.51.100.%d/24", 100+i)); err != nil {
			t.Fatal(err)
		}
	}
	to := &net.UDPAddr{IP: net.ParseIP(netlab.HostAddr), Port: 9000}
	flood := func() error {
		for n := range flows {
			c, err := net.DialUDP("udp4", &net.UDPAddr{IP: net.IPv4(198, 51, 100, byte(100+n%senders)), Port: 8000 + n/senders}, to)
			if err != nil {
				return err
			}
			c.Write(make([]byte, 100)) // an ICMP error is no news
			c.Close()
		}
		return nil
	}
	for range 10 { // a busy machine loses many of them
		if err := out.Do(flood); err != nil {
			t.Fatal(err)
		}
		goOn(t, all)
		if r.stats().Connections >= 200_000 {
			break
		}
	}
	endAll(t, all)
	c, err := out.Dial("tcp", netlab.HostAddr+":7080", 30*time.Second)
	if err != nil {
		t.Errorf("a connection after it: %v", err)
	} else {
		c.Close()
	}
	n := r.stats().Connections
	t.Logf("%d flows, %d MiB", n, r.resident()>>20)
	if n < 200_000 {
		t.Errorf("%d flows are tracked: the test shows nothing", n)
	}
	if n := killed(); n != 0 {
		t.Errorf("%d processes were killed for their memory", n)
	}
}
