package observe

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/vswitch/vswitch/control/directory"
	"github.com/vswitch/vswitch/control/server"
	"github.com/vswitch/vswitch/dataplane"
	"github.com/vswitch/vswitch/dataplane/frame"
	"github.com/vswitch/vswitch/dataplane/switchtest"
)

// The recorder runs for as long as the daemon: what it remembers of ten thousand
// containers that are gone is bounded by the numbers of ports, and what they were called
// can still be read.
func TestRecorderForgets(t *testing.T) {
	c := &Observer{sw: switchtest.New(t).Switch, dir: new(directory.Live)}
	if err := c.startRecorder(1<<18, []string{"all"}); err != nil {
		t.Fatal(err)
	}
	const last = dataplane.MaxPorts - 1
	for i := range 10_000 {
		id, at := fmt.Sprint("id", i), netip.AddrFrom4([4]byte{10, 88, byte(i >> 8), byte(i)})
		c.dir.PutContainer(directory.Container{ID: id, Name: fmt.Sprint("c", i), Ready: true, Endpoints: []directory.Endpoint{{
			Network: "bridge", Ifname: "eth0", Veth: "veth" + id, Addrs: []netip.Addr{at}, Port: frame.PortID(1 + i%last), Plugged: true,
		}}})
		c.dir.DropContainer(id)
	}
	r, names := c.recorder, c.dir.Now()
	if len(r.ever) > last || len(r.seen.ports) > 0 || len(names.Ports(true)) > last || len(names.Ports(false)) > 0 {
		t.Errorf("%d ports are remembered, %d in sight; the directory has %d and of now %d", len(r.ever), len(r.seen.ports), len(names.Ports(true)), len(names.Ports(false)))
	}
	cap, err := c.Capture(t.Context(), server.CaptureConfig{Targets: []string{"c9999"}, Last: 1, Wait: true})
	if err != nil {
		t.Fatal(err)
	}
	defer cap.Close()
	if got := cap.Interfaces()[0].Name; got != "c9999/eth0 (bridge) rx" {
		t.Errorf("the last container that went is called %q", got)
	}
	if _, err := c.Capture(t.Context(), server.CaptureConfig{Targets: []string{"c0"}, Last: 1, Wait: true}); err == nil {
		t.Error("a port is known by its first container: its number is another's by now")
	}
}

// The recorder of some containers goes on with one that is renamed, and leaves others out.
func TestRecorderOfOne(t *testing.T) {
	c := &Observer{sw: switchtest.New(t).Switch, dir: new(directory.Live)}
	if err := c.startRecorder(1<<18, []string{"web"}); err != nil {
		t.Fatal(err)
	}
	put := func(id, name string, port frame.PortID) {
		c.dir.PutContainer(directory.Container{ID: id, Name: name, Ready: true, Endpoints: []directory.Endpoint{{
			Network: "bridge", Ifname: "eth0", Veth: "veth" + id, Port: port, Plugged: true,
		}}})
	}
	recalls := func(name string, want bool) {
		t.Helper()
		if _, err := c.Capture(t.Context(), server.CaptureConfig{Targets: []string{name}, Last: 1, Wait: true}); (err == nil) != want {
			t.Errorf("frames of %s: %v, want them %v", name, err, want)
		}
	}
	put("1", "web", 11)
	put("2", "other", 12)
	recalls("web", true)
	recalls("other", false)
	put("1", "db", 11)
	recalls("db", true)
	c.dir.DropContainer("1")
	recalls("db", true)
	put("3", "new", 11)
	recalls("new", false)
}

// What comes into sight by a network stays apart from what comes by a container's name.
func TestSight(t *testing.T) {
	var dir directory.Live
	port := func(net string, id frame.PortID) directory.Endpoint {
		return directory.Endpoint{Network: net, Ifname: "eth0", Port: id, Plugged: true}
	}
	put := func(id, name string, eps ...directory.Endpoint) {
		dir.PutContainer(directory.Container{ID: id, Name: name, Endpoints: eps})
	}
	targets, err := targetsOf([]string{"network:blue", "web"})
	if err != nil {
		t.Fatal(err)
	}
	s := sight{targets: targets}
	defer dir.Follow(func(d *directory.Directory, changed []frame.PortID) { s.update(d, changed) })()
	want := func(when, ports string) {
		t.Helper()
		if got := fmt.Sprint(s.list()); got != ports {
			t.Errorf("%s: ports %s are in sight, want %s", when, got, ports)
		}
	}
	put("1", "web", port("bridge", 1))
	put("2", "other", port("blue", 2), port("bridge", 3))
	want("at first", "[1 2]")
	put("1", "db", port("bridge", 1))
	want("renamed", "[1 2]")
	put("1", "db", port("bridge", 1), port("red", 4))
	want("connected under its new name", "[1 2 4]")
	put("3", "web", port("bridge", 5))
	want("with another of the old name", "[1 2 4 5]")
	put("2", "other", port("bridge", 3))
	want("disconnected", "[1 4 5]")
	dir.DropContainer("1")
	want("after it went", "[5]")
	put("4", "next", port("bridge", 1))
	want("with its number given on", "[5]")
}
