package control

import (
	"strings"
	"testing"

	"github.com/vswitch/vswitch/control/api"
)

// Errors speak of a container and a network of Docker's as its user does, and not of the
// endpoint and the network that the switch made for them.
func TestErrorsCallThingsAsPeopleDo(t *testing.T) {
	r := newRig(t)
	r.start()
	ctx := t.Context()
	n, err := r.CreateNetwork(ctx, api.NetworkCreate{Name: "docker-45150034c4f3", Subnet: "10.7.0.0/30", Labels: map[string]string{api.UsedBy + "docker.45150034c4f3": "{}"}})
	if err != nil {
		t.Fatal(err)
	}
	ct, err := r.Attach(ctx, api.Attach{
		Name: "c3f4", Runtime: api.RuntimeDocker, RuntimeID: "c3f4", Handover: true, Networks: []api.Connect{{Network: n.Name}},
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Publish(ctx, ct.ID, []string{"8080:80"}); err != nil {
		t.Fatal(err)
	}
	if _, err := r.UpdateNetwork(ctx, n.Name, api.NetworkUpdate{Labels: map[string]string{api.LabelDockerNetwork: "shop_back"}}); err != nil {
		t.Fatal(err)
	}
	named := api.ContainerUpdate{Name: "web.shop_back", Labels: map[string]string{api.LabelContainerID: "f00", api.LabelContainerName: "web"}}
	if _, err := r.UpdateContainer(ctx, ct.ID, named); err != nil {
		t.Fatal(err)
	}
	r.attach("hand", api.Attach{})
	mac, addr := ct.Endpoints[0].MAC, strings.TrimSuffix(ct.Endpoints[0].Address, "/30")
	for what, do := range map[string]func() error{
		"address in use": func() error {
			_, err := r.Connect(ctx, "hand", api.Connect{Network: "shop_back", IP: addr})
			return err
		},
		"full": func() error { _, err := r.Connect(ctx, "hand", api.Connect{Network: "shop_back"}); return err },
		"MAC in use": func() error {
			_, err := r.Connect(ctx, "hand", api.Connect{Network: "shop_back", MAC: mac})
			return err
		},
		"overlap": func() error {
			_, err := r.CreateNetwork(ctx, api.NetworkCreate{Name: "x", Subnet: "10.7.0.0/24"})
			return err
		},
		"port in use":   func() error { _, err := r.Publish(ctx, "hand", []string{"8080:80"}); return err },
		"not published": func() error { return r.Unpublish(ctx, "web", []string{"81"}) },
		"in use":        func() error { return r.RemoveNetwork(ctx, "shop_back") },
	} {
		err := do()
		if err == nil {
			t.Errorf("%s: not refused", what)
			continue
		}
		text := err.Error()
		for _, bad := range []string{"docker-45150034c4f3", "web.shop_back", "c3f4"} {
			if strings.Contains(text, bad) {
				t.Errorf("%s: %s", what, text)
			}
		}
		if !strings.Contains(text, "web") && !strings.Contains(text, "shop_back") {
			t.Errorf("%s names neither: %s", what, text)
		}
	}
}
