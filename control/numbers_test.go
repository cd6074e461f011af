package control

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/control/edge/linux"
	"github.com/vswitch/vswitch/control/host"
	"github.com/vswitch/vswitch/control/inventory"
	"github.com/vswitch/vswitch/control/model"
	"github.com/vswitch/vswitch/control/state"
	"github.com/vswitch/vswitch/dataplane"
	"github.com/vswitch/vswitch/dataplane/flowmap"
	"github.com/vswitch/vswitch/dataplane/frame"
	"github.com/vswitch/vswitch/dataplane/port/porttest"
	"github.com/vswitch/vswitch/internal/netlab"
	"github.com/vswitch/vswitch/internal/netlab/labtest"
)

// numbersIn are the numbers in a state file, by what has them.
func numbersIn(t *testing.T, dir string) map[string]int {
	t.Helper()
	c, err := state.Peek(dir)
	if err != nil {
		t.Fatal(err)
	}
	all := make(map[string]int)
	for _, n := range c.Networks {
		all["network "+n.Name] = n.Number
		all["port of network "+n.Name] = n.PortNumber
	}
	for _, ct := range c.Containers {
		for _, e := range ct.Endpoints {
			all["port of "+ct.Name+" "+e.Ifname] = e.PortNumber
		}
	}
	for _, u := range c.Numbers.Uplinks {
		all["port of uplink "+u.Name] = u.PortNumber
	}
	for _, a := range c.Numbers.Slots {
		all["slot of "+a.Addr.String()] = a.Number
	}
	return all
}

// wantApart checks that each has a number that no other of its kind has.
func wantApart(t *testing.T, all map[string]int) {
	t.Helper()
	owners := make(map[string]string)
	for what, n := range all {
		kind, _, _ := strings.Cut(what, " ")
		most := map[string]int{"port": dataplane.MaxPorts - 1, "network": inventory.LastNetwork, "slot": (flowmap.WildcardSlot6 - 1)}[kind]
		if n < 1 || n > most {
			t.Errorf("%s is %d", what, n)
		}
		k := fmt.Sprint(kind, n)
		if o := owners[k]; o != "" {
			t.Errorf("%s and %s are both %d", o, what, n)
		}
		owners[k] = what
	}
}

// edit edits a state file whose daemon has ended.
func edit(t *testing.T, dir string, edit func(*state.Contents)) {
	t.Helper()
	s, c, err := state.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	edit(&c)
	for _, n := range c.Networks {
		err = errors.Join(err, s.PutNetwork(n, &c.Latest))
	}
	for _, ct := range c.Containers {
		err = errors.Join(err, s.PutContainer(ct, nil, nil))
	}
	if err := errors.Join(err, s.PutNumbers(c.Numbers), s.Close()); err != nil {
		t.Fatal(err)
	}
}

// TestNumbersStay: what outlives a daemon keeps its numbers, whatever they are and in
// which order the next one begins.
func TestNumbersStay(t *testing.T) {
	r := newRig(t)
	worldIsUp(t, r)
	r.start()
	ctx := t.Context()
	if _, err := r.CreateNetwork(ctx, api.NetworkCreate{Name: "blue", Subnet: "10.7.0.0/24"}); err != nil {
		t.Fatal(err)
	}
	web, _ := r.attach("web", api.Attach{Publish: []string{"8080:80", "127.0.0.1:9090:80"}, Networks: []api.Connect{{Network: "blue"}, {Network: "bridge"}}})
	r.attach("db", api.Attach{})
	serve(t, web, ":80", "web")
	works := func() {
		t.Helper()
		wantFetch(t, r.world.Outside, join(netlab.HostAddr, "8080"), "web", netlab.OutsideAddr)
		wantFetch(t, web, join(netlab.FarAddr, "9999"), "outside", netlab.HostAddr)
	}
	r.kill()
	was := numbersIn(t, r.cfg.StateDir)
	wantApart(t, was)
	for _, what := range []string{
		"network blue", "port of network bridge", "port of web eth1", "port of db eth0", "port of uplink eth0",
		"slot of " + netlab.HostAddr, "slot of 127.0.0.1",
	} {
		if was[what] == 0 {
			t.Errorf("%s has no number in %v", what, was)
		}
	}
	again := func(what string) (now map[string]int) {
		t.Helper()
		r.start()
		works()
		_, err := r.Container(ctx, "db")
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		r.kill()
		now = numbersIn(t, r.cfg.StateDir)
		wantApart(t, now)
		return now
	}
	if d := cmp.Diff(was, again("after a kill")); d != "" {
		t.Errorf("after a kill (-was +now):\n%s", d)
	}

	edit(t, r.cfg.StateDir, func(c *state.Contents) {
		for i := range c.Networks {
			c.Networks[i].Number, c.Networks[i].PortNumber = 1000-i, 2000-i
		}
		for i, ct := range c.Containers {
			for j := range ct.Endpoints {
				ct.Endpoints[j].PortNumber = 3000 - 10*i - j
			}
		}
		for i := range c.Numbers.Uplinks {
			c.Numbers.Uplinks[i].PortNumber = dataplane.MaxPorts - 1 - i
		}
		for i := range c.Numbers.Slots {
			c.Numbers.Slots[i].Number = (flowmap.WildcardSlot6 - 1) - i
		}
		c.Latest = state.Latest{Network: 500, Port: 600}
	})
	was = numbersIn(t, r.cfg.StateDir)
	if d := cmp.Diff(was, again("with other numbers")); d != "" {
		t.Errorf("with other numbers (-was +now):\n%s", d)
	}
	r.start()
	r.attach("fresh", api.Attach{})
	r.kill()
	if n := numbersIn(t, r.cfg.StateDir)["port of fresh eth0"]; n != 601 {
		t.Errorf("the port after 600 is %d, want 601", n)
	}

	// Damaged: out of range, and the same twice.
	edit(t, r.cfg.StateDir, func(c *state.Contents) {
		for i := range c.Networks {
			c.Networks[i].Number, c.Networks[i].PortNumber = 7, 1<<40
		}
		for _, ct := range c.Containers {
			ct.Endpoints[0].PortNumber = 9
		}
		for i := range c.Numbers.Uplinks {
			c.Numbers.Uplinks[i].PortNumber = -1
		}
		for i := range c.Numbers.Slots {
			c.Numbers.Slots[i].Number = 5
		}
		c.Numbers.Slots = append(c.Numbers.Slots, state.SlotNumber{Number: 6})
		c.Latest = state.Latest{Network: -3, Port: 1 << 20}
	})
	was = again("damaged")
	if !strings.Contains(r.log.String(), "out of range or given twice") {
		t.Error("the log does not say that numbers were wrong")
	}
	if d := cmp.Diff(was, again("mended")); d != "" {
		t.Errorf("mended (-was +now):\n%s", d)
	}

	// As written before there were numbers.
	edit(t, r.cfg.StateDir, func(c *state.Contents) {
		for i := range c.Networks {
			c.Networks[i].Number, c.Networks[i].PortNumber = 0, 0
		}
		for _, ct := range c.Containers {
			for j := range ct.Endpoints {
				ct.Endpoints[j].PortNumber = 0
			}
		}
		c.Numbers, c.Latest = state.Numbers{}, state.Latest{}
	})
	was = again("without numbers")
	if strings.Contains(r.log.String(), "given twice") {
		t.Error("the log speaks of numbers that were not there")
	}
	if d := cmp.Diff(was, again("with numbers")); d != "" {
		t.Errorf("with numbers (-was +now):\n%s", d)
	}
}

// TestNumbersAreUsed: the switch, its snapshot and the kernel have the numbers that the
// state has.
func TestNumbersAreUsed(t *testing.T) {
	c := inProcess(t)
	ctx := t.Context()
	ns := labtest.New(t, "web")
	if _, err := c.Attach(ctx, api.Attach{Name: "web", Netns: ns.Path(), Publish: []string{"127.0.0.1:8080:80"}}); err != nil {
		t.Fatal(err)
	}
	all := numbersIn(t, copied(t, c))
	inSwitch := func(id int) bool {
		return slices.ContainsFunc(c.sw.Stats().Ports, func(p dataplane.PortStats) bool { return int(p.ID) == id })
	}
	inSnapshot := func(id, ifindex int) bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		cfg, _ := c.compileLocked()
		return slices.ContainsFunc(cfg.Ports, func(p dataplane.PortConfig) bool { return int(p.ID) == id && int(p.Ifindex) == ifindex })
	}
	c.mu.Lock()
	e, n := c.inv.Containers["web"].Endpoints[0], c.inv.Networks[model.DefaultNetwork]
	cfg, _ := c.compileLocked()
	c.mu.Unlock()
	if id := all["port of web eth0"]; id == 0 || !inSwitch(id) || !inSnapshot(id, e.Index) {
		t.Errorf("port of web: %d in the state, not in the switch", id)
	} else if _, err := c.edge.(*linux.Edge).AddFlowPort(e.Index, id); err != nil {
		t.Errorf("tally of web: %v", err)
	}
	if id := all["port of network bridge"]; id == 0 || !inSwitch(id) || !inSnapshot(id, n.TAPIndex) {
		t.Errorf("port of the network: %d in the state, not in the switch", id)
	}
	if id := all["network bridge"]; id == 0 || int(cfg.Networks[0].ID) != id {
		t.Errorf("network: %d in the state, %d in the snapshot", id, cfg.Networks[0].ID)
	}
	if slot := all["slot of 127.0.0.1"]; slot == 0 || c.edge.ClaimSlot(netip.MustParseAddr("127.0.0.1"), slot) != nil || !c.edge.Published().Test(slot, 6, 8080) {
		t.Errorf("slot of 127.0.0.1: %d", slot)
	}
	if err := c.Detach(ctx, "web"); err != nil {
		t.Fatal(err)
	}
}

// TestPortInUse: nothing is left of a port that the switch does not take.
func TestPortInUse(t *testing.T) {
	log := new(logBuffer)
	c := inProcessIn(t, t.TempDir(), slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelError})))
	ns := labtest.New(t, "web")
	lo, err := net.InterfaceByName("lo")
	if err != nil {
		t.Fatal(err)
	}
	for what, open := range map[string]func() error{
		"container": func() error {
			_, err := c.Attach(t.Context(), api.Attach{Name: "web", Netns: ns.Path()})
			return err
		},
		"uplink": func() error {
			_, err := uplinkPorts{c}.Open(host.Link{Index: lo.Index, Name: lo.Name, Ethernet: true})
			return err
		},
	} {
		c.mu.Lock()
		next := frame.PortID(c.inv.Numbers.Ports.Latest() + 1)
		c.mu.Unlock()
		if err := c.sw.AddPort(next, porttest.Describe(porttest.New("other"))); err != nil {
			t.Fatal(err)
		}
		before := settled(func() map[string]string { return facts(t, c) })
		if err := open(); err == nil || !strings.Contains(err.Error(), "in use") {
			t.Errorf("%s: %v, want that the port is in use", what, err)
		}
		if d := changed(before, func() map[string]string { return facts(t, c) }); d != "" {
			t.Errorf("%s left something (-before +after):\n%s", what, d)
		}
		const another = 1 << 20
		if _, err := c.edge.(*linux.Edge).AddFlowPort(another, int(next)); err != nil {
			t.Errorf("%s left its tally: %v", what, err)
		}
		c.edge.(*linux.Edge).RemoveFlowPort(another)
		if err := c.sw.RemovePort(next); err != nil {
			t.Error(err)
		}
	}
}

// An uplink that is away keeps its number, but not for ever, and a device that takes
// over another's name takes a number of its own.
func TestNumbersOfUplinks(t *testing.T) {
	c := &Controller{byPort: make(map[frame.PortID]portOwner)}
	c.inv = inventory.New(&c.dir)
	ports := uplinkPorts{c}
	open := func(name string) frame.PortID {
		n, ok := c.inv.Numbers.Ports.Take(inventory.OfUplink(name))
		if !ok {
			t.Fatal("no number")
		}
		id := frame.PortID(n)
		if _, used := c.byPort[id]; used {
			t.Fatalf("%s has a port in use, %d", name, n)
		}
		c.byPort[id] = portOwner{uplink: true}
		return id
	}
	shut := func(id frame.PortID) {
		delete(c.byPort, id)
		c.inv.Numbers.Ports.GiveBack(int(id))
		c.inv.Numbers.ForgetUplinks(func(id frame.PortID) bool { _, open := c.byPort[id]; return open })
	}
	a, b := open("eth0"), open("eth1")
	ports.Rename(a, "eth1")
	ports.Rename(b, "eth0")
	if got, want := c.inv.Numbers.Ports.List(), []model.KeyNumber[string]{{Key: "uplink eth1", Number: 1}, {Key: "uplink eth0", Number: 2}}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	ports.Forget(b)
	d := open("eth0") // b is still there
	shut(b)
	shut(d)
	if again := open("eth0"); again != d {
		t.Errorf("eth0 is back as %d, was %d", again, d)
	}
	for i := range 2 * inventory.KeptUplinks {
		shut(open(fmt.Sprint("ppp", i)))
	}
	list := c.inv.Numbers.Ports.List()
	if len(list) != inventory.KeptUplinks+2 || list[0].Key != fmt.Sprint("uplink ppp", inventory.KeptUplinks) {
		t.Errorf("%d are remembered, the first %s, want %d and the last of them", len(list), list[0].Key, inventory.KeptUplinks+2)
	}
}
