package control

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/control/client"
	"github.com/vswitch/vswitch/internal/netlab"
)

func TestRename(t *testing.T) {
	r := newRig(t)
	r.start()
	ctx := t.Context()
	ns, was := r.attach("f82309", api.Attach{Publish: []string{"8080:80"}, Labels: map[string]string{"a": "b", "c": "d"}})
	r.attach("db", api.Attach{})
	serve(t, ns, ":80", "web")
	if _, err := r.UpdateContainer(ctx, "f82309", api.ContainerUpdate{Name: "db"}); !client.IsConflict(err) {
		t.Errorf("a name that is taken: %v", err)
	}
	if _, err := r.UpdateContainer(ctx, "f82309", api.ContainerUpdate{Name: "../web"}); !errors.Is(err, api.ErrInvalid) {
		t.Errorf("a bad name: %v", err)
	}
	got, err := r.UpdateContainer(ctx, "f82309", api.ContainerUpdate{Name: "web", Labels: map[string]string{"a": "", "e": "f"}})
	if err != nil || got.Name != "web" || got.ID != was.ID || got.Labels["a"] != "" || got.Labels["c"] != "d" || got.Labels["e"] != "f" {
		t.Fatalf("renamed: %+v, %v", got, err)
	}
	if _, err := r.Container(ctx, "f82309"); !client.IsNotFound(err) {
		t.Errorf("the old name is still known: %v", err)
	}
	// What refuses names the new one.
	if _, err := r.Attach(ctx, api.Attach{Name: "x", Handover: true, Networks: []api.Connect{{IP: addr(was)}}}); err == nil || !strings.Contains(err.Error(), "container web") {
		t.Errorf("its address is taken: %v", err)
	}
	r.restart("SIGKILL")
	wantFetch(t, r.world.Outside, netlab.HostAddr+":8080", "web", netlab.OutsideAddr)
	if got, err := r.Container(ctx, "web"); err != nil || got.ID != was.ID {
		t.Errorf("after the restart: %+v, %v", got, err)
	}
	// The old name is free.
	r.attach("f82309", api.Attach{})
	for _, name := range []string{"web", "db", "f82309"} {
		if err := r.Detach(ctx, name); err != nil {
			t.Error(err)
		}
	}
	r.stop()
	r.wantNoTrace()
}

// TestRenameWhileDetached: whoever wins, the container goes.
func TestRenameWhileDetached(t *testing.T) {
	r := newRig(t)
	r.start()
	for range 20 {
		r.handOver("a", api.Attach{})
		var wg sync.WaitGroup
		wg.Go(func() { r.UpdateContainer(t.Context(), "a", api.ContainerUpdate{Name: "b"}) })
		wg.Go(func() { r.Detach(t.Context(), "a") })
		wg.Wait()
		r.Detach(t.Context(), "b")
		if list, err := r.Containers(t.Context()); err != nil || len(list) > 0 {
			t.Fatalf("left: %+v, %v", list, err)
		}
	}
	r.stop()
	r.wantNoTrace()
}

func TestLease(t *testing.T) {
	r := newRig(t)
	r.start()
	ctx := t.Context()
	if _, err := r.CreateNetwork(ctx, api.NetworkCreate{Name: "blue", Subnet: "10.7.0.0/29", IPv6: yes()}); err != nil {
		t.Fatal(err)
	}
	want := func(in api.LeaseRequest, want string) {
		t.Helper()
		in.Runtime = "docker"
		if got, err := r.LeaseAddress(ctx, "blue", in); err != nil || want != "" && got.Address != want {
			t.Errorf("lease %+v: %s, %v, want %s", in, got.Address, err, want)
		}
	}
	want(api.LeaseRequest{}, "10.7.0.2/29")
	want(api.LeaseRequest{}, "10.7.0.3/29")
	want(api.LeaseRequest{Address: "10.7.0.5"}, "10.7.0.5/29")
	want(api.LeaseRequest{Within: "10.7.0.6/31"}, "10.7.0.6/29")
	if err := r.EndLease(ctx, "blue", "10.7.0.6"); err != nil {
		t.Error(err)
	}
	want(api.LeaseRequest{IPv6: true}, "")
	for _, a := range []string{"10.7.0.5", "10.7.0.1", "10.7.0.7", "10.8.0.1", "x"} {
		if got, err := r.LeaseAddress(ctx, "blue", api.LeaseRequest{Runtime: "docker", Address: a}); err == nil {
			t.Errorf("leased %s as %s", a, got.Address)
		}
	}
	// Nobody else gets it, the one that has it does.
	at := func(runtime, id, ip string) error {
		_, err := r.Attach(ctx, api.Attach{Name: id, Runtime: runtime, RuntimeID: id, Handover: true, Networks: []api.Connect{{Network: "blue", IP: ip}}})
		return err
	}
	if err := at("cni", "one", "10.7.0.5"); !client.IsConflict(err) {
		t.Errorf("an address that is leased: %v", err)
	}
	if err := at("docker", "two", "10.7.0.5"); err != nil {
		t.Error(err)
	}
	if err := at("cni", "three", ""); err != nil {
		t.Error(err)
	}
	if ct, err := r.Container(ctx, "three"); err != nil || addr(ct) != "10.7.0.4" {
		t.Errorf("the next address is %+v, %v, want 10.7.0.4", ct.Endpoints, err)
	}
	for _, a := range []string{"10.7.0.2", "10.7.0.2", "10.7.0.6"} {
		if err := r.EndLease(ctx, "blue", a); err != nil {
			t.Error(err)
		}
	}
	if err := at("cni", "four", "10.7.0.2"); err != nil {
		t.Errorf("an address that was given back: %v", err)
	}
}

func TestFreeSubnet(t *testing.T) {
	r := newRig(t)
	r.start()
	ctx := t.Context()
	one, err := r.FreeSubnet(ctx, api.SubnetRequest{})
	if err != nil || one.Subnet != "10.88.1.0/24" || one.Gateway != "10.88.1.1" {
		t.Errorf("%+v, %v", one, err)
	}
	if two, err := r.FreeSubnet(ctx, api.SubnetRequest{Except: []string{one.Subnet}}); err != nil || two.Subnet != "10.88.2.0/24" {
		t.Errorf("%+v, %v", two, err)
	}
	if six, err := r.FreeSubnet(ctx, api.SubnetRequest{IPv6: true}); err != nil || netip.MustParsePrefix(six.Subnet).Bits() != 64 {
		t.Errorf("%+v, %v", six, err)
	}
	for _, p := range []string{"10.88.0.0/16", "198.51.100.0/25", "127.0.0.0/24", "x"} {
		if got, err := r.FreeSubnet(ctx, api.SubnetRequest{Subnet: p}); err == nil {
			t.Errorf("%s is free: %+v", p, got)
		}
	}
}

func TestNetworkOfARuntime(t *testing.T) {
	r := newRig(t)
	r.start()
	ctx := t.Context()
	if _, err := r.CreateNetwork(ctx, api.NetworkCreate{Name: "blue", Interface: "blue0", Labels: map[string]string{api.UsedBy + "docker.1": ""}}); err != nil {
		t.Fatal(err)
	}
	if !slices.Contains(r.hostLinks(), "blue0") {
		t.Errorf("links %v, want blue0", r.hostLinks())
	}
	if _, err := r.CreateNetwork(ctx, api.NetworkCreate{Name: "red", Interface: "blue0"}); !client.IsConflict(err) {
		t.Errorf("an interface that exists: %v", err)
	}
	r.restart("SIGKILL")
	if out, err := r.PruneNetworks(ctx); err != nil || len(out.Networks) > 0 {
		t.Errorf("pruned %v, %v", out.Networks, err)
	}
	if n, err := r.Network(ctx, "blue"); err != nil || n.Interface != "blue0" {
		t.Errorf("%+v, %v", n, err)
	}
	if err := r.RemoveNetwork(ctx, "blue"); !client.IsConflict(err) {
		t.Errorf("a network that a runtime relies on: %v", err)
	}
	if err := r.RemoveNetwork(ctx, "blue", true); err != nil {
		t.Error(err)
	}
	r.stop()
	r.wantNoTrace()
}
