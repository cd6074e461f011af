package host

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// StaticRoute is a route in a container's namespace, through one interface.
type StaticRoute struct {
	To     netip.Prefix
	Via    netip.Addr // next hop; invalid: on the link
	Metric int        // 0: the kernel's own
}

func (r StaticRoute) String() string {
	if r.Via.IsValid() {
		return r.To.String() + " via " + r.Via.String()
	}
	return r.To.String()
}

// addStatic adds a route. One that is there already is an error.
func (c *conn) addStatic(index int, r StaticRoute) error {
	msg := &nl.RtMsg{RtMsg: unix.RtMsg{
		Family: uint8(family(r.To.Addr())), Dst_len: uint8(r.To.Bits()), Table: unix.RT_TABLE_MAIN, Protocol: unix.RTPROT_STATIC,
		Scope: unix.RT_SCOPE_UNIVERSE, Type: unix.RTN_UNICAST,
	}}
	parts := []nl.NetlinkRequestData{msg, attrAddr(unix.RTA_DST, r.To.Addr()), attr32(unix.RTA_OIF, uint32(index))}
	if r.Via.IsValid() {
		parts = append(parts, attrAddr(unix.RTA_GATEWAY, r.Via))
	} else {
		msg.Scope = unix.RT_SCOPE_LINK
	}
	if r.Metric != 0 {
		parts = append(parts, attr32(unix.RTA_PRIORITY, uint32(r.Metric)))
	}
	return c.do(unix.RTM_NEWROUTE, unix.NLM_F_CREATE|unix.NLM_F_EXCL, parts...)
}

// checkStatic returns the first of the routes that is not there.
func (c *conn) checkStatic(index int, want []StaticRoute) error {
	for _, r := range want {
		msgs, err := c.dump(unix.RTM_GETROUTE, unix.RTM_NEWROUTE, &nl.RtMsg{RtMsg: unix.RtMsg{Family: uint8(family(r.To.Addr()))}})
		if err != nil {
			return fmt.Errorf("read the routes: %w", err)
		}
		if !slices.ContainsFunc(msgs, func(m []byte) bool {
			h, ok := parseRoute(m)
			return ok && h.rank < byRules && h.Prefix == r.To && h.Ifindex == index && h.Via == r.Via
		}) {
			return fmt.Errorf("has lost its route to %s", r)
		}
	}
	return nil
}
