package observe

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/control/directory"
	"github.com/vswitch/vswitch/control/model"
	"github.com/vswitch/vswitch/dataplane/conntrack"
)

// flowFilter is which flows are wanted, and from whose side they are seen.
type flowFilter struct {
	only      *chosen // nil: all
	q         api.FlowQuery
	peer      *chosen // nil: any, or host, or by address
	peerAddrs netip.Prefix
	port      string // ":443"
}

// flowProtos are the words for protocols that a flow can have; others are numbers.
var flowProtos = []string{"tcp", "udp", "icmp", "icmpv6", "sctp"}

func (o *Observer) flowFilter(q api.FlowQuery) (f flowFilter, err error) {
	f.q = q
	if f.only, err = o.only(q.Container); err != nil {
		return f, err
	}
	states := conntrack.States()
	switch n, err := strconv.ParseUint(q.Proto, 10, 8); {
	case q.State != "" && !slices.Contains(states, q.State):
		return f, model.Invalidf("state %q: use one of %s", q.State, strings.Join(slices.Compact(slices.Sorted(slices.Values(states))), ", "))
	case q.Direction != "" && q.Direction != api.FlowIn && q.Direction != api.FlowOut:
		return f, model.Invalidf("direction %q: use in or out", q.Direction)
	case q.Proto != "" && err == nil:
		f.q.Proto = model.ProtoName(uint8(n))
	case q.Proto != "" && !slices.Contains(flowProtos, q.Proto):
		return f, model.Invalidf("protocol %q: use %s or a number", q.Proto, strings.Join(flowProtos, ", "))
	case q.Port < 0 || q.Port > 65535:
		return f, model.Invalidf("port %d: must be from 1 to 65535", q.Port)
	}
	if q.Port != 0 {
		f.port = ":" + strconv.Itoa(q.Port)
	}
	return f, f.readPeer(o)
}

// readPeer reads the other side: a container, host, an address or a prefix.
func (f *flowFilter) readPeer(o *Observer) (err error) {
	word := f.q.Peer
	if word == "" || word == directory.HostName {
		return nil
	}
	if a, err := netip.ParseAddr(word); err == nil {
		f.peerAddrs = netip.PrefixFrom(a, a.BitLen())
		return nil
	}
	if p, err := netip.ParsePrefix(word); err == nil {
		f.peerAddrs = p.Masked()
		return nil
	}
	f.peer, err = o.only(word)
	return err
}

// seen is a flow as the one sees it who was asked for, and whether it is wanted. Of all
// containers' flows the peer may be either side.
func (f *flowFilter) seen(v viewed) (api.Flow, bool) {
	switch {
	case f.only != nil && !f.only.has(v.near):
		if !f.only.has(v.far) {
			return v.Flow, false
		}
		v = v.turned()
	case f.only == nil && f.q.Peer != "" && !f.isPeer(&v):
		v = v.turned()
	}
	q := &f.q
	return v.Flow, (q.State == "" || v.State == q.State) && (q.Proto == "" || v.Proto == q.Proto) && (q.Direction == "" || v.Direction == q.Direction) &&
		(q.Peer == "" || f.isPeer(&v)) &&
		(f.port == "" || strings.HasSuffix(v.Address, f.port) || strings.HasSuffix(v.PeerAddress, f.port) || strings.HasSuffix(v.Outside, f.port))
}

func (f *flowFilter) isPeer(v *viewed) bool {
	switch {
	case f.peer != nil:
		return f.peer.has(v.far)
	case f.q.Peer == directory.HostName:
		return v.Peer == directory.HostName
	}
	if at, err := netip.ParseAddrPort(v.PeerAddress); err == nil {
		return f.peerAddrs.Contains(at.Addr().Unmap())
	}
	a, err := netip.ParseAddr(v.PeerAddress)
	return err == nil && f.peerAddrs.Contains(a.Unmap())
}

// all reports whether every flow is wanted.
func (f *flowFilter) all() bool {
	q := f.q
	q.Limit, q.Begins, q.Closed = 0, false, false
	return q == api.FlowQuery{}
}
