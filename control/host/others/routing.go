package others

import (
	"bytes"
	"fmt"
	"net/netip"
	"strings"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Attributes of rules and routes (linux/fib_rules.h, linux/rtnetlink.h), and what a rule does.
const (
	fraDst, fraSrc, fraIifname, fraPriority, fraFwmark = 1, 2, 3, 6, 10
	fraTable, fraOifname                               = 15, 17
	ruleInvert                                         = 2 // FIB_RULE_INVERT
	rtaxMTU                                            = 2
)

// Rule is a rule of policy routing that leads some packets to a table of its own.
type Rule struct {
	Priority int
	Table    uint32
	Text     string // what it is for: "not fwmark 0xca6c"
}

// String is the rule nearly as ip rule prints it.
func (r Rule) String() string {
	return strings.TrimSpace(fmt.Sprintf("%d: %s", r.Priority, r.Text)) + fmt.Sprintf(" lookup %d", r.Table)
}

// Rules are the rules of both families that lead to a table, beside local, main and default, that
// has routes: the others change nothing.
func Rules() (rules []Rule, err error) {
	tables := make(map[uint32]bool)
	err = eachRoute(func(table uint32, _ netip.Prefix, _ int, _ map[uint16][]byte) { tables[table] = true })
	if err != nil {
		return nil, err
	}
	for _, family := range []int{unix.AF_INET, unix.AF_INET6} {
		msgs, err := dump(unix.RTM_GETRULE, unix.RTM_NEWRULE, family)
		if err != nil {
			return nil, fmt.Errorf("read the rules of routing: %w", err)
		}
		for _, m := range msgs {
			r, ok := parseRule(m)
			if ok && tables[r.Table] && r.Table != unix.RT_TABLE_LOCAL && r.Table != unix.RT_TABLE_MAIN && r.Table != unix.RT_TABLE_DEFAULT {
				rules = append(rules, r)
			}
		}
	}
	return rules, nil
}

// parseRule reads a fib_rule_hdr; ok is false for one that leads to no table.
func parseRule(m []byte) (r Rule, ok bool) {
	const header = 12
	if len(m) < header || m[7] != unix.FR_ACT_TO_TBL {
		return r, false
	}
	a, err := attrs(m[header:])
	if err != nil {
		return r, false
	}
	r.Table = uint32(m[4])
	if v := a[fraTable]; len(v) == 4 {
		r.Table = nl.NativeEndian().Uint32(v)
	}
	if v := a[fraPriority]; len(v) == 4 {
		r.Priority = int(nl.NativeEndian().Uint32(v))
	}
	var words []string
	if nl.NativeEndian().Uint32(m[8:12])&ruleInvert != 0 {
		words = append(words, "not")
	}
	for _, side := range []struct {
		word string
		attr uint16
		bits byte
	}{{"from", fraSrc, m[2]}, {"to", fraDst, m[1]}} {
		if addr, ok := netip.AddrFromSlice(a[side.attr]); ok {
			words = append(words, side.word, netip.PrefixFrom(addr, int(side.bits)).String())
		}
	}
	if v := a[fraFwmark]; len(v) == 4 {
		words = append(words, fmt.Sprintf("fwmark %#x", nl.NativeEndian().Uint32(v)))
	}
	for word, attr := range map[string]uint16{"iif": fraIifname, "oif": fraOifname} {
		if v := a[attr]; len(v) > 0 {
			words = append(words, word, string(bytes.TrimRight(v, "\x00")))
		}
	}
	if r.Text = strings.Join(words, " "); r.Text == "" {
		r.Text = "from all"
	}
	return r, true
}

// MTU is a route that takes smaller packets than its interface.
type MTU struct {
	Prefix  netip.Prefix
	Ifindex int
	MTU     int
}

// MTUs are the routes of the table main that have an MTU of their own.
func MTUs() (list []MTU, err error) {
	err = eachRoute(func(table uint32, p netip.Prefix, ifindex int, a map[uint16][]byte) {
		if table != unix.RT_TABLE_MAIN {
			return
		}
		if m, err := attrs(a[unix.RTA_METRICS]); err == nil && len(m[rtaxMTU]) == 4 {
			list = append(list, MTU{p, ifindex, int(nl.NativeEndian().Uint32(m[rtaxMTU]))})
		}
	})
	return list, err
}

// eachRoute calls fn for the routes of all tables and both families.
func eachRoute(fn func(table uint32, p netip.Prefix, ifindex int, a map[uint16][]byte)) error {
	for _, family := range []int{unix.AF_INET, unix.AF_INET6} {
		msgs, err := dump(unix.RTM_GETROUTE, unix.RTM_NEWROUTE, family)
		if err != nil {
			return fmt.Errorf("read the routes: %w", err)
		}
		for _, m := range msgs {
			if len(m) < unix.SizeofRtMsg {
				continue
			}
			a, err := attrs(m[unix.SizeofRtMsg:])
			if err != nil {
				continue
			}
			table, ifindex := uint32(m[4]), 0
			if v := a[unix.RTA_TABLE]; len(v) == 4 {
				table = nl.NativeEndian().Uint32(v)
			}
			if v := a[unix.RTA_OIF]; len(v) == 4 {
				ifindex = int(nl.NativeEndian().Uint32(v))
			}
			dst := netip.IPv4Unspecified()
			if family == unix.AF_INET6 {
				dst = netip.IPv6Unspecified()
			}
			if addr, ok := netip.AddrFromSlice(a[unix.RTA_DST]); ok {
				dst = addr
			}
			fn(table, netip.PrefixFrom(dst, int(m[1])), ifindex, a)
		}
	}
	return nil
}

// dump asks rtnetlink in the namespace of the thread.
func dump(ask, answer uint16, family int) ([][]byte, error) {
	req := nl.NewNetlinkRequest(int(ask), unix.NLM_F_DUMP)
	req.AddData(nl.NewIfInfomsg(family))
	return req.Execute(unix.NETLINK_ROUTE, answer)
}

func attrs(b []byte) (map[uint16][]byte, error) {
	list, err := nl.ParseRouteAttr(b)
	if err != nil {
		return nil, err
	}
	m := make(map[uint16][]byte, len(list))
	for _, a := range list {
		m[a.Attr.Type&nl.NLA_TYPE_MASK] = a.Value
	}
	return m, nil
}
