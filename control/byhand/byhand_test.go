package byhand

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"testing"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/control/claims"
	"github.com/vswitch/vswitch/control/inventory"
	"github.com/vswitch/vswitch/control/state"
)

// disk has what was stored last.
type disk struct{ list []state.ByHand }

func (d *disk) PutByHand(list []state.ByHand) error {
	d.list = slices.Clone(list)
	return nil
}

type told []string

func (l *told) NotAgain(container string, ports []string, why string) {
	*l = append(*l, fmt.Sprint(container, ports, why))
}

func labels(id, name string) map[string]string {
	return map[string]string{api.LabelContainerID: id, api.LabelContainerName: name}
}

func lose(p *Ports, id, name string, ports ...*inventory.Mapping) {
	ct := &inventory.Container{}
	ct.Rec.Runtime, ct.Rec.Labels = api.RuntimeDocker, labels(id, name)
	p.Keep(ct, ports)
}

func mapping(host uint16, byHand bool) *inventory.Mapping {
	return &inventory.Mapping{Ports: &claims.Ports{Proto: 6, HostFirst: host, HostLast: host}, ContainerFirst: 80, ByHand: byHand}
}

var quiet = slog.New(slog.NewTextHandler(io.Discard, nil))

// What was added by hand comes back to the container with the ID, from disk too, and to no
// other of its name.
func TestPortsAreOfAContainerID(t *testing.T) {
	d, refuse := &disk{}, error(nil)
	var published []string
	var events told
	publish := func(_ context.Context, name string, rules []string) ([]api.PortMapping, error) {
		if refuse != nil {
			return nil, refuse
		}
		published = append(published, fmt.Sprint(name, rules))
		return nil, nil
	}
	back := func(p *Ports, runtime, id, name string) {
		published, events = nil, nil
		p.Return(&api.Container{Name: "x", Runtime: runtime, Labels: labels(id, name)}, publish, &events)
	}
	want := func(what string, got []string, want ...string) {
		t.Helper()
		if !slices.Equal(got, want) {
			t.Errorf("%s: %q, want %q", what, got, want)
		}
	}
	p := New(d, nil, quiet)
	lose(p, "a1", "web", mapping(8080, false), mapping(8081, true))
	lose(p, "a1", "web", mapping(8082, true))
	lose(p, "", "web", mapping(8083, true)) // whose ID nobody has told
	p = New(d, d.list, quiet)
	back(p, api.RuntimeCNI, "a1", "web")
	want("of another runtime", published)
	refuse = errors.New("port 8081/tcp is held by nginx")
	back(p, api.RuntimeDocker, "a1", "web")
	want("held", events, "web[8081:80/tcp 8082:80/tcp]port 8081/tcp is held by nginx")
	refuse = nil
	back(p, api.RuntimeDocker, "a1", "web")
	want("back", published, "a1[8081:80/tcp 8082:80/tcp]")
	back(p, api.RuntimeDocker, "a1", "web")
	want("once", published)

	lose(p, "a1", "web", mapping(8081, true))
	back(p, api.RuntimeDocker, "b2", "web")
	want("of another", published)
	want("told", events, "web[8081:80/tcp]the container is another one by now, made anew")
	back(p, api.RuntimeDocker, "a1", "web")
	want("forgotten", published)
	if len(d.list) > 0 {
		t.Errorf("on disk: %+v", d.list)
	}
}

// Containers that never come back take no more than a bound.
func TestBounded(t *testing.T) {
	d := &disk{}
	p := New(d, nil, quiet)
	for i := range most + 10 {
		lose(p, fmt.Sprint(i), fmt.Sprint("ct", i), mapping(8080, true))
	}
	if len(d.list) != most || d.list[0].Container != "10" {
		t.Errorf("%d, from %s on", len(d.list), d.list[0].Container)
	}
}
