package control

import (
	"errors"
	"testing"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/control/model"
)

func TestKindsSurviveWrapping(t *testing.T) {
	err := containerErr("web", model.Fullf("network %s is full", "blue"))
	if !errors.Is(err, api.ErrFull) || api.Status(err) != 507 || err.Error() != "container web: network blue is full" {
		t.Errorf("got %q with status %d", err, api.Status(err))
	}
}
