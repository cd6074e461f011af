package host

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// CheckVeth compares a cable with what AddVeth made of s, index being that of the
// host end. The error is the first difference that keeps frames from their way.
// Without a namespace the container's end is left out.
func (h *Host) CheckVeth(ns *Netns, index int, s VethSpec) error {
	outer, err := h.route.link(s.Name, 0)
	switch {
	case errors.Is(err, ErrNotFound):
		return fmt.Errorf("the host's end %s of %s has vanished", s.Name, s.Ifname)
	case err != nil:
		return err
	case outer.Index != index || outer.Alias != s.Alias:
		return fmt.Errorf("the host's end %s of %s is another interface by now", s.Name, s.Ifname)
	case !outer.Up:
		return fmt.Errorf("the host's end %s of %s is set down", s.Name, s.Ifname)
	}
	if err := h.checkSeal(index, s); err != nil || ns == nil {
		return err
	}
	in, err := ns.dial()
	if err != nil {
		return err
	}
	inner, err := in.link(s.Ifname, 0)
	switch {
	case errors.Is(err, ErrNotFound):
		return fmt.Errorf("%s is not in network namespace %s", s.Ifname, ns.path)
	case err != nil:
		return err
	case inner.Kind != "veth" || inner.peer != index || outer.peer != inner.Index:
		return fmt.Errorf("%s is another interface by now, not the end of %s", s.Ifname, s.Name)
	case !inner.Up:
		return fmt.Errorf("%s is set down", s.Ifname)
	case !bytes.Equal(inner.MAC, s.MAC):
		return fmt.Errorf("%s has MAC address %s in place of %s", s.Ifname, inner.MAC, s.MAC)
	}
	addrs, err := in.addrsOf(inner.Index)
	if err != nil {
		return err
	}
	for _, p := range s.Addrs {
		if !slices.Contains(addrs, p) {
			return fmt.Errorf("%s has lost its address %s", s.Ifname, p)
		}
	}
	for _, gw := range s.Gateways {
		if ok, err := in.hasDefault(inner.Index, gw); err != nil || !ok {
			return errors.Join(err, fmt.Errorf("%s has lost its default route via %s", s.Ifname, gw))
		}
	}
	if err := in.checkStatic(inner.Index, s.Routes); err != nil {
		return fmt.Errorf("%s %w", s.Ifname, err)
	}
	return nil
}

// checkSeal looks for the program that keeps frames from the host's stack.
func (h *Host) checkSeal(index int, s VethSpec) error {
	if s.Seal == nil {
		return nil
	}
	ok, err := s.Seal.Attached(index)
	if err == nil && !ok {
		err = fmt.Errorf("the host's end %s of %s has lost its seal: frames of the container reach the host's stack", s.Name, s.Ifname)
	}
	return err
}

// addrsOf returns the addresses of an interface with their prefix lengths.
func (c *conn) addrsOf(index int) (list []netip.Prefix, err error) {
	msgs, err := c.dump(unix.RTM_GETADDR, unix.RTM_NEWADDR, nl.NewIfAddrmsg(unix.AF_UNSPEC))
	if err != nil {
		return nil, fmt.Errorf("read the addresses: %w", err)
	}
	for _, m := range msgs {
		if a, ok := parseAddr(m); ok && a.Ifindex == index {
			list = append(list, a.Prefix)
		}
	}
	return list, nil
}

// hasDefault reports whether there is a default route through gw.
func (c *conn) hasDefault(index int, gw netip.Addr) (bool, error) {
	msgs, err := c.dump(unix.RTM_GETROUTE, unix.RTM_NEWROUTE, &nl.RtMsg{RtMsg: unix.RtMsg{Family: uint8(family(gw))}})
	if err != nil {
		return false, fmt.Errorf("read the routes: %w", err)
	}
	return slices.ContainsFunc(msgs, func(m []byte) bool {
		r, ok := parseRoute(m)
		return ok && r.rank < byRules && r.Prefix.Bits() == 0 && r.Ifindex == index && r.Via == gw
	}), nil
}
