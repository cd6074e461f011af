package control

import (
	"testing"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/internal/netlab"
	"github.com/vswitch/vswitch/internal/netlab/labtest"
)

// A change takes from the kernel's side the flows that it concerns, and no other.
func TestCarriedBesideUnrelatedChanges(t *testing.T) {
	r := newRig(t)
	r.start()
	ctx := t.Context()
	if _, err := r.CreateNetwork(ctx, api.NetworkCreate{Name: "other"}); err != nil {
		t.Fatal(err)
	}
	a, _ := r.attach("a", api.Attach{})
	b, bct := r.attach("b", api.Attach{})
	d, _ := r.attach("d", api.Attach{})
	c := labtest.New(t, "c")
	bridged := streamed(t, a, addr(bct)+":5353", listen(t, b, ":5353"))
	// One after the other: two that both come to the switch may share a counter of frames.
	eventually(t, "the kernel carries the first stream", func() bool { return r.stats().Flows.Active == 1 })
	masqueraded := streamed(t, a, netlab.OutsideAddr+":5353", listen(t, r.world.Outside, ":5353"))
	eventually(t, "the kernel carries both streams", func() bool { return r.stats().Flows.Active == 2 })

	attach := func(in api.Attach) func() error {
		in.Name, in.Netns = "c", c.Path()
		return func() error { _, err := r.Attach(ctx, in); return err }
	}
	detach := func() error { return r.Detach(ctx, "c") }
	update := func(name string, in api.NetworkUpdate) func() error {
		return func() error { _, err := r.UpdateNetwork(ctx, name, in); return err }
	}
	publish := func(name, port string) (do, undo func() error) {
		return func() error { _, err := r.Publish(ctx, name, []string{port}); return err },
			func() error { return r.Unpublish(ctx, name, []string{port}) }
	}
	host := r.world.Host
	type change struct {
		what     string
		do, undo func() error
	}
	changes := []change{
		{"a container of the same network comes and goes", attach(api.Attach{}), detach},
		{"one of another network, with a port", attach(api.Attach{Publish: []string{"9100:80"}, Networks: []api.Connect{{Network: "other"}}}), detach},
		{
			"an address of the uplink",
			func() error { return host.AddAddr("eth0", "203.0.113.5/32") },
			func() error { return host.DelAddr("eth0", "203.0.113.5/32") },
		},
		{
			"a route",
			func() error { return host.AddRoute("192.0.2.0/24", netlab.OutsideAddr, "eth0") },
			func() error { return host.DelRoute("192.0.2.0/24", netlab.OutsideAddr, "eth0") },
		},
		{
			"a neighbour",
			func() error { return host.AddNeighbor("eth0", "198.51.100.77", "02:00:00:00:00:77") },
			func() error { return host.DelNeighbor("eth0", "198.51.100.77") },
		},
		{
			"a network",
			func() error { _, err := r.CreateNetwork(ctx, api.NetworkCreate{Name: "new"}); return err },
			func() error { return r.RemoveNetwork(ctx, "new") },
		},
		{"what another network allows", update("other", api.NetworkUpdate{ICC: no(), HostAccess: no()}), update("other", api.NetworkUpdate{ICC: yes(), HostAccess: yes()})},
		{
			"a further network of the sender",
			func() error { _, err := r.Connect(ctx, "a", api.Connect{Network: "other"}); return err },
			func() error { return r.Disconnect(ctx, "a", "other") },
		},
		{
			"a container's name",
			func() error { _, err := r.UpdateContainer(ctx, "d", api.ContainerUpdate{Name: "e"}); return err },
			func() error { _, err := r.UpdateContainer(ctx, "e", api.ContainerUpdate{Name: "d"}); return err },
		},
		{"a link of another container", func() error { return d.SetDown("eth0") }, func() error { return d.SetUp("eth0") }},
		{"a capture of another container", func() error { r.captured("d", func() { bridged.passes(50) }); return nil }, nil},
		{"nat flush of another container", func() error { _, err := r.FlushNAT(ctx, api.NATFlush{Container: "d"}); return err }, nil},
	}
	for _, port := range []struct{ what, of, rule string }{
		{"a port of another container", "d", "9000:9000"},
		{"another port of the receiver", "b", "9001:9001/udp"},
	} {
		do, undo := publish(port.of, port.rule)
		changes = append(changes, change{port.what, do, undo})
	}
	for _, c := range changes {
		t.Run(c.what, func(t *testing.T) {
			before := r.stats()
			for i := range 4 {
				do := c.do
				if i%2 == 1 && c.undo != nil {
					do = c.undo
				}
				if err := do(); err != nil {
					t.Fatal(err)
				}
				bridged.passes(100)
				masqueraded.passes(100)
			}
			after := r.stats()
			carried, came := after.Flows.Frames-before.Flows.Frames, received(after, "a")-received(before, "a")
			if came < 750 || carried*100 < came*95 {
				t.Errorf("the kernel carried %d of %d frames, want 95 %%", carried, came)
			}
		})
	}
}

// received is how many frames came in by a container's ports.
func received(st api.Stats, container string) (frames uint64) {
	for _, p := range st.Ports {
		if p.Container == container {
			frames += p.RxFrames
		}
	}
	return frames
}

// When a change that forbids a flow has returned, no further frame of it passes.
func TestForbiddenFlowEndsWithTheCall(t *testing.T) {
	r := newRig(t)
	r.start()
	ctx := t.Context()
	a, _ := r.attach("a", api.Attach{})
	b, bct := r.attach("b", api.Attach{Publish: []string{"5354:5354/udp"}})
	update := func(in api.NetworkUpdate) func() error {
		return func() error { _, err := r.UpdateNetwork(ctx, "bridge", in); return err }
	}
	ports := []string{"5354:5354/udp"}
	for _, flow := range []struct {
		what          string
		from, at      *netlab.NS
		to, port      string
		forbid, allow func() error
	}{
		{
			"isolation", a, b, addr(bct), ":5353",
			update(api.NetworkUpdate{ICC: no()}), update(api.NetworkUpdate{ICC: yes()}),
		},
		{
			"host access", a, r.world.Host, "10.88.0.1", ":5355",
			update(api.NetworkUpdate{HostAccess: no()}), update(api.NetworkUpdate{HostAccess: yes()}),
		},
		{
			"port withdrawn", r.world.Outside, b, netlab.HostAddr, ":5354",
			func() error { return r.Unpublish(ctx, "b", ports) },
			func() error { _, err := r.Publish(ctx, "b", ports); return err },
		},
	} {
		t.Run(flow.what, func(t *testing.T) {
			s := streamed(t, flow.from, flow.to+flow.port, listen(t, flow.at, flow.port))
			for range 4 {
				r.carries(t)
				if err := flow.forbid(); err != nil {
					t.Fatal(err)
				}
				mark := s.sent.Load()
				s.passes(300)
				if n := s.after(mark); n > 0 {
					t.Errorf("%d datagrams passed that were sent after it", n)
				}
				if err := flow.allow(); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

// When nat flush has returned, every further frame of a flow belongs to a new one.
func TestFlushedFlowBeginsAnew(t *testing.T) {
	r := newRig(t)
	r.start()
	a, _ := r.attach("a", api.Attach{})
	s := streamed(t, a, netlab.OutsideAddr+":5353", listen(t, r.world.Outside, ":5353"))
	for range 4 {
		r.carries(t)
		if _, err := r.FlushNAT(t.Context(), api.NATFlush{Container: "a"}); err != nil {
			t.Fatal(err)
		}
		mark := s.sent.Load()
		s.passes(300)
		arrived := s.after(mark) // before it is asked what the new one has seen
		r.stats()                // reads the counters of the kernel's side
		nat, err := r.NAT(t.Context(), api.NATQuery{})
		if err != nil || len(nat) != 1 || nat[0].Packets < arrived {
			t.Errorf("%d datagrams arrived since, of the flow: %+v, %v", arrived, nat, err)
		}
	}
}

// carries waits until the kernel carries what is being sent.
func (r *rig) carries(t *testing.T) {
	t.Helper()
	before := r.stats().Flows.Frames
	eventually(t, "the kernel carries the stream", func() bool { return r.stats().Flows.Frames >= before+100 })
}
