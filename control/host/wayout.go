package host

import (
	"errors"
	"fmt"
	"hash/fnv"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// WayQuery asks for the way of a packet, as the kernel would send or forward it: with its rules
// of policy routing.
type WayQuery struct {
	Src, Dst netip.Addr
	In       int // forwarded, from this interface; 0: the host's own
	Out      int // of the host's own: by this interface alone; 0: by any
}

// WayOut returns the route that the kernel has for a packet; its Prefix is the destination. A
// kernel that would refuse the packet has an Unreachable one. Of several next hops it is one that a
// hash of source and destination chooses, by their weights.
//
// A packet of IPv4 that is forwarded has no way unless its interface forwards (IN_DEV_FORWARD).
func (h *Host) WayOut(q WayQuery) (Route, error) {
	bits := q.Dst.BitLen()
	r := Route{Prefix: netip.PrefixFrom(q.Dst, bits), Kind: Unreachable}
	req := []nl.NetlinkRequestData{
		// The route itself, not the cache entry that would be made of it, which has no source.
		&nl.RtMsg{RtMsg: unix.RtMsg{Family: uint8(family(q.Dst)), Dst_len: uint8(bits), Src_len: uint8(bits), Flags: unix.RTM_F_FIB_MATCH}},
		attrAddr(unix.RTA_DST, q.Dst), attrAddr(unix.RTA_SRC, q.Src),
	}
	switch {
	case q.In != 0:
		req = append(req, attr32(unix.RTA_IIF, uint32(q.In)))
	case q.Out != 0:
		req = append(req, attr32(unix.RTA_OIF, uint32(q.Out)))
	}
	m, err := h.route.get(unix.RTM_GETROUTE, unix.RTM_NEWROUTE, req...)
	switch {
	case errors.Is(err, unix.ENETUNREACH), errors.Is(err, unix.EHOSTUNREACH), errors.Is(err, unix.EACCES), errors.Is(err, unix.EINVAL), errors.Is(err, unix.EXDEV):
		return r, nil // none, unreachable, prohibit, blackhole, and what rp_filter refuses
	case err != nil || len(m) < unix.SizeofRtMsg:
		return r, fmt.Errorf("ask for the way from %s to %s: %w", q.Src, q.Dst, err)
	}
	switch msg := nl.DeserializeRtMsg(m); msg.Type {
	case unix.RTN_UNICAST:
		r.Kind = Unicast
	case unix.RTN_LOCAL:
		r.Kind = Local
	default:
		return r, nil
	}
	var hops []byte
	err = attrs(m, unix.SizeofRtMsg, func(typ uint16, v []byte) {
		switch typ {
		case unix.RTA_PREFSRC:
			r.Source = addrOf(v)
		case unix.RTA_MULTIPATH:
			hops = v
		default:
			r.nextHop(typ, v)
		}
	})
	if err != nil || hops != nil && !r.chooseHop(hops, &q) {
		r.Kind = Unreachable
	}
	return r, nil
}

// chooseHop takes one of the living hops of RTA_MULTIPATH, the same for the same two ends, or the
// one that a query wants.
func (r *Route) chooseHop(hops []byte, q *WayQuery) bool {
	list := slices.DeleteFunc(nextHops(hops), func(h Route) bool { return h.down || q.Out != 0 && h.Ifindex != q.Out })
	if len(list) == 0 {
		return false
	}
	sum := fnv.New32a()
	_, _ = sum.Write(append(q.Src.AsSlice(), q.Dst.AsSlice()...))
	c := list[int(sum.Sum32())%len(list)]
	r.Ifindex, r.Via = c.Ifindex, c.Via
	return true
}

// Ruled reports, of IPv4 and of IPv6, whether there are other rules of routing than the kernel
// begins with: then no table alone says where a packet goes.
func (h *Host) Ruled() (ruled [2]bool, err error) {
	for i, f := range []uint8{unix.AF_INET, unix.AF_INET6} {
		msgs, err := h.route.dump(unix.RTM_GETRULE, unix.RTM_NEWRULE, &nl.RtMsg{RtMsg: unix.RtMsg{Family: f}})
		if errors.Is(err, unix.EAFNOSUPPORT) || errors.Is(err, unix.EOPNOTSUPP) {
			continue // the kernel has none of the family
		}
		if err != nil {
			return ruled, fmt.Errorf("read the rules of routing: %w", err)
		}
		for _, m := range msgs {
			ruled[i] = ruled[i] || !firstRule(m)
		}
	}
	return ruled, nil
}

// Attributes of rules (linux/fib_rules.h).
const (
	fraPriority          = 6
	fraSuppressIfgroup   = 13
	fraSuppressPrefixlen = 14
	fraTable             = 15
	fraProtocol          = 21
)

// firstRule reports whether a rule is one of those that every namespace begins with: local before
// all, then main and default, for all packets.
func firstRule(m []byte) bool {
	if len(m) < unix.SizeofRtMsg {
		return true
	}
	msg := nl.DeserializeRtMsg(m) // a fib_rule_hdr has the same form
	priority, table, plain := uint32(0), uint32(msg.Table), msg.Dst_len == 0 && msg.Src_len == 0 && msg.Tos == 0 && msg.Flags&2 == 0
	err := attrs(m, unix.SizeofRtMsg, func(typ uint16, v []byte) {
		switch {
		case len(v) < 4 && typ != fraProtocol:
			plain = false
		case typ == fraPriority:
			priority = nl.NativeEndian().Uint32(v)
		case typ == fraTable:
			table = nl.NativeEndian().Uint32(v)
		case typ == fraSuppressPrefixlen || typ == fraSuppressIfgroup:
			plain = plain && nl.NativeEndian().Uint32(v) == ^uint32(0)
		case typ != fraProtocol:
			plain = false
		}
	})
	if err != nil || !plain || msg.Type != unix.FR_ACT_TO_TBL {
		return false
	}
	switch table {
	case unix.RT_TABLE_LOCAL:
		return priority == 0
	case unix.RT_TABLE_MAIN:
		return priority == 32766
	case unix.RT_TABLE_DEFAULT:
		return priority == 32767
	}
	return false
}
