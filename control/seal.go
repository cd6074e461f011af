package control

import (
	"errors"
	"fmt"
	"slices"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/control/host"
	"github.com/vswitch/vswitch/control/kernel"
)

// sealKind is a way to seal a cable.
type sealKind interface {
	host.Seal
	Renew(index int) (ok bool, err error)
}

// sealKinds are the ways that the kernel has: by a filter and, since Linux 6.6, by TCX.
// A filter takes the ingress of the cable away from others. TCX leaves it to them, but
// holds up all work on links for 15 ms.
func sealKinds(k *kernel.Kernel, h *host.Host, noTCX bool) ([]sealKind, error) {
	kinds := []sealKind{h.FilterSeal(k.SealFD())}
	tcx, err := k.Seal()
	if err == nil && !noTCX {
		kinds = append(kinds, tcx)
	}
	if errors.Is(err, kernel.ErrNoTCX) {
		err = nil
	}
	return kinds, err
}

// seal is the host.Seal of a container: it makes one kind, and knows them all, since
// another version or kernel may have sealed the cable.
type seal struct {
	own sealKind
	all []sealKind
}

// sealOf is by TCX where other plugins may come after us that use the ingress of the
// cable: behind CNI, whose bandwidth does.
func (c *Controller) sealOf(ct *container) seal {
	own := c.seals[0]
	if ct.rec.Runtime == api.RuntimeCNI {
		own = c.seals[len(c.seals)-1]
	}
	return seal{own, c.seals}
}

func (s seal) Attach(index int) error { return s.own.Attach(index) }

func (s seal) Attached(index int) (bool, error) {
	var err error
	ok := slices.ContainsFunc(s.all, func(k sealKind) bool {
		ok, err1 := k.Attached(index)
		err = errors.Join(err, err1)
		return ok
	})
	return ok, err
}

// renew gives a cable the seal of this process in place of that of the one before. It
// is sealed all the while; one that was unsealed by hand is sealed again.
func (s seal) renew(index int) error {
	for _, k := range s.all {
		if ok, err := k.Renew(index); ok || err != nil {
			return sealErr(index, err)
		}
	}
	return sealErr(index, s.own.Attach(index))
}

func sealErr(index int, err error) error {
	if err != nil {
		return fmt.Errorf("seal of interface %d: %w", index, err)
	}
	return nil
}
