package control

import (
	"slices"
	"strings"
	"testing"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/control/client"
	"github.com/vswitch/vswitch/internal/netlab"
	"github.com/vswitch/vswitch/internal/netlab/labtest"
)

// attachAs attaches one network of a container in the words of a runtime.
func (r *rig) attachAs(ns *netlab.NS, id, network, ifname string, publish ...string) (api.Container, error) {
	return r.Attach(r.t.Context(), api.Attach{
		Name: "pod-" + id, Runtime: api.RuntimeCNI, RuntimeID: id, Netns: ns.Path(), Publish: publish,
		Networks: []api.Connect{{Network: network, Ifname: ifname}},
	})
}

func (r *rig) containers(f api.ContainerFilter) (names []string) {
	r.t.Helper()
	list, err := r.ContainersOf(r.t.Context(), f)
	if err != nil {
		r.t.Fatal(err)
	}
	for _, ct := range list {
		names = append(names, ct.Name)
	}
	return names
}

func TestRuntimeAttachesOneNetworkAfterTheOther(t *testing.T) {
	r := newRig(t)
	r.start()
	ctx := t.Context()
	if _, err := r.CreateNetwork(ctx, api.NetworkCreate{Name: "blue", Subnet: "10.7.0.0/24", Ephemeral: true}); err != nil {
		t.Fatal(err)
	}
	ns := labtest.New(t, "pod")
	for range 2 { // repeated it changes nothing
		if _, err := r.attachAs(ns, "x1", "bridge", "eth0", "8080:80"); err != nil {
			t.Fatal(err)
		}
		ct, err := r.attachAs(ns, "x1", "blue", "net1", "8080:80", "127.0.0.1:8081:80")
		if err != nil {
			t.Fatal(err)
		}
		if ct.Name != "pod-x1" || ct.Runtime != api.RuntimeCNI || ct.RuntimeID != "x1" || len(ct.Endpoints) != 2 || len(ct.Ports) != 2 {
			t.Fatalf("got %+v, want one container with two interfaces and ports", ct)
		}
		if !ct.Endpoints[0].DefaultRoute || ct.Endpoints[1].DefaultRoute {
			t.Error("want the default route of the first network")
		}
	}
	serve(t, ns, ":80", "pod")
	wantFetch(t, r.world.Outside, netlab.HostAddr+":8080", "pod", netlab.OutsideAddr)
	if err := r.Check(ctx, "pod-x1"); err != nil {
		t.Errorf("check: %v", err)
	}

	// The same network twice, as CNI allows for interfaces of different names.
	if _, err := r.attachAs(ns, "x1", "blue", "net2"); err != nil {
		t.Fatal(err)
	}
	other := labtest.New(t, "other")
	for _, tc := range []struct{ ns, id, network, ifname, want string }{
		{"other", "x1", "bridge", "eth0", "another namespace"},
		{"pod", "x1", "bridge", "net1", "interface net1 is its port in network blue"},
		{"pod", "x1", "nosuch", "net3", "does not exist"},
		{"pod", "a/b", "blue", "net3", "name"},
	} {
		in := ns
		if tc.ns == "other" {
			in = other
		}
		if _, err := r.attachAs(in, tc.id, tc.network, tc.ifname); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("attach %v: %v, want %q", tc, err, tc.want)
		}
	}
	// Of a request that fails nothing is left.
	_, err := r.attachAs(ns, "x1", "blue", "net3", "9000:80", "8080:81")
	if !client.IsConflict(err) {
		t.Errorf("a port taken by itself for another target: %v", err)
	}
	if ct, err := r.Container(ctx, "pod-x1"); err != nil || len(ct.Endpoints) != 3 || len(ct.Ports) != 2 {
		t.Errorf("after a failed addition: %+v, %v", ct, err)
	}
	for f, want := range map[api.ContainerFilter][]string{
		{}:                                {"pod-x1"},
		{Runtime: "cni", RuntimeID: "x1"}: {"pod-x1"},
		{Network: "blue"}:                 {"pod-x1"},
		{Runtime: "docker"}:               nil,
		{RuntimeID: "x2"}:                 nil,
	} {
		if got := r.containers(f); !slices.Equal(got, want) {
			t.Errorf("filter %+v: %v, want %v", f, got, want)
		}
	}
	for _, f := range []api.ContainerFilter{{Network: "nosuch"}, {Runtime: "cni", Network: "no such\x00"}, {Runtime: "dokcer"}} {
		if list, err := r.ContainersOf(ctx, f); !client.IsNotFound(err) {
			t.Errorf("filter %+v: %v, %v", f, list, err)
		}
	}

	// All of it survives a restart.
	r.kill()
	r.start()
	release := func(ifname string) {
		t.Helper()
		for range 2 {
			if err := r.Release(ctx, api.Release{Runtime: "cni", RuntimeID: "x1", Ifname: ifname}); err != nil {
				t.Errorf("release %q: %v", ifname, err)
			}
		}
	}
	release("net2")
	release("nosuch")
	release("eth0") // the default route and the ports go over to blue
	wantFetch(t, r.world.Outside, netlab.HostAddr+":8080", "pod", netlab.OutsideAddr)
	if err := r.Check(ctx, "pod-x1"); err != nil {
		t.Errorf("check: %v", err)
	}
	release("net1")
	if got := r.containers(api.ContainerFilter{}); got != nil {
		t.Errorf("containers %v are left", got)
	}
	if _, err := r.Network(ctx, "blue"); !client.IsNotFound(err) {
		t.Errorf("network blue after its last container: %v, want it gone", err)
	}
	if l, err := ns.Links(); err != nil || len(l) != 1 {
		t.Errorf("links of the pod: %v, %v", l, err)
	}
	release("")
	r.stop()
	r.wantNoTrace()
}

func TestEphemeralNetworkOfAFailedAttach(t *testing.T) {
	r := newRig(t)
	r.start()
	ctx := t.Context()
	if _, err := r.CreateNetwork(ctx, api.NetworkCreate{Name: "blue", Subnet: "10.7.0.0/24", Ephemeral: true}); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Attach(ctx, api.Attach{Name: "web", Netns: labtest.New(t, "web").Path(), Networks: []api.Connect{{Network: "blue", IP: "10.9.9.9"}}}); err == nil {
		t.Error("an address outside the subnet is taken")
	}
	if _, err := r.Network(ctx, "blue"); !client.IsNotFound(err) {
		t.Errorf("its ephemeral network: %v, want it gone", err)
	}
}

func TestGCReleasesWhatTheRuntimeDoesNotList(t *testing.T) {
	r := newRig(t)
	r.start()
	ctx := t.Context()
	if _, err := r.CreateNetwork(ctx, api.NetworkCreate{Name: "blue", Subnet: "10.7.0.0/24"}); err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{"x1", "x2", "x3"} {
		ns := labtest.New(t, id)
		for _, n := range []api.Connect{{Network: "bridge", Ifname: "eth0"}, {Network: "blue", Ifname: "net1", RuntimeNetwork: "azure"}} {
			if _, err := r.Attach(ctx, api.Attach{Name: "pod-" + id, Runtime: "cni", RuntimeID: id, Netns: ns.Path(), Networks: []api.Connect{n}}); err != nil {
				t.Fatal(err)
			}
		}
	}
	r.attach("byhand", api.Attach{})
	_, err := r.Attach(ctx, api.Attach{Name: "docked", Runtime: "docker", RuntimeID: "x9", Netns: labtest.New(t, "docked").Path()})
	if err != nil {
		t.Fatal(err)
	}
	all := []api.Attachment{{RuntimeID: "x1", Ifname: "eth0"}, {RuntimeID: "x1", Ifname: "net1"}, {RuntimeID: "x2"}, {RuntimeID: "x3"}}
	for i, tc := range []struct {
		in   api.GC
		want []string // of what was released
		left []string
	}{
		{api.GC{Runtime: "cni"}, nil, []string{"byhand", "docked", "pod-x1", "pod-x2", "pod-x3"}},
		{api.GC{Runtime: "cni", Valid: all}, nil, []string{"byhand", "docked", "pod-x1", "pod-x2", "pod-x3"}},
		{api.GC{Runtime: "cni", Network: "blue", Valid: []api.Attachment{}}, nil, []string{"byhand", "docked", "pod-x1", "pod-x2", "pod-x3"}},
		{api.GC{Runtime: "cni", Network: "azure", Valid: all[1:3]}, []string{"x3/net1"}, []string{"byhand", "docked", "pod-x1", "pod-x2", "pod-x3"}},
		{api.GC{Runtime: "cni", Valid: all[:2]}, []string{"x2/eth0", "x2/net1", "x3/eth0"}, []string{"byhand", "docked", "pod-x1"}},
		{api.GC{Runtime: "cni", Network: "bridge", Valid: []api.Attachment{}}, []string{"x1/eth0"}, []string{"byhand", "docked", "pod-x1"}},
		{api.GC{Runtime: "cni", Valid: []api.Attachment{}}, []string{"x1/net1"}, []string{"byhand", "docked"}},
	} {
		out, err := r.GC(ctx, tc.in)
		var got []string
		for _, a := range out.Released {
			got = append(got, a.RuntimeID+"/"+a.Ifname)
		}
		if err != nil || !slices.Equal(got, tc.want) {
			t.Errorf("step %d: released %v, %v, want %v", i, got, err, tc.want)
		}
		if left := r.containers(api.ContainerFilter{}); !slices.Equal(left, tc.left) {
			t.Errorf("step %d: %v are left, want %v", i, left, tc.left)
		}
	}
	if _, err := r.GC(ctx, api.GC{Valid: []api.Attachment{}}); err == nil || !strings.Contains(err.Error(), "runtime") {
		t.Errorf("garbage of nobody: %v", err)
	}
}

// A container is checked by what the kernel has, and each thing that is missing
// is named.
func TestCheckNamesWhatIsWrong(t *testing.T) {
	labtest.NeedProgram(t, "ip")
	r := newRig(t)
	r.start()
	ctx := t.Context()
	if _, err := r.CreateNetwork(ctx, api.NetworkCreate{Name: "dual", Subnets: []string{"10.7.0.0/24", "fd00:7::/64"}}); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct{ name, where, cmd, want string }{
		{"nothing", "in", "true", ""},
		{"address", "in", "ip addr del 10.7.0.9/24 dev eth0", "lost its address 10.7.0.9/24"},
		{"address6", "in", "ip addr del fd00:7::9/64 dev eth0", "lost its address fd00:7::9/64"},
		{"route", "in", "ip route del default", "lost its default route via 10.7.0.1"},
		{"route6", "in", "ip -6 route del default", "lost its default route via fd00:7::1"},
		{"down", "in", "ip link set eth0 down", "eth0 is set down"},
		{"mac", "in", "ip link set eth0 address 02:00:00:00:00:99", "MAC address 02:00:00:00:00:99 in place of"},
		{"renamed", "in", "ip link set eth0 down; ip link set eth0 name other0", "eth0 is not in"},
		{"another", "in", "ip link set eth0 down; ip link set eth0 name other0; ip link add eth0 type veth", "another interface"},
		{"host end", "out", "ip link set $VETH down", "set down"},
		{"alias", "out", "ip link set $VETH alias mine", "another interface"},
		{"seal", "out", "unseal", "lost its seal"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			ns := labtest.New(t, "web")
			defer r.Detach(ctx, "web")
			ct, err := r.Attach(ctx, api.Attach{Name: "web", Netns: ns.Path(), Networks: []api.Connect{{Network: "dual", IP: "10.7.0.9", IP6: "fd00:7::9"}}})
			if err != nil {
				t.Fatal(err)
			}
			in := ns
			if tc.where == "out" {
				in = r.world.Host
			}
			veth := ct.Endpoints[0].HostInterface
			if tc.cmd == "unseal" {
				r.unseal(veth)
			} else if out, err := in.Command("sh", "-c", strings.ReplaceAll(tc.cmd, "$VETH", veth)).CombinedOutput(); err != nil {
				t.Fatalf("%s: %v: %s", tc.cmd, err, out)
			}
			err = r.Check(ctx, "web")
			switch {
			case tc.want == "" && err != nil:
				t.Errorf("check: %v", err)
			case tc.want != "" && (!client.IsConflict(err) || !strings.Contains(err.Error(), tc.want) || !strings.HasPrefix(err.Error(), "container web: network dual: ")):
				t.Errorf("check: %v, want a conflict that says %q", err, tc.want)
			}
		})
	}
	if err := r.Check(ctx, "web"); !client.IsNotFound(err) {
		t.Errorf("check of nothing: %v", err)
	}
}
