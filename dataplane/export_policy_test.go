package dataplane

import (
	"net/netip"

	"github.com/vswitch/vswitch/dataplane/frame"
	"github.com/vswitch/vswitch/dataplane/header"
)

// Asked is a question for policy: a packet as its receiver sees it, by the sides and
// ports of its ends.
type Asked struct {
	From, To         Side
	FromNet, ToNet   frame.NetworkID
	FromPort, ToPort frame.PortID // of containers
	Tuple            header.Tuple
	Via              Via
}

// Judge answers it by the snapshot and the lists in use: the rule, and whether the flow
// may begin.
func (s *Switch) Judge(a *Asked) (id RuleID, ok bool) {
	sn := s.snapshot.Load()
	of := func(side Side, n frame.NetworkID, p frame.PortID, addr *header.Addr) end {
		e := end{side: side, network: n, addr: addr}
		if side == SideContainer {
			e.port = sn.ports[p]
		}
		return e
	}
	q := question{from: of(a.From, a.FromNet, a.FromPort, &a.Tuple.Src), to: of(a.To, a.ToNet, a.ToPort, &a.Tuple.Dst), tuple: &a.Tuple, via: a.Via, lists: s.lists.Load()}
	r := sn.judge(&q)
	return r.id(), r.verdict() == NotDropped
}

// RevisionOf is the number of the snapshot in use.
func (s *Switch) RevisionOf() uint64 { return s.snapshot.Load().revision }

// InList reports whether a list has an address.
func (s *Switch) InList(id ListID, a netip.Addr) bool {
	addr := header.AddrFrom(a)
	return s.lists.Load().has(id, &addr)
}
