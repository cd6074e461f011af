package control

import (
	"errors"
	"testing"

	"github.com/vswitch/vswitch/control/api"
)

// A container that its runtime attached in pieces is detached whole by its own name, and by that of a
// piece the piece alone.
func TestDetachOfAPiece(t *testing.T) {
	r := newRig(t)
	r.start()
	ctx := t.Context()
	labels := map[string]string{api.LabelContainerID: "0123456789abcdef", api.LabelContainerName: "shop"}
	for _, name := range []string{"shop.front", "shop.back", "shop.side"} {
		r.attach(name, api.Attach{Runtime: api.RuntimeDocker, RuntimeID: "endpoint-" + name, Labels: labels})
	}
	if ct, err := r.Container(ctx, "shop"); err != nil || len(ct.Endpoints) != 3 {
		t.Fatalf("%+v, %v", ct, err)
	}
	for _, c := range []struct {
		word string
		left int
	}{{"shop.back", 2}, {"shop", 0}} {
		if err := r.Detach(ctx, c.word, true); err != nil {
			t.Fatal(err)
		}
		left := 0
		if ct, err := r.Container(ctx, "shop"); err == nil {
			left = len(ct.Endpoints)
		} else if !errors.Is(err, api.ErrNotFound) {
			t.Error(err)
		}
		if left != c.left {
			t.Errorf("%d pieces are left after detach %s, want %d", left, c.word, c.left)
		}
	}
}
