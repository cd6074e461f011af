package switchtest

import (
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/vswitch/vswitch/dataplane/bpfmap"
	"github.com/vswitch/vswitch/dataplane/flowmap"
	"github.com/vswitch/vswitch/dataplane/flowmap/flowtest"
	"github.com/vswitch/vswitch/dataplane/header"
)

// Side is the kernel's side of a switch: maps, claims, and programs that frames meet. It
// is what control/kernel has, or the model of it.
type Side interface {
	Flows() bpfmap.FlowDescriptor
	Peers() bpfmap.PeerDescriptor
	// Tally is that of an interface, nil when no program looks there.
	Tally(ifindex uint32) *flowmap.Tally
	Opened() flowmap.ClaimPlane
	Published() flowmap.ClaimPlane
	ClaimSlot(addr netip.Addr, slot int) error
	ClaimSubnet(p netip.Prefix, routed bool) error
	// SetNobody says whether somebody is there: otherwise frames meet no filter.
	SetNobody(bool)
	// Meet is that of flowtest.Kernel. ok is false where no such frame can be tried. Of
	// the programs themselves it may be called by several threads at once.
	Meet(at flowtest.At, ifindex uint32, toHost bool, frame []byte, gso uint32) (m flowtest.Met, ok bool)
}

// ModelSide is the model's.
type ModelSide struct{ *flowtest.Kernel }

// NewModelSide has room for so many rows.
func NewModelSide(rows int, clock *atomic.Int64) ModelSide {
	k := flowtest.New(rows, clock.Load)
	k.Opened, k.Published = make(flowmap.ClaimPlane, flowmap.ClaimWords), make(flowmap.ClaimPlane, flowmap.ClaimWords)
	k.Addrs, k.Peers = make(map[header.Addr]int), make(map[flowmap.PeerKey]bool)
	k.Subnets = make(map[netip.Prefix]flowmap.Subnet)
	return ModelSide{k}
}

// Opened implements Side.
func (s ModelSide) Opened() flowmap.ClaimPlane { return s.Kernel.Opened }

// Published implements Side.
func (s ModelSide) Published() flowmap.ClaimPlane { return s.Kernel.Published }

// ClaimSlot implements Side.
func (s ModelSide) ClaimSlot(addr netip.Addr, slot int) error {
	s.Addrs[header.AddrFrom(addr)] = slot
	return nil
}

// ClaimSubnet implements Side.
func (s ModelSide) ClaimSubnet(p netip.Prefix, routed bool) error {
	if s.Subnets[p] = flowmap.SubnetOurs; routed {
		s.Subnets[p] = flowmap.SubnetRouted
	}
	return nil
}

// Flows implements Side.
func (s ModelSide) Flows() bpfmap.FlowDescriptor {
	return flowtest.DescribeFlows(s.Kernel, s.Rows, s.Ends)
}

// Peers implements Side.
func (s ModelSide) Peers() bpfmap.PeerDescriptor {
	return flowtest.DescribePeers(modelPeers(s.Kernel.Peers))
}

// modelPeers are claimed peers that nobody counts. They are one switch's.
type modelPeers map[flowmap.PeerKey]bool

// Claim implements bpfmap.Peers.
func (m modelPeers) Claim(p flowmap.Peer) error {
	m[p.Key()] = true
	return nil
}

// Drop implements bpfmap.Peers.
func (m modelPeers) Drop(p flowmap.Peer) { delete(m, p.Key()) }

// Claimed implements bpfmap.Peers.
func (m modelPeers) Claimed() (all []flowmap.Peer, err error) {
	for k := range m {
		all = append(all, k.Peer())
	}
	return all, nil
}

// Strange implements bpfmap.Peers: nobody is.
func (modelPeers) Strange(flowmap.Peer) (time.Duration, bool) { return 0, false }

// Settle implements bpfmap.Peers.
func (modelPeers) Settle() {}

// Close implements bpfmap.Peers.
func (modelPeers) Close() error { return nil }

// SetNobody implements Side.
func (s ModelSide) SetNobody(is bool) { s.Nobody = is }

// Meet implements Side.
func (s ModelSide) Meet(at flowtest.At, ifindex uint32, toHost bool, frame []byte, gso uint32) (flowtest.Met, bool) {
	return s.Kernel.Meet(at, ifindex, toHost, frame, gso), true
}
