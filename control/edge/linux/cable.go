package linux

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/vswitch/vswitch/control/edge"
	"github.com/vswitch/vswitch/control/host"
	"github.com/vswitch/vswitch/control/kernel"
)

// AddCable implements edge.Cables.
func (e *Edge) AddCable(ns edge.Netns, c edge.Cable) (index int, err error) {
	return e.Host.AddVeth(netns(ns), e.spec(c))
}

// AddWaitingCable implements edge.Cables.
func (e *Edge) AddWaitingCable(c edge.Cable) (index int, err error) {
	return e.Host.AddWaitingVeth(e.spec(c))
}

// AdoptCable implements edge.Cables.
func (e *Edge) AdoptCable(index int, c edge.Cable) error { return e.sealOf(c).renew(index) }

// CheckCable implements edge.Cables.
func (e *Edge) CheckCable(ns edge.Netns, index int, c edge.Cable) error {
	return e.Host.CheckVeth(netns(ns), index, e.spec(c))
}

func (e *Edge) spec(c edge.Cable) host.VethSpec {
	return host.VethSpec{
		Name: c.Name, Alias: c.Alias, Ifname: c.Ifname, MAC: c.MAC, MTU: c.MTU, Addrs: c.Addrs, Gateways: c.Gateways,
		GatewayMAC: c.GatewayMAC, Routes: c.Routes, NoUSO: c.NoUSO, Seal: e.sealOf(c),
	}
}

// SetDefaultRoute implements edge.Cables.
func (e *Edge) SetDefaultRoute(ns edge.Netns, ifname string, gw netip.Addr) error {
	return e.Host.SetDefaultRoute(netns(ns), ifname, gw)
}

// SetLimit implements edge.Cables.
func (e *Edge) SetLimit(ns edge.Netns, ifname string, l host.Limit) error {
	return e.Host.SetLimit(netns(ns), ifname, l)
}

// sealKind is a way to seal a cable.
type sealKind interface {
	host.Seal
	Renew(index int) (ok bool, err error)
}

// sealKinds are the ways that the kernel has: by a filter and, since Linux 6.6, by TCX.
// A filter takes the ingress of the cable away from others. TCX leaves it to them, but
// holds up all work on links for 15 ms.
func sealKinds(k *kernel.Kernel, h *host.Host, noTCX bool) ([]sealKind, error) {
	kinds := []sealKind{h.FilterSeal(k.SealFD()).Numbered(k.SealID())}
	tcx, err := k.Seal()
	if err == nil && !noTCX {
		kinds = append(kinds, tcx)
	}
	if errors.Is(err, kernel.ErrNoTCX) {
		err = nil
	}
	return kinds, err
}

// seal is the host.Seal of a cable: it makes one kind, and knows them all, since
// another version or kernel may have sealed the cable.
type seal struct {
	own sealKind
	all []sealKind
}

func (e *Edge) sealOf(c edge.Cable) seal {
	own := e.seals[0]
	if c.SharesIngress {
		own = e.seals[len(e.seals)-1]
	}
	return seal{own, e.seals}
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
