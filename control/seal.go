package control

import (
	"errors"
	"fmt"

	"github.com/vswitch/vswitch/control/host"
	"github.com/vswitch/vswitch/control/kernel"
)

// seals are how cables are sealed by this process, and how one before it may have done
// it: an older one, or one on an older kernel, whose seal is a filter.
type seals struct {
	own    host.Seal
	former host.Seal // nil: there is no other way here
}

// newSeals decides how cables are sealed: by TCX, which leaves the ingress qdisc to
// others, or where the kernel has none by a filter.
func newSeals(k *kernel.Kernel, h *host.Host, noTCX bool) (seals, error) {
	filter := h.FilterSeal(k.SealFD())
	tcx, err := k.Seal()
	switch {
	case errors.Is(err, kernel.ErrNoTCX):
		return seals{own: filter}, nil
	case err != nil:
		return seals{}, err
	case noTCX:
		return seals{own: filter, former: tcx}, nil
	}
	return seals{own: tcx, former: filter}, nil
}

// renew gives a cable the seal of this process in place of that of the one before. It
// is sealed all the while.
func (s seals) renew(index int) error {
	err := s.own.Attach(index)
	if err == nil && s.former != nil {
		err = s.former.Detach(index)
	}
	if err != nil {
		return fmt.Errorf("seal of interface %d: %w", index, err)
	}
	return nil
}
