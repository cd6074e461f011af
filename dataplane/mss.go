package dataplane

import "github.com/vswitch/vswitch/dataplane/header"

// maxSegment is the limit for the maximum segment size that a SYN on its way
// may announce, 0 for none.
func (r *routed) maxSegment() uint16 {
	n, u := r.in.network, r.in.uplink
	if r.route.network != nil {
		n = r.route.network
	}
	if r.route.uplink != nil {
		u = r.route.uplink
	}
	if n == nil || u == nil || n.MSSClamp < 0 || u.MSSClamp < 0 {
		return 0
	}
	limit := 0
	lower := func(to int) {
		if to > 0 && (limit == 0 || to < limit) {
			limit = to
		}
	}
	lower(int(n.MSSClamp))
	lower(int(u.MSSClamp))
	if u.MTU != 0 && u.MTU < n.MTU {
		headers := 40 // RFC 6691: without options
		if r.f.Layers.Flags&header.FlagIPv6 != 0 {
			headers = 60
		}
		lower(u.MTU - headers)
	}
	return uint16(min(limit, 0xffff))
}
