package linux

import (
	"strings"

	"github.com/vswitch/vswitch/control/host"
	"github.com/vswitch/vswitch/control/kernel"
)

// load loads the programs, with the maps that a process before has left to this owner. They are
// found by the seals of its cables, which hold them.
func (e *Edge) load(identity string) error {
	left, err := e.leftSeals(identity)
	if err != nil {
		return err
	}
	e.Kernel, err = kernel.Open(kernel.Config{NoFlowTable: e.cfg.NoFlowTable, MaxFlows: e.cfg.MaxFlows, Left: left, Owner: identity, Holder: e.cfg.Holder})
	if err != nil {
		return err
	}
	if err := e.Kernel.FlowTableError(); err != nil {
		e.cfg.Log.Warn("the kernel takes no flow table: every frame passes through the daemon", "err", err)
	}
	if e.seals, err = sealKinds(e.Kernel, e.Host, e.cfg.NoTCX); err != nil {
		return err
	}
	e.watchBinds()
	return e.Kernel.SetOwner(identity)
}

// leftSeals are the numbers of the programs on some of the owner's cables. All cables have the
// same seal, unless a start was cut short.
func (e *Edge) leftSeals(identity string) (programs []uint32, err error) {
	const enough = 8
	links, err := e.Host.Links()
	if err != nil {
		return nil, err
	}
	for _, l := range links {
		if l.Kind != "veth" || !strings.HasPrefix(l.Alias, host.AliasOf(identity)) {
			continue
		}
		by, err := kernel.Seals(l.Index)
		if err == nil && len(by) == 0 {
			by, err = e.Host.Seals(l.Index)
		}
		if err != nil {
			return nil, err
		}
		if programs = append(programs, by...); len(programs) >= enough {
			break
		}
	}
	return programs, nil
}

// Settle implements edge.Claims.
func (e *Edge) Settle() error { return e.Kernel.Settle() }
