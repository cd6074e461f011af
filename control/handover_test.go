package control

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/control/client"
	"github.com/vswitch/vswitch/internal/netlab"
	"github.com/vswitch/vswitch/internal/netlab/labtest"
)

// handOver attaches a container whose end waits.
func (r *rig) handOver(name string, in api.Attach) api.Container {
	r.t.Helper()
	in.Name, in.Handover = name, true
	ct, err := r.Attach(r.t.Context(), in)
	if err != nil {
		r.t.Fatal(err)
	}
	return ct
}

// take does what Docker does with an end that waits.
func (r *rig) take(ct api.Container, ifname string) *netlab.NS {
	r.t.Helper()
	ns, e := labtest.New(r.t, ct.Name), ct.Endpoints[0]
	for _, err := range []error{
		r.world.Host.Move(e.Handover, ns, ifname), ns.AddAddr(ifname, e.Address), ns.SetUp(ifname),
		ns.AddRoute("default", e.Gateway, ifname),
	} {
		if err != nil {
			r.t.Fatal(err)
		}
	}
	return ns
}

func TestHandover(t *testing.T) {
	for _, how := range []string{"SIGTERM", "SIGKILL"} {
		t.Run(how, func(t *testing.T) {
			r := newRig(t)
			r.start()
			ctx := t.Context()
			if _, err := r.CreateNetwork(ctx, api.NetworkCreate{Name: "blue", Subnet: "10.7.0.0/24", MTU: 1400}); err != nil {
				t.Fatal(err)
			}
			in := api.Attach{Networks: []api.Connect{{Network: "blue", IP: "10.7.0.9", MAC: "02:00:00:00:07:09"}}, Publish: []string{"8080:80"}}
			ct := r.handOver("web", in)
			if again := r.handOver("web", in); again.ID != ct.ID {
				t.Errorf("asked again: %s, want %s", again.ID, ct.ID)
			}
			if e := ct.Endpoints[0]; !slices.Contains(r.hostLinks(), e.Handover) || e.Interface != e.Handover {
				t.Errorf("no end waits: %+v, links %v", e, r.hostLinks())
			}
			r.restart(how) // while it waits
			ns := r.take(ct, "net7")
			if mac, err := ns.MAC("net7"); err != nil || mac.String() != "02:00:00:00:07:09" {
				t.Errorf("MAC %s, %v", mac, err)
			}
			serve(t, ns, ":80", "web")
			serve(t, r.world.Outside, ":9000", "outside")
			check := func() {
				t.Helper()
				eventually(t, "the interface's name is known", func() bool {
					got, err := r.Container(ctx, "web")
					return err == nil && got.Endpoints[0].Interface == "net7"
				})
				wantFetch(t, r.world.Outside, netlab.HostAddr+":8080", "web", netlab.OutsideAddr)
				wantFetch(t, r.world.Host, "10.7.0.9:80", "web", "10.7.0.1")
				wantFetch(t, ns, netlab.FarAddr+":9000", "outside", netlab.HostAddr)
			}
			check()
			want, err := r.Container(ctx, "web")
			if err != nil {
				t.Fatal(err)
			}
			r.restart(how) // while it runs
			check()
			got, err := r.Container(ctx, "web")
			if d := cmp.Diff(want, got); err != nil || d != "" {
				t.Errorf("after the restart: %v (-want +got):\n%s", err, d)
			}

			// The guard holds the end to what it was given, whoever configured it.
			if err := ns.AddAddr("net7", "10.7.0.66/24"); err != nil {
				t.Fatal(err)
			}
			if c, err := ns.DialFrom("tcp", "10.7.0.66:0", "10.7.0.1:9", time.Second); err == nil {
				c.Close()
			} else if strings.Contains(err.Error(), "refused") {
				t.Error("an address that was not given gets an answer")
			}
			for _, err := range []error{
				func() error { _, err := r.Connect(ctx, "web", api.Connect{}); return err }(),
				r.Disconnect(ctx, "web", "blue"),
			} {
				if err == nil {
					t.Error("connected and disconnected behind the runtime's back")
				}
			}
			// The cable goes with its end, or with the namespace that the end is in,
			// and detaching what went is no error.
			if err := ns.DelLink("net7"); err != nil {
				t.Fatal(err)
			}
			if err := r.take(r.handOver("short", api.Attach{}), "eth0").Close(); err != nil {
				t.Fatal(err)
			}
			for _, name := range []string{"web", "short"} {
				eventually(t, name+" is released", func() bool {
					_, err := r.Container(ctx, name)
					return client.IsNotFound(err)
				})
				if err := r.Detach(ctx, name); err != nil {
					t.Error(err)
				}
			}
			// One that nobody ever takes goes with the cable.
			r.handOver("idle", api.Attach{})
			if err := r.Detach(ctx, "idle"); err != nil {
				t.Error(err)
			}
			r.stop()
			r.wantNoTrace()
		})
	}
}

func (r *rig) restart(how string) {
	r.t.Helper()
	if how == "SIGTERM" {
		r.stop()
	} else {
		r.kill()
	}
	r.start()
}

func TestHandoverRefused(t *testing.T) {
	r := newRig(t)
	r.start()
	for what, in := range map[string]api.Attach{
		"with a namespace": {Netns: "/proc/self/ns/net"},
		"with a process":   {PID: 1},
		"without a port":   {Mode: api.ModeNone, PID: 1},
		"interface name":   {Networks: []api.Connect{{Ifname: "eth7"}}},
	} {
		in.Name, in.Handover = "web", true
		if _, err := r.Attach(t.Context(), in); err == nil || !strings.Contains(err.Error(), "leave it out") {
			t.Errorf("%s: %v", what, err)
		}
	}
	r.stop()
	r.wantNoTrace()
}
