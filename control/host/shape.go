package host

import (
	"errors"
	"fmt"
	"slices"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// Shaping is what queueing disciplines that others have put on a cable, with tc or as CNI's
// bandwidth plugin, mean for it.
type Shaping struct {
	// Queued: the host end has a root qdisc, or is down. What goes into the container must pass
	// it.
	Queued bool
	// Limit is of what comes out of the container. It stands where the ingress qdisc
	// redirects to, at the root of an ifb device; zero: none.
	Limit Limit
}

// Limit is a token bucket filter (tc-tbf(8)).
type Limit struct {
	Rate   uint64 // bytes a second
	Queue  uint32 // bytes that wait (limit)
	Buffer uint32 // what passes at once, in the kernel's ticks
}

// limitHandle tells a limit of ours from other qdiscs.
const limitHandle = 0x7673 << 16

// Shapings returns the shaping of those interfaces that have one, by index. Interfaces
// for which ours says no are left out.
func (h *Host) Shapings(ours func(index int) bool) (map[int]Shaping, error) {
	list, err := h.route.qdiscs(0)
	if err != nil {
		return nil, fmt.Errorf("read the qdiscs: %w", err)
	}
	links, err := h.Links()
	if err != nil {
		return nil, err
	}
	found := make(map[int]Shaping)
	for i := range links {
		// The queue of an interface that is down lets nothing through.
		if !links[i].Up && ours(links[i].Index) {
			found[links[i].Index] = Shaping{Queued: true}
		}
	}
	for _, q := range list {
		if !ours(q.index) {
			continue
		}
		s := found[q.index]
		switch {
		case q.parent == tcRoot && q.kind != "noqueue":
			s.Queued = true
		case q.kind == "ingress":
			if s.Limit, err = h.limitOf(q.index); err != nil {
				return nil, fmt.Errorf("interface %d: %w", q.index, err)
			}
		}
		if s != (Shaping{}) {
			found[q.index] = s
		}
	}
	return found, nil
}

// Programs returns, by index, what sees frames on their way out of an interface or into the
// namespace of its peer, other than qdiscs. It asks for each interface by itself.
func (h *Host) Programs(ours func(index int) bool) (map[int]Program, error) {
	list, err := h.route.qdiscs(0)
	if err != nil {
		return nil, fmt.Errorf("read the qdiscs: %w", err)
	}
	found, clsact := make(map[int]Program), make(map[int]bool)
	for _, q := range list {
		clsact[q.index] = clsact[q.index] || q.kind == "clsact"
	}
	chains, err := h.egressChains()
	if err != nil {
		return nil, err
	}
	links, err := h.Links()
	if err != nil {
		return nil, err
	}
	for i := range links {
		l := &links[i]
		if !ours(l.Index) {
			continue
		}
		p, err := h.route.program(l, clsact[l.Index], chains)
		if err != nil {
			return nil, fmt.Errorf("interface %s: %w", l.Name, err)
		}
		if p.Name != "" {
			found[l.Index] = p
		}
	}
	return found, nil
}

// limitOf looks for a filter of the ingress qdisc that redirects to a device whose root
// is a token bucket filter.
func (h *Host) limitOf(index int) (Limit, error) {
	handle, err := netlink.NewHandleAt(netns.NsHandle(h.ns.fd), unix.NETLINK_ROUTE)
	if err != nil {
		return Limit{}, err
	}
	defer handle.Close()
	filters, err := handle.FilterList(device(index), clsactHandle)
	if err != nil {
		return Limit{}, gone(err)
	}
	for _, f := range filters {
		to := redirect(f)
		if to == 0 {
			continue
		}
		qdiscs, err := handle.QdiscList(device(to))
		if err != nil && gone(err) != nil {
			return Limit{}, err
		}
		for _, q := range qdiscs {
			if tbf, ok := q.(*netlink.Tbf); ok && tbf.Parent == tcRoot {
				return Limit{tbf.Rate, tbf.Limit, tbf.Buffer}, nil
			}
		}
	}
	return Limit{}, nil
}

func device(index int) netlink.Link {
	return &netlink.GenericLink{LinkAttrs: netlink.LinkAttrs{Index: index}}
}

// redirect is the interface that a filter hands packets to, 0 for none.
func redirect(f netlink.Filter) int {
	var actions []netlink.Action
	switch f := f.(type) {
	case *netlink.U32:
		actions = f.Actions
	case *netlink.MatchAll:
		actions = f.Actions
	case *netlink.Flower:
		actions = f.Actions
	}
	i := slices.IndexFunc(actions, func(a netlink.Action) bool {
		m, ok := a.(*netlink.MirredAction)
		return ok && m.MirredAction == netlink.TCA_EGRESS_REDIR
	})
	if i < 0 {
		return 0
	}
	return actions[i].(*netlink.MirredAction).Ifindex
}

// SetLimit limits what a container sends by the root qdisc of its own end, in place of a
// limit that was set before. The zero Limit is none. Another root qdisc stays, and is an
// error.
func (h *Host) SetLimit(ns *Netns, ifname string, l Limit) error {
	in, err := ns.dial()
	if err != nil {
		return err
	}
	link, err := in.link(ifname, 0)
	if err != nil {
		return err
	}
	there, err := in.qdiscs(link.Index)
	if err != nil {
		return err
	}
	for _, q := range there {
		if q.index == link.Index && q.parent == tcRoot && q.kind != "noqueue" && q.handle != limitHandle {
			return fmt.Errorf("%s has a root qdisc already, %s", ifname, q.kind)
		}
	}
	handle, err := netlink.NewHandleAt(netns.NsHandle(ns.fd), unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	defer handle.Close()
	tbf := &netlink.Tbf{
		QdiscAttrs: netlink.QdiscAttrs{LinkIndex: link.Index, Handle: limitHandle, Parent: tcRoot},
		Rate:       l.Rate, Limit: l.Queue, Buffer: l.Buffer,
	}
	if l == (Limit{}) {
		if err = handle.QdiscDel(tbf); errors.Is(err, unix.ENOENT) {
			err = nil
		}
	} else {
		err = handle.QdiscReplace(tbf)
	}
	if err != nil {
		return fmt.Errorf("limit of %s: %w", ifname, err)
	}
	return nil
}
