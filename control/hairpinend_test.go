package control

import (
	"testing"
	"time"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/internal/netlab"
)

// A container has a connection to a published port of another, which is detached: the one
// that gets the address next gets nothing of it.
func TestHairpinEndsWithItsTarget(t *testing.T) {
	r := newRig(t)
	r.start()
	ctx := t.Context()
	web, wct := r.attach("web", api.Attach{Publish: []string{"8080:80"}})
	db, _ := r.attach("db", api.Attach{})
	serve(t, web, ":80", "web")
	c, err := db.Dial("tcp", netlab.HostAddr+":8080", 20*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	hairpins := func() (n int) {
		t.Helper()
		list, err := r.Flows(ctx, api.FlowQuery{Container: "db"})
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range list {
			if f.Kind == "hairpin" {
				n++
			}
		}
		return n
	}
	if hairpins() != 1 {
		t.Fatal("there is no such flow")
	}
	if err := r.Detach(ctx, "web"); err != nil {
		t.Fatal(err)
	}
	if n := hairpins(); n != 0 {
		t.Errorf("%d flows to the port of a container that is gone", n)
	}
	r.attach("next", api.Attach{Networks: []api.Connect{{Network: "bridge", IP: addr(wct)}}})
	if c, err := db.Dial("tcp", netlab.HostAddr+":8080", 2*time.Second); err == nil {
		c.Close()
		t.Error("a port that nobody publishes leads to the container that has the address now")
	}
}
