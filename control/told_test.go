package control

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vswitch/vswitch/control/api"
)

// Events call containers and networks as people do, though Docker says their names after it has
// had them made, and tell every end.
func TestEventsOfRuntimes(t *testing.T) {
	m := newMachine(t).start()
	ctx := t.Context()
	since := uint64(0)
	told := func(word string) (list []string) {
		t.Helper()
		stream, err := m.Events(ctx, api.EventQuery{Since: &since, Once: true, Container: word})
		m.ok(err)
		defer stream.Close()
		for {
			events, err := stream.Next(ctx)
			m.ok(err)
			if len(events) == 0 {
				return list
			}
			for _, e := range events {
				if e.Type != api.EventUplinkChanged {
					list = append(list, strings.Split(e.Message, " with ")[0])
				}
			}
		}
	}
	made := func(id, name string) {
		_, err := m.CreateNetwork(ctx, api.NetworkCreate{Name: "docker-" + id, Labels: map[string]string{api.UsedBy + "docker." + id: "{}"}})
		m.ok(err)
		_, err = m.UpdateNetwork(ctx, "docker-"+id, api.NetworkUpdate{Labels: map[string]string{api.LabelDockerNetwork: name}})
		m.ok(err)
	}
	made("aaaaaaaaaaaa", "front")
	made("bbbbbbbbbbbb", "back")
	endpoint := func(id, network string) {
		_, err := m.Attach(ctx, api.Attach{Name: id[:12], Runtime: api.RuntimeDocker, RuntimeID: id, Handover: true, Networks: []api.Connect{{Network: network}}})
		m.ok(err)
	}
	label := func(id, name string, labels map[string]string) {
		_, err := m.UpdateContainer(ctx, id, api.ContainerUpdate{Name: name, Labels: labels})
		m.ok(err)
	}
	first, second := strings.Repeat("1", 64), strings.Repeat("2", 64)
	endpoint(first, "front")
	label(first, "", map[string]string{api.LabelSandbox: "/sandbox"})
	_, err := m.Publish(ctx, first, []string{"8080:80"})
	m.ok(err)
	label(first, "shop", map[string]string{api.LabelContainerID: "0123456789ab", api.LabelContainerName: "shop"})
	time.Sleep(2 * time.Millisecond) // it is the first one by its time
	endpoint(second, "back")
	label(second, "", map[string]string{api.LabelSandbox: "/sandbox"})
	label(second, "shop.back", map[string]string{api.LabelContainerID: "0123456789ab", api.LabelContainerName: "shop"})
	label(first, "store", map[string]string{api.LabelContainerName: "store"})
	label(second, "store.back", map[string]string{api.LabelContainerName: "store"})
	m.ok(m.Release(ctx, api.Release{Runtime: api.RuntimeDocker, RuntimeID: second}))
	m.ok(m.Release(ctx, api.Release{Runtime: api.RuntimeDocker, RuntimeID: first}))
	// Without a name it is told at the end.
	endpoint(second, "back")
	m.ok(m.Release(ctx, api.Release{Runtime: api.RuntimeDocker, RuntimeID: second}))
	want := []string{
		"network bridge created", "network front created", "network back created",
		"container shop attached", "container shop: 8080:80/tcp published", "container shop joined network back",
		"container shop is called store now",
		"container store left network back: released by docker", "container store detached: released by docker",
		"container 222222222222 attached", "container 222222222222 detached: released by docker",
	}
	if got := told(""); !slices.Equal(got, want) {
		t.Errorf("told:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	// They are found by what the container was called, though it has gone.
	if got := told("store"); !slices.Equal(got, want[3:9]) {
		t.Errorf("told of store:\n%s", strings.Join(got, "\n"))
	}
	if _, err := m.Events(ctx, api.EventQuery{Since: &since, Once: true, Container: "nobody"}); err == nil {
		t.Error("events of nobody are none, and no error")
	}
}

// CNI's DEL and podman's teardown take interfaces one by one.
func TestEventsOfInterfaces(t *testing.T) {
	m := newMachine(t).start()
	ctx := t.Context()
	_, err := m.CreateNetwork(ctx, api.NetworkCreate{Name: "blue"})
	m.ok(err)
	m.container("web", func(in *api.Attach) {
		in.Runtime, in.RuntimeID = api.RuntimeCNI, "pod"
		in.Networks = []api.Connect{{Ifname: "eth0"}, {Network: "blue", Ifname: "net1"}}
	})
	since := uint64(time.Now().UnixMicro())
	for _, ifname := range []string{"net1", "eth0"} {
		m.ok(m.Release(ctx, api.Release{Runtime: api.RuntimeCNI, RuntimeID: "pod", Ifname: ifname}))
	}
	stream, err := m.Events(ctx, api.EventQuery{SinceTime: time.UnixMicro(int64(since)), Once: true})
	m.ok(err)
	defer stream.Close()
	list, err := stream.Next(ctx)
	m.ok(err)
	var got []string
	for _, e := range list {
		got = append(got, fmt.Sprint(e.Type, " ", e.Container, " ", e.Network))
	}
	if want := []string{"disconnect web blue", "detach web "}; !slices.Equal(got, want) {
		t.Errorf("told %q, want %q", got, want)
	}
}
