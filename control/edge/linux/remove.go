package linux

import (
	"errors"
	"fmt"
	"strings"

	"github.com/vswitch/vswitch/control/holder"
	"github.com/vswitch/vswitch/control/host"
	"github.com/vswitch/vswitch/control/kernel"
	"github.com/vswitch/vswitch/control/reserve"
)

// Leftovers says what Remove removes.
type Leftovers struct {
	Identity string          // of the owner
	Reserved []reserve.Range // its entries in net.ipv4.ip_local_reserved_ports
	All      bool            // cables, too
}

// Remove removes what an owner without a process has in the network namespace, and returns
// what that was, a line each. Cables that stay get a seal that carries nothing.
func Remove(l Leftovers) (did []string, err error) {
	h, err := host.New()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, h.Close()) }()
	var errs []error
	from, err := holder.RemoveShields(h, l.Identity)
	errs = append(errs, err)
	for _, name := range from {
		did = append(did, "shield of uplink "+name+" removed")
	}
	errs = append(errs, reserve.RestoreReserved(l.Reserved))
	links, err := h.Links()
	errs = append(errs, err)
	var cables []host.Link
	for _, k := range links {
		if !strings.HasPrefix(k.Alias, host.AliasOf(l.Identity)) && !k.HalfMade() {
			continue
		}
		if k.Kind == "veth" && !l.All {
			cables = append(cables, k)
			continue
		}
		err := h.DelLink(k.Name, k.Index)
		if err == nil {
			did = append(did, "interface "+k.Name+" removed")
		}
		errs = append(errs, err)
	}
	if len(cables) == 0 {
		return did, errors.Join(errs...)
	}
	errs = append(errs, sealOff(h, cables))
	return append(did, fmt.Sprintf("%d cables of containers stay, sealed: vswitch down --all removes them", len(cables))), errors.Join(errs...)
}

// sealOff gives cables a seal without a flow table: nothing passes.
func sealOff(h *host.Host, cables []host.Link) error {
	k, err := kernel.Open(kernel.Config{NoFlowTable: true})
	if err != nil {
		return err
	}
	defer k.Close()
	kinds, err := sealKinds(k, h, false)
	if err != nil {
		return err
	}
	var errs []error
	for _, c := range cables {
		err := seal{kinds[0], kinds}.renew(c.Index)
		if _, gone := h.Link(c.Name); !errors.Is(gone, host.ErrNotFound) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
